"""Weights onto a net: by name, whatever their age; and files that belong to another net, refused by name and shape."""

from __future__ import annotations

import builtins

import caffeport
import numpy as np
import pytest
from caffeport import CaffemodelError, CaffeportWarning, MissingDependencyError, WeightsError
from support import nets, protos

RANDOM = np.random.default_rng(0)
CONV = [RANDOM.standard_normal((4, 3, 3, 3)).astype(np.float32), np.arange(4, dtype=np.float32)]
FC = [RANDOM.standard_normal((2, 4 * 6 * 5)).astype(np.float32), np.array([1, 2], np.float32)]
TEXT = (
    nets.inputs(data=(1, 3, 6, 5))
    + nets.conv("data", "conv1", 4)
    + nets.layer("ReLU", "conv1", "conv1", name="relu1")
    + nets.inner_product("conv1", "fc", 2)
)


def stored(conv=CONV, fc=FC, *more):
    return protos.net(protos.layer("conv1", "Convolution", *conv), protos.layer("fc", "InnerProduct", *fc), *more)


def load(tmp_path, message, text=TEXT, **options):
    return nets.load(tmp_path, text, protos.write(tmp_path / "n.caffemodel", message), **options)


def assert_holds(net, **layers) -> None:
    for name, arrays in layers.items():
        blobs = net.layer(name).blobs
        assert [blob.shape for blob in blobs] == [array.shape for array in arrays]
        assert [blob.tobytes() for blob in blobs] == [array.tobytes() for array in arrays]


def test_weights_find_their_layers_by_name(tmp_path):
    extras = protos.layer("dropped", "InnerProduct", FC[0]), protos.layer("conv1_relu1_0_split", "Split")
    message = stored(CONV, FC, *extras)
    assert_holds(load(tmp_path, message), conv1=CONV, fc=FC)
    message.layer.reverse()
    for layer in message.layer:  # Caffe goes by the name alone
        layer.type = "Renamed"
    assert_holds(load(tmp_path, message), conv1=CONV, fc=FC)


def test_of_two_stored_layers_with_one_name_the_last_stays(tmp_path):
    """Caffe copies them one after the other."""
    assert_holds(load(tmp_path, stored([CONV[0] * 2, CONV[1]], FC, protos.layer("conv1", "", *CONV))), conv1=CONV)


def test_v1_weights_with_four_axes_each(tmp_path):
    def blob(array):
        sizes = (1,) * (4 - array.ndim) + array.shape
        return protos.make(
            "BlobProto", data=array.reshape(-1), **dict(zip(("num", "channels", "height", "width"), sizes, strict=True))
        )

    layers = [
        protos.make("V1LayerParameter", name="conv1", type=4, blobs=map(blob, CONV)),
        protos.make("V1LayerParameter", name="fc", type=14, blobs=map(blob, FC)),
    ]
    assert_holds(load(tmp_path, protos.make("NetParameter", layers=layers)), conv1=CONV, fc=FC)


def test_a_shared_blob_takes_the_last_copy(tmp_path):
    tied = 'param { name: "w" } param { name: "b" }'
    text = nets.inputs(data=(1, 2)) + "".join(
        nets.layer("InnerProduct", bottom, top, f"{tied} inner_product_param {{ num_output: 2 }}")
        for bottom, top in (("data", "a"), ("a", "b"))
    )
    weight, bias = np.eye(2, dtype=np.float32), np.ones(2, np.float32)
    layers = protos.layer("a", "InnerProduct", weight * 3, bias), protos.layer("b", "InnerProduct", weight, bias)
    net = load(tmp_path, protos.net(*layers), text)
    assert_holds(net, a=[weight, bias], b=[weight, bias])
    assert len(net.params) == 2


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (
            stored([CONV[0][:, :1], CONV[1]]),
            r'layer "conv1" \(Convolution\): blob 0 is 4x1x3x3 in .*n\.caffemodel, but the net needs 4x3x3x3; '
            r"these weights belong to another net, or the text was changed",
        ),
        (stored(CONV, [FC[0].T, FC[1]]), r'layer "fc" .*: blob 0 is 120x2 in .*, but the net needs 2x120;'),
        (stored(CONV, [FC[0], FC[1][:1]]), r'layer "fc" .*: blob 1 is 1 in .*, but the net needs 2;'),
        (
            stored(CONV[:1]),
            r'layer "conv1" \(Convolution\): has 2 blobs \(4x3x3x3, 4\), but .*n\.caffemodel holds 1 \(4x3x3x3\) '
            "for it; these weights belong to another net",
        ),
        (stored(CONV, []), r'layer "fc" \(InnerProduct\): has 2 blobs \(2x120, 2\), but .* holds 0 \(none\) for it'),
        (
            stored(CONV, FC, protos.layer("relu1", "PReLU", CONV[1])),
            r'layer "relu1" \(ReLU\): has 0 blobs \(none\), but .* holds 1 \(4\) for it',
        ),
        (
            protos.net(protos.layer("conv1", "Convolution", *CONV)),
            r'n\.caffemodel: lacks the weights of "fc"; Caffe would leave them at random.*allow missing weights',
        ),
        (
            protos.net(*(protos.layer(f"c{i}", "Convolution", *CONV) for i in range(5)), protos.layer("x", "ReLU")),
            r'holds no weights for any layer of this net; it has "c0", "c1", "c2" and 2 more, the net has "conv1", "f',
        ),
        (
            protos.net(protos.layer("conv1", "ReLU")),
            r"holds no weights for any layer of this net; it has none, the net",
        ),
    ],
)
def test_weights_of_another_net(tmp_path, message, problem):
    with pytest.raises(WeightsError, match=problem):
        load(tmp_path, message)


def test_missing_weights_may_be_allowed(tmp_path):
    half = protos.net(protos.layer("conv1", "Convolution", *CONV))
    with pytest.warns(CaffeportWarning, match=r'n\.caffemodel lacks "fc": initialised by their fillers'):
        net = load(tmp_path, half, allow_missing_weights=True)
    assert_holds(net, conv1=CONV)
    assert net.layer("fc").blobs[0].std() > 0.1  # the text's gaussian filler
    with pytest.warns(CaffeportWarning, match=r'lacks "fc"'):  # a new head is what training is for
        load(tmp_path, half, phase="train")
    with pytest.raises(WeightsError, match=r'lacks the weights of "fc"'):
        load(tmp_path, half, phase="train", allow_missing_weights=False)
    with pytest.raises(WeightsError, match=r"holds no weights for any layer"):  # all of them is a mistake
        load(tmp_path, protos.net(protos.layer("other", "Convolution", *CONV)), allow_missing_weights=True)


def test_a_net_without_weights_takes_any_file(tmp_path):
    text = nets.inputs(data=(1, 2)) + nets.layer("ReLU", "data", "y")
    assert load(tmp_path, stored(), text).params == []


@pytest.fixture
def hdf5(tmp_path):
    """Caffe's HDF5 weights of this net."""
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "n.caffemodel.h5"
    with h5py.File(path, "w") as file:
        for index, (conv, fc) in enumerate(zip(CONV, FC, strict=True)):
            file[f"data/conv1/{index}"] = conv
            file.create_dataset(f"data/fc/{index}", data=fc.astype(np.float64), compression="gzip")
        file.create_group("data/relu1")
    return path


def test_hdf5(tmp_path, hdf5):
    assert_holds(nets.load(tmp_path, TEXT, hdf5), conv1=CONV, fc=FC)


def test_hdf5_of_many_blobs_and_names_with_slashes(tmp_path, hdf5):
    import h5py

    arrays = [np.full(2, i, np.float32) for i in range(12)]  # "10" sorts before "2" as text
    with h5py.File(hdf5, "w") as file:
        for index, array in enumerate(arrays):
            file[f"data/inception/1x1/{index}"] = array
        file["data/scalar/0"] = np.float32(3)
    many, scalar = caffeport.formats.caffemodel.read(hdf5).layers
    assert (many.name, [blob.array()[0] for blob in many.blobs]) == ("inception/1x1", list(range(12)))
    assert (scalar.name, scalar.blobs[0].shape, scalar.blobs[0].array()) == ("scalar", (), 3)


def test_hdf5_that_is_something_else(tmp_path, hdf5):
    import h5py

    whole = hdf5.read_bytes()
    for end in (8, 100, 1000, len(whole) // 2):
        hdf5.write_bytes(whole[:end])
        with pytest.raises(CaffemodelError, match=r"is HDF5, but not Caffe's weights"):
            nets.load(tmp_path, TEXT, hdf5)
    for name, value in (("weights/conv1/0", 1), ("data", 1), ("data/conv1/kernel", 1), ("data/conv1/0", "text")):
        with h5py.File(hdf5, "w") as file:
            file[name] = value
        with pytest.raises(CaffemodelError, match=r"n\.caffemodel\.h5: is HDF5, but not Caffe's weights"):
            nets.load(tmp_path, TEXT, hdf5)
    with h5py.File(hdf5, "w") as file:
        file.create_dataset("data/conv1/0", shape=(10**6, 10**6), dtype="f4")  # nothing of it in the file
    with pytest.raises(CaffemodelError, match=r"conv1/0 declares 1000000000000 numbers, more than the file can hold"):
        nets.load(tmp_path, TEXT, hdf5)


def test_hdf5_without_h5py(tmp_path, hdf5, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "h5py":
            raise ImportError("No module named 'h5py'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingDependencyError, match=r"HDF5 weights need h5py; install it: pip install h5py"):
        nets.load(tmp_path, TEXT, hdf5)
