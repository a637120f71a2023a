"""caffeport knows every field that the C++ layers read (caffe_layers/proto/face_layers.proto), with its default."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from enum import Enum
from pathlib import Path

import pytest
from caffeport.operators import builtin

PROTO = (Path(__file__).parents[2] / "caffe_layers" / "proto" / "face_layers.proto").read_text()
FIELD = re.compile(r"^  optional (\w+) (\w+) = \d+(?: \[default = ([^\]]+)\])?;", re.MULTILINE)
MESSAGES = dict(re.findall(r"^message (\w+) \{\n(.*?)^\}", PROTO, re.MULTILINE | re.DOTALL))
IN_CAFFE_ALREADY = {
    "AccuracyParameter": "accuracy_param",
    "InnerProductParameter": "inner_product_param",
    "ParameterParameter": "parameter_param",
    "ScaleParameter": "scale_param",
    "SoftmaxParameter": "softmax_param",
}
OF_NO_EFFECT = {"NormL2Parameter", "NoiseTolerantFRParameter"}
"""A message of which nothing counts, and one with an enum of one value, which caffeport takes as it is."""

NAMES = {kind: name for kind, name, _ in FIELD.findall(MESSAGES["LayerParameter"])} | IN_CAFFE_ALREADY


def test_every_message_is_looked_at():
    assert set(MESSAGES) - {"LayerParameter"} == set(NAMES)
    assert len(NAMES) == 32


@pytest.mark.parametrize("message", sorted(set(NAMES) - OF_NO_EFFECT))
def test_every_field_is_known_with_its_default(message):
    name = NAMES[message]
    schemas = {cls.schemas[name] for cls in builtin().values() if name in cls.schemas}
    if not schemas and message == "ArcfaceParameter":
        pytest.skip("caffeport has no Arcface here")
    assert schemas
    for schema in schemas:
        check_fields(message, schema)


def check_fields(message, schema):
    known = {field.name: field for field in fields(schema)}
    for kind, name, default in FIELD.findall(MESSAGES[message]):
        assert name in known, f"{message}.{name}"
        value = known[name].default
        if kind == "FillerParameter":
            continue
        assert value is not MISSING
        if isinstance(value, Enum):
            assert value.name == (default or next(iter(type(value))).name), name
        elif default:
            given = {"true": True, "false": False}.get(default, default.strip('"'))
            assert value == (given if isinstance(value, (bool, str)) else float(given)), name
        else:
            assert value in (None, 0, 0.0), name  # None: has_...() is asked for
