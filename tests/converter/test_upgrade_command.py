"""``caffeport upgrade``: what it writes loads to the same net, and what it refuses it refuses in one line."""

from __future__ import annotations

import builtins
import contextlib
import warnings

import caffeport
import numpy as np
import pytest
from caffeport.cli.main import main
from caffeport.formats import caffemodel
from caffeport.to_caffe.old_files import upgrade_file
from support import nets, old_nets, protos

RANDOM = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parsed(path):
    net = protos.make("NetParameter")
    net.ParseFromString(path.read_bytes())
    return net


def refused(capsys, *arguments: str) -> str:
    assert main(["upgrade", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("caffeport: error: ") and err.count("\n") == 1
    return err


def assert_same_net(one: caffeport.Net, other: caffeport.Net) -> None:
    assert one.name == other.name and one.blob_shapes == other.blob_shapes
    assert [(layer.name, layer.type, layer.bottoms, layer.tops, layer.loss_weights) for layer in one.layers] == [
        (layer.name, layer.type, layer.bottoms, layer.tops, layer.loss_weights) for layer in other.layers
    ]
    assert [(p.layer, p.shape, p.lr_mult, p.decay_mult, p.data.tobytes()) for p in one.params] == [
        (p.layer, p.shape, p.lr_mult, p.decay_mult, p.data.tobytes()) for p in other.params
    ]


@pytest.mark.parametrize("text", [old_nets.V0, old_nets.V1], ids=["v0", "v1"])
def test_a_text_loads_to_the_same_net_and_its_weights_too(folder, text):
    old = nets.write(folder, old_nets.with_weights(text), "old.prototxt")
    for new in ("new.prototxt", "new.caffemodel", "new.caffemodel.h5"):
        assert main(["upgrade", "old.prototxt", new]) == 0
    nets.write(folder, old_nets.without_weights(text), "bare.prototxt")
    expected = caffeport.load(old)  # with the numbers in its text
    assert_same_net(caffeport.load("new.prototxt"), expected)
    assert_same_net(caffeport.load("bare.prototxt", "new.caffemodel"), expected)
    assert_same_net(caffeport.load("bare.prototxt", "new.caffemodel.h5"), expected)
    assert "layers {" not in (folder / "new.prototxt").read_text()
    with pytest.raises(caffeport.WeightsError, match="belong to another net"):
        nets.load(folder, nets.inputs(data=(1, 4)) + nets.inner_product("data", "ip", 3), folder / "new.caffemodel")


def v1_file(folder, **more):
    arrays = [RANDOM.standard_normal(shape).astype(np.float32) for shape in ((4, 3, 3, 3), (4,))]
    blobs = [protos.make("BlobProto", num=4, channels=3, height=3, width=3, data=arrays[0].reshape(-1))]
    blobs.append(protos.make("BlobProto", num=1, channels=1, height=1, width=4, data=arrays[1]))
    layer = protos.make("V1LayerParameter", name="c", bottom=["x"], top=["c"], blobs=blobs, blobs_lr=[1, 2], **more)
    protos.write(folder / "old.caffemodel", protos.make("NetParameter", name="n", layers=[layer], input=["x"]))
    return arrays


@pytest.mark.parametrize("number", [4, 39])
def test_v1_weights_in_binary_become_v2(folder, number):
    arrays = v1_file(folder, type=number)
    assert main(["upgrade", "old.caffemodel", "new.caffemodel"]) == 0
    net = parsed(folder / "new.caffemodel")
    assert not net.layers and not net.input and net.name == "n"
    (layer,) = [layer for layer in net.layer if layer.blobs]
    assert (layer.name, layer.type) == ("c", {4: "Convolution", 39: "Deconvolution"}[number])
    assert (list(layer.bottom), list(layer.top)) == (["x"], ["c"])
    assert [param.lr_mult for param in layer.param] == [1, 2]
    for blob, array in zip(layer.blobs, arrays, strict=True):
        assert np.float32(blob.data).tobytes() == array.tobytes()


def test_a_v1_type_of_a_fork_is_told_and_left_out(folder, capsys):
    v1_file(folder, type=77)
    assert main(["upgrade", "old.caffemodel", "new.caffemodel"]) == 0
    assert 'old.caffemodel: layer "c" has the type 77 of a fork, which is left out' in capsys.readouterr().err
    assert [layer.type for layer in caffemodel.read("new.caffemodel").layers if layer.blobs] == [""]


def test_v0_weights_in_binary_become_v2(folder):
    array = RANDOM.standard_normal(6).astype(np.float32)
    blob = protos.make("BlobProto", num=1, channels=1, height=2, width=3, data=array)
    inner = protos.make("V0LayerParameter", name="ip", type="innerproduct", num_output=2, blobs=[blob], blobs_lr=[3])
    layer = protos.make("V1LayerParameter", layer=inner, bottom=["x"], top=["y"])
    protos.write(folder / "old.caffemodel", protos.make("NetParameter", layers=[layer]))
    assert main(["upgrade", "old.caffemodel", "new.caffemodel"]) == 0
    (layer,) = parsed(folder / "new.caffemodel").layer
    assert (layer.name, layer.type, layer.inner_product_param.num_output) == ("ip", "InnerProduct", 2)
    assert layer.param[0].lr_mult == 3 and np.float32(layer.blobs[0].data).tobytes() == array.tobytes()


def test_hdf5_and_back(folder):
    arrays = v1_file(folder, type=4)
    assert main(["upgrade", "old.caffemodel", "a.h5"]) == 0
    assert main(["upgrade", "a.h5", "back.caffemodel"]) == 0
    assert main(["upgrade", "a.h5", "b.hdf5"]) == 0
    for name in ("back.caffemodel", "b.hdf5"):
        (layer,) = [layer for layer in caffemodel.read(name).layers if layer.blobs]
        assert [blob.shape for blob in layer.blobs] == [(4, 3, 3, 3), (4,)]
        assert [blob.array().tobytes() for blob in layer.blobs] == [array.tobytes() for array in arrays]


@pytest.mark.parametrize(
    ("kind", "stored", "shapes"),
    [
        ("InnerProduct", [(1, 1, 1, 5), (1, 1, 1, 1)], [(1, 5), (1,)]),
        ("Convolution", [(1, 1, 3, 3), (1, 1, 1, 1)], [(1, 1, 3, 3), (1,)]),
        ("BN", [(1, 6, 1, 1), (1, 6, 1, 1)], [(1, 6, 1, 1), (6, 1, 1)]),
        ("PReLU", [(1, 1, 1, 6)], [(6,)]),
    ],
)
def test_blobs_with_four_axes_get_those_of_today_in_hdf5(folder, kind, stored, shapes):
    import h5py

    types = {"InnerProduct": 14, "Convolution": 4}
    blobs = [
        protos.make("BlobProto", num=n, channels=c, height=h, width=w, data=np.zeros(n * c * h * w))
        for n, c, h, w in stored
    ]
    if kind in types:
        layer = protos.make("V1LayerParameter", name="x", type=types[kind], blobs=blobs)
        protos.write(folder / "old.caffemodel", protos.make("NetParameter", layers=[layer]))
    else:
        layer = protos.make("LayerParameter", name="x", type=kind, blobs=blobs)
        protos.write(folder / "old.caffemodel", protos.make("NetParameter", layer=[layer]))
    assert main(["upgrade", "old.caffemodel", "new.h5"]) == 0
    with h5py.File("new.h5") as file:
        assert [file[f"data/x/{index}"].shape for index in range(len(stored))] == shapes


def test_v2_fields_of_a_fork_stay_as_they_are(folder, capsys):
    """Numbers that caffe.proto does not have, in a layer and in a message of it, behind the blobs too."""
    from caffeport.formats import wire

    fork = wire.delimited(1, b"n") + wire.delimited(2, b"NewType") + wire.delimited(9001, b"\1\2") + wire.varint(72) * 2
    layer = fork + wire.delimited(7, wire.header(5, 8) + np.float32([1, 2]).tobytes())
    raw = wire.delimited(1, b"net") + wire.delimited(100, layer)
    (folder / "old.caffemodel").write_bytes(raw)
    assert main(["upgrade", "old.caffemodel", "new.caffemodel"]) == 0
    made = caffemodel.read("new.caffemodel").layers[0]
    assert made.type == "NewType" and made.blobs[0].array().tolist() == [1, 2]
    assert wire.delimited(9001, b"\1\2") in (folder / "new.caffemodel").read_bytes()


def test_fields_of_forks_in_text_weights_are_told_and_left_out(folder, capsys):
    text = """layer { name: "x" type: "Scale" scale_param { novel: 3 } fork_param { a: 1 }
              blobs { shape { dim: 2 } data: 1 data: 2 } }"""
    nets.write(folder, text, "old.prototxt")
    assert main(["upgrade", "old.prototxt", "new.caffemodel"]) == 0
    assert 'left out "fork_param", "novel", which caffe.proto has no number for' in capsys.readouterr().err
    assert caffemodel.read("new.caffemodel").layers[0].blobs[0].array().tolist() == [1, 2]


def test_many_numbers_are_read_at_once_as_the_parser_reads_them(folder):
    values = RANDOM.standard_normal(1000) * 10.0 ** RANDOM.integers(-40, 38, 1000)
    written = [repr(float(value)) for value in values] + ["inf", "-inf", "nan", "1f", "-2.5F", "3.", ".5", "7"]
    for count in (1008, 12):  # a run, and too few for one
        text = "\n".join(f"  data: {value}" for value in written[-count:])
        blob = f"blobs {{ shape {{ dim: {count} }} {text} }}"
        nets.write(folder, f'layer {{ name: "x" type: "Scale" {blob} }}', "old.prototxt")
        assert main(["upgrade", "old.prototxt", "new.caffemodel"]) == 0
        with np.errstate(over="ignore"):
            plain = [value if "n" in value else value.rstrip("fF") for value in written[-count:]]
            expected = np.array([float(value) for value in plain]).astype(np.float32)
        assert caffemodel.read("new.caffemodel").layers[0].blobs[0].array().tobytes() == expected.tobytes()


def test_what_is_wrong_behind_many_numbers_is_told_with_its_line(folder, capsys):
    text = 'layer { name: "x"\n blobs {\n' + "data: 1\n" * 40 + "} top: }"
    nets.write(folder, text, "old.prototxt")
    assert "old.prototxt:43:" in refused(capsys, "old.prototxt", "new.caffemodel")


def test_solvers(folder, capsys):
    nets.write(folder, old_nets.SOLVER, "old.prototxt")
    assert main(["upgrade", "old.prototxt", "new.prototxt"]) == 0
    new = caffeport.read_prototxt("new.prototxt")
    assert new.text("type") == "AdaGrad" and not new.has("solver_type") and new.texts("stepvalue") == ["100", "200"]
    for value, problem in (
        ("ADAGRADE", 'old.prototxt:4:1: unknown solver_type ADAGRADE (did you mean "ADAGRAD"?)'),
        ("9", "unknown solver_type 9"),
        ('SGD type: "SGD"', 'old.prototxt:4:1: give either "solver_type" or "type", not both'),
    ):
        nets.write(folder, old_nets.SOLVER.replace("ADAGRAD", value), "old.prototxt")
        assert problem in refused(capsys, "old.prototxt", "other.prototxt")
    held = 'train_net_param { layers { name: "r" type: RELU bottom: "x" top: "y" } }'
    nets.write(folder, held + " solver_type: 5", "s.txt")
    assert main(["upgrade", "s.txt", "t.txt"]) == 0
    assert 'type: "ReLU"' in (folder / "t.txt").read_text() and 'type: "Adam"' in (folder / "t.txt").read_text()


def test_what_is_of_today_is_written_as_it_is_and_told(folder, capsys):
    net = nets.load(folder, nets.SMALL)
    net.save("old.caffemodel")
    for old, new in (("net.prototxt", "new.prototxt"), ("old.caffemodel", "new.caffemodel")):
        assert main(["upgrade", old, new]) == 0
        assert f"note: {old}: is in today's form already" in capsys.readouterr().err
    assert (folder / "new.caffemodel").read_bytes() == (folder / "old.caffemodel").read_bytes()
    assert_same_net(caffeport.load("new.prototxt", "new.caffemodel"), caffeport.load("net.prototxt", "old.caffemodel"))
    assert main(["upgrade", "net.prototxt", "again.prototxt", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


def test_what_cannot_be_upgraded_leaves_the_target_as_it_was(folder, capsys):
    nets.write(folder, old_nets.without_weights(old_nets.V1), "net.prototxt")
    v1_file(folder, type=4)
    (folder / "target").write_text("kept")
    (folder / "target.caffemodel").write_text("kept")
    (folder / "target.prototxt").write_text("kept")
    (folder / "link.prototxt").symlink_to("net.prototxt")
    damaged = (folder / "old.caffemodel").read_bytes()[:-10]
    (folder / "damaged.caffemodel").write_bytes(damaged)
    wrong = 'layer { name: "x" blobs { shape { dim: 3 } data: 1 } }'
    nets.write(folder, wrong, "wrong.prototxt")
    nets.write(folder, wrong.replace("data: 1", 'data: "one"'), "word.prototxt")
    for old, new, problem in (
        ("net.prototxt", "net.prototxt", "net.prototxt: would overwrite what is upgraded; choose another name"),
        ("net.prototxt", "link.prototxt", "would overwrite what is upgraded"),
        ("none.prototxt", "target", "none.prototxt: No such file"),
        (".", "target", "is a folder"),
        ("net.prototxt", "target.caffemodel", "net.prototxt: holds no weights (no layer has blobs)"),
        ("old.caffemodel", "target.prototxt", "old.caffemodel holds binary weights, which become .caffemodel or .h5"),
        ("damaged.caffemodel", "target.caffemodel", "damaged.caffemodel: is "),
        ("wrong.prototxt", "target.caffemodel", 'wrong.prototxt: blob 0 of layer "x" declares the shape 3'),
        ("word.prototxt", "target.caffemodel", 'word.prototxt:1:44: "data" expects a value of the type float'),
        ("net.prototxt", "no/where.prototxt", "cannot be written"),
    ):
        assert problem in refused(capsys, old, new), old
    assert {(folder / name).read_text() for name in ("target", "target.caffemodel", "target.prototxt")} == {"kept"}
    assert not list(folder.glob(".*"))


def test_a_slash_in_a_name_is_refused_for_hdf5(folder, capsys):
    protos.write(folder / "old.caffemodel", protos.net(protos.layer("a/b", "PReLU", np.zeros(3, np.float32))))
    assert 'layer "a/b" cannot stand in HDF5 weights' in refused(capsys, "old.caffemodel", "new.h5")
    assert not (folder / "new.h5").exists()


def test_without_h5py_it_is_asked_for(folder, capsys, monkeypatch):
    v1_file(folder, type=4)
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "HDF5 weights need h5py; install it: pip install" in refused(capsys, "old.caffemodel", "new.h5")
    assert not (folder / "new.h5").exists()


def test_names_of_any_bytes_go_through(folder):
    raw = protos.net(protos.layer("x", "PReLU", np.zeros(3, np.float32))).SerializeToString()
    (folder / "old.caffemodel").write_bytes(raw.replace(b"\n\1x", b"\n\1\xe9"))
    assert main(["upgrade", "old.caffemodel", "new.caffemodel"]) == 0
    assert (folder / "new.caffemodel").read_bytes() == (folder / "old.caffemodel").read_bytes()


@pytest.mark.slow
def test_mutated_files_are_refused_or_upgraded(folder):
    """Of any bytes comes a file that can be read, or a CaffeportError; nothing else, and nothing is left behind."""
    import random

    v1_file(folder, type=4)
    sources = [(folder / "old.caffemodel").read_bytes()]
    sources += [old_nets.with_weights(text).encode() for text in (old_nets.V0, old_nets.V1)]
    sources += [old_nets.SOLVER.encode(), old_nets.V0_DATA.encode()]
    chance = random.Random(1)
    odd = (b"\xff" * 9 + b"\1", b"9" * 30, b"{", b"}", b'"', b"-", b"nan", b" data: x", b"")
    for number in range(300):
        raw = bytearray(sources[number % len(sources)])
        for _ in range(chance.choice((1, 2, 4))):
            at = chance.randrange(len(raw))
            raw[at : at + 1] = chance.choice((bytes([chance.randrange(256)]), *odd))
        (folder / "mutated").write_bytes(raw)
        with contextlib.suppress(caffeport.CaffeportError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            upgrade_file(
                folder / "mutated", folder / chance.choice(("new.caffemodel", "new.h5", "new.prototxt", "new"))
            )
    assert not list(folder.glob(".*"))
