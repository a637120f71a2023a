"""Weights files in all their ages, encoded by Google's protobuf; what is written, read back by it."""

from __future__ import annotations

import random
import resource
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from caffeport import CaffemodelError
from caffeport.formats import caffemodel, wire
from support import protos

RANDOM = np.random.default_rng(0)
WEIGHT = RANDOM.standard_normal((3, 2, 5, 5)).astype(np.float32)
BIAS = np.array([0.0, -1.5, np.float32(1e-40)], np.float32)  # a zero, a subnormal


def read(tmp_path: Path, message) -> caffemodel.Caffemodel:
    return caffemodel.read(protos.write(tmp_path / "n.caffemodel", message))


def assert_blob(blob: caffemodel.Blob, expected: np.ndarray) -> None:
    array = blob.array()
    assert (array.dtype, array.shape) == (np.float32, expected.shape)
    assert array.tobytes() == expected.astype(np.float32).tobytes()
    assert not array.flags.writeable


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "unpacked"])
def test_v2(tmp_path, packed):
    scalar = np.array(3.25, np.float32)
    layers = [
        protos.layer("conv1", "Convolution", WEIGHT, BIAS, packed=packed, bottom=["data"], top=["conv1"]),
        protos.layer("relu1", "ReLU", packed=packed),
        protos.layer("scale", "Scale", scalar, packed=packed),
    ]
    model = read(tmp_path, protos.net(*layers, packed=packed, name="small"))
    assert (model.name, [layer.name for layer in model.layers]) == ("small", ["conv1", "relu1", "scale"])
    assert [layer.type for layer in model.layers] == ["Convolution", "ReLU", "Scale"]
    conv, relu, scale = (layer.blobs for layer in model.layers)
    assert (len(conv), len(relu), len(scale)) == (2, 0, 1)
    assert_blob(conv[0], WEIGHT)
    assert_blob(conv[1], BIAS)
    assert_blob(scale[0], scalar)


def test_a_0_d_blob_has_no_shape_in_the_file(tmp_path):
    blob = protos.make("BlobProto", data=[2.5])
    model = read(tmp_path, protos.net(protos.make("LayerParameter", name="s", type="Scale", blobs=[blob])))
    assert_blob(model.layers[0].blobs[0], np.array(2.5))


def test_packed_numbers_are_not_copied(tmp_path):
    blob = read(tmp_path, protos.net(protos.layer("a", "InnerProduct", WEIGHT))).layers[0].blobs[0]
    assert not blob.array().flags.owndata
    assert np.shares_memory(blob.array(), blob.array())


V1 = {"Convolution": 4, "InnerProduct": 14, "SoftmaxWithLoss": 21, "Deconvolution": 39, "": 99}


@pytest.mark.parametrize(("kind", "number"), V1.items(), ids=V1)
def test_v1(tmp_path, kind, number):
    blob = protos.make("BlobProto", num=3, channels=2, height=5, width=5, data=WEIGHT.reshape(-1).tolist())
    layer = protos.make(
        "V1LayerParameter", name="a", type=number, blobs=[blob], blobs_lr=[1, 2], param=["w"], bottom=["x"], top=["y"]
    )
    (found,) = read(tmp_path, protos.make("NetParameter", name="v1", layers=[layer])).layers
    assert (found.name, found.type) == ("a", kind)
    assert found.blobs[0].legacy
    assert_blob(found.blobs[0], WEIGHT)


V0 = {"conv": "Convolution", "innerproduct": "InnerProduct", "images": "ImageData", "padding": ""}


@pytest.mark.parametrize(("kind", "v2"), V0.items(), ids=V0)
def test_v0(tmp_path, kind, v2):
    blobs = [protos.make("BlobProto", num=1, channels=1, height=1, width=3, data=BIAS.tolist())]
    inner = protos.make("V0LayerParameter", name="a", type=kind, num_output=3, blobs=blobs, blobs_lr=[1])
    layer = protos.make("V1LayerParameter", layer=inner, bottom=["x"], top=["y"])
    (found,) = read(tmp_path, protos.make("NetParameter", layers=[layer])).layers
    assert (found.name, found.type) == ("a", v2)
    assert_blob(found.blobs[0], BIAS.reshape(1, 1, 1, 3))


@pytest.mark.parametrize(
    ("legacy", "shape", "fits"),
    [
        ((1, 1, 1, 3), (3,), True),  # a bias as V0 and V1 wrote it
        ((1, 1, 1, 3), (1, 3), True),
        ((1, 1, 1, 3), (1, 1, 1, 3), True),
        ((1, 1, 1, 3), (3, 1), False),
        ((1, 1, 1, 3), (1, 1, 1, 1, 3), True),
        ((1, 1, 1, 1), (), True),
        ((1, 1, 2, 3), (2, 3), True),
        ((1, 1, 2, 3), (3, 2), False),
        ((3, 1, 1, 1), (3,), True),
        ((3, 1, 1, 1), (1, 3, 1, 1), False),
    ],
)
def test_shapes_compare_without_the_ones_around_them(tmp_path, legacy, shape, fits):
    sizes = dict(zip(("num", "channels", "height", "width"), legacy, strict=True))
    blob = protos.make("BlobProto", data=[0] * int(np.prod(legacy)), **sizes)
    found = read(tmp_path, protos.net(protos.make("LayerParameter", blobs=[blob]))).layers[0].blobs[0]
    assert found.fits(shape) is fits
    modern = protos.blob(np.zeros(legacy))
    found = read(tmp_path, protos.net(protos.make("LayerParameter", blobs=[modern]))).layers[0].blobs[0]
    assert found.fits(shape) is fits


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "unpacked"])
def test_double_data_wins(tmp_path, packed):
    shape = protos.make("BlobShape", packed, dim=[2, 2])
    doubles = [0.1, -1e300, 3.0, 1e-300]
    blob = protos.make("BlobProto", packed, shape=shape, data=[9, 9, 9, 9], double_data=doubles)
    layer = protos.make("LayerParameter", packed, name="a", blobs=[blob])
    with np.errstate(over="ignore"):
        expected = np.array(doubles).astype(np.float32).reshape(2, 2)
        assert_blob(read(tmp_path, protos.net(layer, packed=packed)).layers[0].blobs[0], expected)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "unpacked"])
def test_gradients_are_not_weights(tmp_path, packed):
    shape = protos.make("BlobShape", packed, dim=[3])
    blob = protos.make("BlobProto", packed, shape=shape, data=BIAS, diff=[7, 8, 9, 10], double_diff=[1, 2])
    layer = protos.make("LayerParameter", packed, name="a", blobs=[blob])
    assert_blob(read(tmp_path, protos.net(layer, packed=packed)).layers[0].blobs[0], BIAS)


@pytest.mark.parametrize(("kind", "dtype"), [(0, "<f8"), (1, "<f4"), (2, "<f2")], ids=["double", "float", "half"])
def test_nvcaffe_raw_data(tmp_path, kind, dtype):
    numbers = np.array([[0.5, -2, 1e-3], [65504, 0, -0.0]], dtype)
    shape = protos.make("BlobShape", dim=[2, 3])
    blob = protos.make("BlobProto", shape=shape, raw_data_type=kind, raw_data=numbers.tobytes())
    model = read(tmp_path, protos.net(protos.make("LayerParameter", name="a", blobs=[blob])))
    assert_blob(model.layers[0].blobs[0], numbers)


def test_chunks_packed_and_unpacked_in_one_blob(tmp_path):
    numbers = np.arange(1000, dtype=np.float32)
    parts = np.split(numbers, [1, 2, 5, 300, 301, 302, 303, 900])
    encoded = [
        protos.make("BlobProto", packed, data=part.tolist()).SerializeToString()
        for part, packed in zip(parts, [True, False, False, True, False, True, False, False, True], strict=True)
    ]
    encoded.insert(4, wire.delimited(999, b"what a fork adds") + b"\xf8\x3e\x07")  # 999: bytes and a varint
    body = (
        b"".join(encoded) + protos.make("BlobProto", shape=protos.make("BlobShape", dim=[10, 100])).SerializeToString()
    )
    assert protos.make("BlobProto").FromString(body).data == numbers.tolist()
    path = tmp_path / "n.caffemodel"
    path.write_bytes(wire.delimited(100, wire.delimited(1, b"a") + wire.delimited(7, body)))
    assert_blob(caffemodel.read(path).layers[0].blobs[0], numbers.reshape(10, 100))


def test_unknown_fields_are_passed_over(tmp_path):
    strange = wire.delimited(147, b"\xff" * 9) + b"\xb8\x3e\x01" + b"\xbd\x3e1234" + b"\xb9\x3e12345678"
    layer = protos.layer("a", "Swish", BIAS).SerializeToString()
    path = tmp_path / "n.caffemodel"
    path.write_bytes(strange + wire.delimited(100, strange + layer + strange) + strange)
    (found,) = caffemodel.read(path).layers
    assert (found.name, found.type) == ("a", "Swish")
    assert_blob(found.blobs[0], BIAS)


def test_a_net_name_that_looks_like_text(tmp_path):
    name = "a name of thirty-two letters or more, with a printable length"
    assert read(tmp_path, protos.net(protos.layer("a", "ReLU"), name=name)).name == name


def test_written_files(tmp_path):
    path = tmp_path / "n.caffemodel"
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32)
    arrays = [WEIGHT, BIAS, np.array(2.5, np.float32), odd, WEIGHT[:, :, ::2, ::-1], np.zeros((0, 3), np.float32)]
    caffemodel.write(path, "nét", [("a", "Foo", ["x", "y"], ["z"], arrays), ("b", "Bar", [], ["w"], [])])
    net = protos.make("NetParameter").FromString(path.read_bytes())
    assert net.name == "nét" and [(layer.name, layer.type) for layer in net.layer] == [("a", "Foo"), ("b", "Bar")]
    assert list(net.layer[0].bottom) == ["x", "y"] and list(net.layer[1].top) == ["w"]
    for blob, array in zip(net.layer[0].blobs, arrays, strict=True):
        assert tuple(blob.shape.dim) == array.shape
        assert np.array(blob.data, np.float32).tobytes() == array.tobytes()
    for blob, array in zip(caffemodel.read(path).layers[0].blobs, arrays, strict=True):
        assert_blob(blob, array)


def test_more_than_two_gigabytes(tmp_path):
    count = 550_000_000  # 2.2 GB, nearly all of it a hole in the file
    body = wire.delimited(7, wire.delimited(1, wire.varint(count))) + wire.header(5, 4 * count)
    blob = wire.header(7, len(body) + 4 * count) + body
    layer = wire.delimited(1, b"fc6") + wire.delimited(2, b"InnerProduct") + blob
    path = tmp_path / "n.caffemodel"
    with open(path, "wb") as stream:
        stream.write(wire.delimited(1, b"big") + wire.header(100, len(layer) + 4 * count) + layer)
        stream.seek(4 * (count - 1), 1)
        stream.write(np.float32(1.5).tobytes())
        stream.write(protos.net(protos.layer("fc7", "InnerProduct", BIAS)).SerializeToString())
    if path.stat().st_blocks * 512 > 1 << 20:
        pytest.skip("this file system has no sparse files")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    big, small = caffemodel.read(path).layers
    assert (big.blobs[0].shape, float(big.blobs[0].array()[-1])) == ((count,), 1.5)
    assert_blob(small.blobs[0], BIAS)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


@pytest.mark.slow
def test_many_short_runs_take_linear_time(tmp_path):
    """Numbers unpacked by turns with something else; looking at all the rest every time would take minutes."""
    body = (b"\x2d\0\0\x80\x3f" + b"\xf8\x3e\x07") * 90_000
    path = tmp_path / "n.caffemodel"
    path.write_bytes(wire.delimited(100, wire.delimited(7, body)))
    start = time.process_time()
    assert_blob(caffemodel.read(path).layers[0].blobs[0], np.ones(90_000, np.float32))
    assert time.process_time() - start < 10


@pytest.mark.parametrize(
    ("head", "piece", "wrap"),
    [
        ("fields", b"\x48\x01", lambda raw: raw),
        ("layers", wire.delimited(100, b""), lambda raw: raw),
        ("blobs", wire.delimited(7, b""), lambda raw: wire.delimited(100, raw)),
        ("old shapes", b"\x08\x01", lambda raw: wire.delimited(100, wire.delimited(7, raw))),
        ("shapes", wire.delimited(7, b""), lambda raw: wire.delimited(100, wire.delimited(7, raw))),
        ("runs", wire.delimited(5, bytes(4)), lambda raw: wire.delimited(100, wire.delimited(7, raw))),
    ],
)
def test_more_fields_than_any_net_has_are_refused(tmp_path, head, piece, wrap):
    path = tmp_path / "n.caffemodel"
    path.write_bytes(wrap(piece * (wire.MOST_FIELDS + 1)))
    with pytest.raises(CaffemodelError, match=f"n.caffemodel: .*more than {wire.MOST_FIELDS} fields"):
        caffemodel.read(path)


def encoded(**fields) -> bytes:
    """Encode a small net of every age and coding."""
    shape = protos.make("BlobShape", dim=[1, 3])
    doubles = protos.make("BlobProto", shape=shape, double_data=[1, 2, 3])
    half = protos.make("BlobProto", shape=shape, raw_data_type=2, raw_data=b"123456")
    legacy = protos.make("BlobProto", num=1, channels=1, height=1, width=3, data=BIAS)
    v0 = protos.make("V0LayerParameter", name="v0", type="conv", blobs=[legacy])
    old = [
        protos.make("V1LayerParameter", name="v1", type=4, blobs=[legacy]),
        protos.make("V1LayerParameter", layer=v0),
    ]
    new = [protos.layer("a", "Foo", BIAS), protos.make("LayerParameter", name="b", blobs=[doubles, half])]
    unpacked = protos.net(protos.layer("c", "Bar", BIAS, np.float32(1), packed=False), packed=False)
    net = protos.net(*new, name="net", layers=old, **fields)
    return net.SerializeToString() + unpacked.SerializeToString()


def opens(path: Path, data: bytes) -> int:
    """Return the number of layers, every blob of which can be read; 0 where the file is refused."""
    path.write_bytes(data)
    try:
        model = caffemodel.read(path)
    except CaffemodelError as error:
        assert str(error).startswith(f"{path}: ")
        return 0
    for blob in [blob for layer in model.layers for blob in layer.blobs]:
        assert blob.array().shape == blob.shape
    return len(model.layers)


def test_cut_off_at_every_byte(tmp_path):
    data = encoded()
    found = [opens(tmp_path / "n.caffemodel", data[:end]) for end in range(len(data) + 1)]
    # A whole number of layers cannot be told from a smaller net; anything else is refused.
    assert [count for count in found if count] == [1, 2, 3, 4, 5]
    assert found[-1] == 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("seed", range(3))
def test_random_damage(tmp_path, seed):
    random_, data = random.Random(seed), encoded()
    tracemalloc.start()
    refused = 0
    for _ in range(1000):
        damaged = bytearray(data)
        for _ in range(random_.choice([1, 1, 2, 8])):
            damaged[random_.randrange(len(data))] = random_.choice([random_.randrange(256), 0x7F, 0x80, 0xFF])
        if random_.random() < 0.2:
            at = random_.randrange(len(data))
            damaged[at : at + random_.randrange(3)] = random_.randbytes(random_.randrange(12))
        refused += not opens(tmp_path / "n.caffemodel", bytes(damaged))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 100 < refused < 1000
    assert peak < 8 << 20
