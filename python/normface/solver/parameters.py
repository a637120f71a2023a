"""The text of a solver: reading it, and refusing settings that no solver can run with."""

from __future__ import annotations

import os
from dataclasses import field
from pathlib import Path

from caffeport import Message, PrototxtError, read_prototxt
from caffeport.errors import did_you_mean
from caffeport.formats.schema import decode, field_types, schema

from ..errors import TrainingError
from .fields import TYPES, SolverParameter
from .policies import POLICIES

_NETS = ("net", "net_param", "train_net", "train_net_param")
_INLINE_NETS = ("net_param", "train_net_param", "test_net_param")


@schema
class SolverText:
    """A solver file: its fields, and the nets that it holds inline."""

    path: Path
    fields: SolverParameter
    net_param: Message | None = None
    train_net_param: Message | None = None
    test_net_param: list[Message] = field(default_factory=list)


def read(path: str | Path, *, own_net: bool = False) -> SolverText:
    """Read and check a solver file.

    own_net: the net comes from elsewhere, so the text need not name one.

    Raises PrototxtError with file:line:column for what is no solver text, TrainingError for settings that no
    solver can run with. Where Caffe 1.0 stops with a failed check, this stops too. What it runs with to numbers that
    mean something is taken, also where only later versions check it (a negative gamma of sigmoid, which they
    refuse, is what lets the rate fall).
    """
    message = read_prototxt(path)
    inline: dict[str, list[Message]] = {name: [] for name in _INLINE_NETS}
    known = field_types(SolverParameter)
    for entry in message.fields:
        if entry.name in inline:
            if not isinstance(entry.value, Message):
                raise PrototxtError(f'{message.where(entry)}: "{entry.name}" expects a message {{ ... }}')
            inline[entry.name].append(entry.value)
        elif entry.name in ("layer", "layers"):
            where = message.where(entry)
            raise PrototxtError(f'{where}: "{entry.name}" belongs to a net; expected the text of a solver')
        elif entry.name not in known:
            near = did_you_mean(entry.name, [*known, *inline])
            raise PrototxtError(f'{message.where(entry)}: a solver has no field "{entry.name}"{near}')
    own = Message([entry for entry in message.fields if entry.name not in inline], message.source)
    text = SolverText(Path(path), decode(own, SolverParameter, title="a solver"))
    for name in ("net_param", "train_net_param"):
        if len(inline[name]) > 1:
            raise PrototxtError(f'{path}: "{name}" is given twice')
    text.net_param = next(iter(inline["net_param"]), None)
    text.train_net_param = next(iter(inline["train_net_param"]), None)
    text.test_net_param = inline["test_net_param"]
    _check_nets(text, message, own_net)
    _settle_type(text)
    _settle_prefix(text)
    _check_numbers(text, message)
    return text


def _check_nets(text: SolverText, message: Message, own_net: bool) -> None:
    fields = text.fields
    given = [name for name in _NETS if message.has(name)]
    if len(given) != 1 and not own_net:
        names = " and ".join(given) or "none"
        raise TrainingError(f"{text.path}: expected one of {', '.join(_NETS)}, got {names}")
    named = len(fields.test_net) + len(text.test_net_param)
    generic = own_net or bool(fields.net) or text.net_param is not None
    if len(fields.test_iter) < named or (not generic and len(fields.test_iter) != named):
        expected = f"{named} or more" if generic else str(named)
        raise TrainingError(
            f"{text.path}: expected a test_iter for every test net ({expected}), got {len(fields.test_iter)}"
        )
    if fields.test_state and len(fields.test_state) != len(fields.test_iter):
        raise TrainingError(
            f"{text.path}: expected no test_state or one for each of the {len(fields.test_iter)} test nets, "
            f"got {len(fields.test_state)}"
        )
    if fields.test_iter and fields.test_interval < 1:
        raise TrainingError(f"{text.path}: test_iter needs a test_interval of 1 or more, got {fields.test_interval}")


def _settle_type(text: SolverText) -> None:
    fields = text.fields
    if fields.solver_type is not None:
        if fields.type:
            raise TrainingError(f'{text.path}: give "type" or the old "solver_type", not both')
        fields.type = next(name for name in TYPES if name.upper() == fields.solver_type.name)
    fields.type = fields.type or "SGD"
    if fields.type not in TYPES:
        near = did_you_mean(fields.type, TYPES)
        raise TrainingError(f'{text.path}: unknown solver type "{fields.type}"{near}; known: {", ".join(TYPES)}')


def _settle_prefix(text: SolverText) -> None:
    """Set the prefix as Caffe does: without one the solver's own name; for a folder, that name within it."""
    fields = text.fields
    if not fields.snapshot_prefix:
        fields.snapshot_prefix = str(text.path.with_suffix(""))
    elif os.path.isdir(fields.snapshot_prefix):
        fields.snapshot_prefix = str(Path(fields.snapshot_prefix) / text.path.stem)


def _check_numbers(text: SolverText, message: Message) -> None:
    fields = text.fields

    def expect(holds: bool, what: str, value: object) -> None:
        if not holds:
            raise TrainingError(f"{text.path}: expected {what}, got {value}")

    policy = fields.lr_policy
    if policy not in POLICIES:
        near = did_you_mean(policy, POLICIES)
        raise TrainingError(f'{text.path}: unknown lr_policy "{policy}"{near}; known: {", ".join(POLICIES)}')
    if policy == "step":
        expect(fields.stepsize > 0, "a stepsize of 1 or more for lr_policy step", fields.stepsize)
    if policy in ("step", "exp", "multistep"):  # a rate that changes its sign again and again
        expect(fields.gamma >= 0, f"a gamma of 0 or more for lr_policy {policy}", fields.gamma)
    # Any number will do, but one that is not given was forgotten.
    if policy == "sigmoid":
        expect(message.has("stepsize"), "a stepsize of 1 or more for lr_policy sigmoid", "none")
    if policy == "poly":
        expect(message.has("max_iter"), "a max_iter of 1 or more for lr_policy poly", "none")
    if fields.type in ("AdaGrad", "RMSProp"):
        expect(fields.momentum == 0, f"momentum 0 for type {fields.type}, which has none", fields.momentum)
    if fields.type == "RMSProp":
        expect(0 <= fields.rms_decay < 1, "rms_decay in [0, 1)", fields.rms_decay)
    if fields.weight_decay:
        regularization = fields.regularization_type
        expect(regularization in ("L1", "L2"), 'regularization_type "L1" or "L2"', f'"{regularization}"')
    for name in ("iter_size", "average_loss"):
        expect(getattr(fields, name) >= 1, f"{name} of 1 or more", getattr(fields, name))
    # Caffe displays and writes after every iteration for -1, which whoever gives it hardly means.
    for name in ("display", "snapshot", "max_iter"):
        expect(getattr(fields, name) >= 0, f"{name} of 0 or more", getattr(fields, name))
    expect(all(count >= 0 for count in fields.test_iter), "test_iter of 0 or more", fields.test_iter)
