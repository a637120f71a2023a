"""Many Datums found side by side, against protobuf's own parser."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from normface.data.readers import datum_table
from normface.data.readers.datum_table import scan_datums

FIELDS = {"channels": 5, "height": 5, "width": 5, "data": 12, "label": 5, "float_data": 2, "encoded": 8}
"""caffe.proto's Datum, numbered from 1: descriptor.proto's numbers of int32, bytes, float and bool."""


def datum_class():
    file = descriptor_pb2.FileDescriptorProto(name="datum_of_the_test.proto", syntax="proto2")
    message = file.message_type.add(name="DatumOfTheTest")
    for number, (name, kind) in enumerate(FIELDS.items(), 1):
        repeated = name == "float_data"
        message.field.add(name=name, number=number, type=kind, label=3 if repeated else 1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("DatumOfTheTest"))


Datum = datum_class()


def some_datum(random: np.random.Generator) -> bytes:
    """Fields present or not, small and large, negative; now and then merged with another Datum or an unknown field."""
    message = Datum()
    for name in ("channels", "height", "width", "label"):
        if random.random() < 0.7:
            setattr(message, name, int(random.integers(-(2**31), 2**31) >> random.integers(0, 31)))
    if random.random() < 0.8:
        message.data = random.bytes(int(random.integers(0, 400)))
    if random.random() < 0.6:
        message.encoded = bool(random.integers(2))
    if random.random() < 0.1:
        message.float_data.extend(random.normal(size=3).tolist())
    raw = message.SerializeToString()
    kind = random.integers(8)
    if kind == 0:
        return raw + some_datum(random)  # the later fields count
    if kind == 1:
        return raw + b"\x99\x06" + bytes(8)  # field 99 of eight bytes
    if kind == 2:
        return b"\xa5\x06" + bytes(4) + raw  # field 100 of four
    return raw


def scan(messages: list[bytes]):
    """The table of messages that lie one after another, with rubbish between them."""
    data, starts = b"\xff" * 3, []
    for message in messages:
        starts.append(len(data))
        data += message + b"\xff"
    sizes = np.array([len(message) for message in messages], np.int64)
    return scan_datums(np.frombuffer(data, np.uint8), np.array(starts, np.int64), sizes), data


@pytest.mark.slow
@pytest.mark.parametrize(("at_once", "few"), [(7, 1), (65536, 1), (65536, 64), (65536, 10**6)])
def test_agrees_with_protobuf(monkeypatch, at_once, few):
    """All side by side, all one after the other, and the last few so."""
    monkeypatch.setattr(datum_table, "_AT_ONCE", at_once)
    monkeypatch.setattr(datum_table, "_FEW", few)
    random = np.random.default_rng(0)
    messages = [some_datum(random) for _ in range(600)]
    table, data = scan(messages)
    assert not table.damaged.any()
    for i, message in enumerate(messages):
        expected = Datum.FromString(message)
        assert table.labels[i] == expected.label
        assert table.shapes[i].tolist() == [expected.channels, expected.height, expected.width]
        assert data[table.starts[i] : table.starts[i] + table.sizes[i]] == expected.data
        assert table.encoded[i] == expected.encoded
        assert table.floats[i] == bool(expected.float_data)


@pytest.mark.parametrize("few", [1, 10**6])
def test_cut_and_changed_messages_are_told_as_protobuf_does(monkeypatch, few):
    monkeypatch.setattr(datum_table, "_FEW", few)
    random = np.random.default_rng(1)
    messages, whole = [], []
    while len(messages) < 1500:
        message = bytearray(some_datum(random))
        if not message:
            continue
        if random.integers(2):
            message = message[: random.integers(0, len(message))]
        else:
            message[random.integers(0, min(len(message), 12))] = random.integers(0, 256)
        try:
            Datum.FromString(bytes(message))
            whole.append(True)
        except DecodeError:
            whole.append(False)
        messages.append(bytes(message))
    table, _ = scan(messages)
    assert 300 < np.count_nonzero(whole) < 1300
    assert table.damaged[~np.array(whole)].all()
    # Protobuf passes over groups (wire types 3 and 4), which no caffe.proto has had, and here they are damage.
    assert np.count_nonzero(table.damaged[np.array(whole)]) < 15


@pytest.mark.parametrize("spoiled", [None, "cut", "long"])
def test_messages_of_one_layout(spoiled):
    """As convert_imageset writes them, numbers of one byte and of more; one that is spoiled leaves the others right."""
    random = np.random.default_rng(2)
    labels = random.integers(0, 300, 200).tolist()
    images = [random.bytes(int(random.integers(1, 300))) for _ in labels]
    messages = [
        Datum(channels=3, height=112, width=96, data=image, label=label, encoded=True).SerializeToString()
        for image, label in zip(images, labels, strict=True)
    ]
    if spoiled == "cut":
        messages[70] = messages[70][:9]
    elif spoiled == "long":
        messages[70] = messages[70][:-1] + b"\xff"
    table, data = scan(messages)
    others = [i for i in range(200) if i != 70 or not spoiled]
    assert np.flatnonzero(table.damaged).tolist() == ([70] if spoiled else [])
    assert table.labels[others].tolist() == [labels[i] for i in others]
    assert table.encoded[others].all()
    assert (table.shapes[others] == [3, 112, 96]).all()
    assert [data[table.starts[i] :][: table.sizes[i]] for i in others] == [images[i] for i in others]


def test_nothing():
    table, _ = scan([])
    assert len(table.labels) == 0
    table, _ = scan([b"", b""])
    assert (table.labels.tolist(), table.sizes.tolist(), table.damaged.tolist()) == ([0, 0], [0, 0], [False, False])
