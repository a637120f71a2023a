"""The extractor: features by hand in NumPy, preprocessing from everywhere it can come from, models of every kind."""

from __future__ import annotations

import threading
import time

import caffeport
import numpy as np
import onnx
import pytest
from normface.errors import DataError, NormfaceError
from normface.features import Extractor
from normface.features.own_preprocessing import note_in_onnx
from normface.features.pipeline import pipelined
from normface.preprocessing import Preprocessing
from support import nets
from support.linear_faces import FEATURES, HEIGHT, WIDTH, Faces, linear_faces

TOLERANCE = {"rtol": 1e-4, "atol": 1e-2}
"""float32 sums of 36 products of numbers up to 255: features are around 100, and differ in the last digits."""


def prepared(image: np.ndarray, mean=0.0, scale=1.0, rgb=False) -> np.ndarray:
    """(C, H, W) float64 of BGR pixels (H, W, C)."""
    turned = image[:, :, ::-1] if rgb else image
    return (turned.transpose(2, 0, 1).astype(np.float64) - np.reshape(mean, (-1, 1, 1))) * scale


def expected(net, images, **preprocessing) -> np.ndarray:
    return np.stack([net.feature(prepared(image, **preprocessing)) for image in images])


@pytest.fixture
def net(tmp_path):
    return linear_faces(tmp_path)


@pytest.mark.parametrize("rgb", [False, True])
@pytest.mark.parametrize("mean", [7.0, (3.0, 50.0, 120.0)])
def test_features_by_hand(net, mean, rgb):
    faces = Faces(11)  # three runs, the last one not full
    extractor = Extractor(net.prototxt, net.caffemodel, mean=mean, scale=0.5, rgb=rgb, batch_size=4)
    found = extractor.features(faces)
    assert (found.shape, found.dtype) == ((11, FEATURES), np.float32)
    assert (extractor.size, extractor.color, extractor.dimension) == ((HEIGHT, WIDTH), True, FEATURES)
    np.testing.assert_allclose(found, expected(net, faces.pixels, mean=mean, scale=0.5, rgb=rgb), **TOLERANCE)
    np.testing.assert_array_equal(extractor.features_of(faces.pixels), found)
    np.testing.assert_array_equal(extractor.features(faces, start=8), found[8:])


@pytest.mark.slow
def test_mirror_merges(net):
    faces = Faces(5)
    front = expected(net, faces.pixels)
    mirrored = expected(net, [image[:, ::-1] for image in faces.pixels])
    assert abs(front - mirrored).max() > 10
    merges = {
        "none": front,
        "sum": front + mirrored,
        "max": np.maximum(front, mirrored),
        "concat": np.concatenate([front, mirrored], axis=1),
    }
    for name, features in merges.items():
        extractor = Extractor(net.prototxt, net.caffemodel, mean=0, mirror=name)
        assert extractor.dimension == features.shape[1]
        np.testing.assert_allclose(extractor.features(faces), features, **TOLERANCE)


def test_a_deep_net_agrees_with_the_torch_module(tmp_path):
    torch = pytest.importorskip("torch")
    net = nets.load(tmp_path, nets.SMALL)
    net.save(tmp_path / "w.caffemodel")
    images = [np.random.default_rng(i).integers(0, 256, (12, 10, 3), np.uint8) for i in range(3)]
    made = Extractor(tmp_path / "net.prototxt", tmp_path / "w.caffemodel", mean=127.5, scale=1 / 128)
    inputs = np.stack([prepared(image, 127.5, 1 / 128) for image in images]).astype(np.float32)
    with torch.no_grad():
        features = net.to_torch().eval()(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(made.features_of(images), features, rtol=1e-4, atol=1e-5)


def test_a_preset_and_what_replaces_it(tmp_path):
    net = linear_faces(tmp_path, text=nets.inputs(data=(1, 3, 112, 112)) + nets.inner_product("data", "fc", 5))
    face = np.random.default_rng(0).integers(0, 256, (112, 96, 3), np.uint8)
    padded = np.zeros((112, 112, 3), np.uint8)
    padded[:, 8:104] = face
    for options, told in (
        ({}, {"mean": 127.5, "scale": 1 / 128, "rgb": True}),
        ({"rgb": False, "scale": 1 / 64}, {"mean": 127.5, "scale": 1 / 64, "rgb": False}),
    ):
        extractor = Extractor(net.prototxt, net.caffemodel, preset="mobilefacenet", **options)
        # 37,632 products in float32, of which the sum is around 40.
        np.testing.assert_allclose(extractor.features_of([face]), expected(net, [padded], **told), rtol=1e-3, atol=1e-3)


class TestTheModelsOwnPreprocessing:
    def test_of_a_transform_param(self, tmp_path):
        data = (
            'layer { name: "data" type: "Data" top: "data" top: "label" '
            "transform_param { mean_value: 1 mean_value: 2 mean_value: 3 scale: 0.25 crop_size: 4 } "
            'data_param { source: "nowhere" batch_size: 2 } }'
        )
        text = data + nets.inner_product("data", "fc", FEATURES)
        path = nets.write(tmp_path, text)
        net = caffeport.load(path, input_shapes={"data": (2, 3, 4, 4), "label": (2,)})
        net.save(tmp_path / "w.caffemodel")
        weight, bias = (np.array(param.data, np.float64) for param in net.layer("fc").params)
        extractor = Extractor(path, tmp_path / "w.caffemodel", output="fc")
        assert extractor.preprocessing == Preprocessing((1.0, 2.0, 3.0), 0.25)
        image = np.random.default_rng(0).integers(0, 256, (4, 4, 3), np.uint8)
        by_hand = weight @ prepared(image, (1, 2, 3), 0.25).reshape(-1) + bias
        np.testing.assert_allclose(extractor.features_of([image])[0], by_hand, **TOLERANCE)

    @pytest.mark.parametrize("rgb", [False, True])
    def test_of_a_model_that_takes_pixels(self, net, tmp_path, rgb):
        """caffeport convert --mean --scale --rgb: the model takes RGB then, and the net within it BGR as ever."""
        path = net.onnx(tmp_path / "f.onnx", mean=[5, 6, 7], scale=0.5, rgb=rgb)
        extractor = Extractor(path)
        assert extractor.preprocessing == Preprocessing(rgb=rgb)
        faces = Faces(3)
        by_hand = expected(net, faces.pixels, mean=(5, 6, 7), scale=0.5)
        np.testing.assert_allclose(extractor.features(faces), by_hand, **TOLERANCE)

    @pytest.mark.parametrize("reversed_inside", [False, True])
    def test_beside_a_preset_it_is_not_done_twice(self, tmp_path, reversed_inside):
        """The preset's net takes RGB; a model that reverses the channels in front of it therefore takes BGR."""
        net = linear_faces(tmp_path, text=nets.inputs(data=(1, 3, 112, 112)) + nets.inner_product("data", "fc", 5))
        path = net.onnx(tmp_path / "f.onnx", mean=127.5, scale=1 / 128, rgb=reversed_inside)
        face = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
        found = Extractor(path, preset="mobilefacenet").features_of([face])
        by_hand = expected(net, [face], mean=127.5, scale=1 / 128, rgb=True)
        np.testing.assert_allclose(found, by_hand, rtol=1e-3, atol=1e-3)

    def test_contradictions_are_refused(self, net, tmp_path):
        path = net.onnx(tmp_path / "f.onnx", mean=5, scale=0.5)
        with pytest.raises(NormfaceError, match=r"applies mean and scale itself; leave --scale out"):
            Extractor(path, scale=1)
        with pytest.raises(
            NormfaceError, match=r"mean 5 and scale 0\.5 itself, where preset normface has 128 and 0\.00"
        ):
            Extractor(path, preset="normface")

    def test_of_what_was_noted_in_the_file(self, net, tmp_path):
        path = net.onnx(tmp_path / "f.onnx")
        before = Preprocessing((9.0, 8.0, 7.0), 0.125, rgb=True, fit="pad", size=(HEIGHT, WIDTH))
        note_in_onnx(path, before)
        extractor = Extractor(path)
        assert extractor.preprocessing == before
        assert Extractor(path, rgb=False).preprocessing == before.with_options(rgb=False)
        assert Extractor(path, mean=0, scale=1).preprocessing.mean == (0.0,)
        onnx.checker.check_model(onnx.load(path))

    @pytest.mark.parametrize("text", ["{", "[]", '{"scale": "x"}', '{"mean": 3}', '{"mean": ["a"]}'])
    def test_damaged_metadata(self, net, tmp_path, text):
        path = net.onnx(tmp_path / "f.onnx")
        model = onnx.load(path)
        onnx.helper.set_model_props(model, {"caffeport.preprocessing": text})
        onnx.save(model, path)
        with pytest.raises(
            NormfaceError, match=r"f\.onnx: the entry caffeport\.preprocessing of its metadata is damaged"
        ):
            Extractor(path)

    def test_nobody_says(self, net):
        with pytest.raises(NormfaceError, match=r"does not say what its images need; give a preset .*0 and 1: pixels"):
            Extractor(net.prototxt, net.caffemodel)

    @pytest.mark.filterwarnings("ignore:.*does not say the shape:caffeport.CaffeportWarning")
    def test_a_mean_image(self, tmp_path):
        data = (
            'layer { name: "data" type: "Data" top: "data" '
            'transform_param { mean_file: "mean.binaryproto" crop_size: 4 } '
            'data_param { source: "nowhere" batch_size: 2 } }'
        )
        path = nets.write(tmp_path, data + nets.inner_product("data", "fc", FEATURES))
        caffeport.load(path, input_shapes={"data": (2, 3, 4, 4)}).save(tmp_path / "w.caffemodel")
        with pytest.raises(NormfaceError, match=r'subtracts the mean image "mean\.binaryproto"; give a preset'):
            Extractor(path, tmp_path / "w.caffemodel")


def onnx_file(path, nodes, inputs, outputs, initializers=()):
    """A model of hand-made nodes; inputs and outputs are (name, shape) or (name, shape, type)."""
    kinds = [
        [
            onnx.helper.make_tensor_value_info(name, *(kind or [onnx.TensorProto.FLOAT]), shape)
            for name, shape, *kind in one
        ]
        for one in (inputs, outputs)
    ]
    graph = onnx.helper.make_graph(nodes, "g", *kinds, list(initializers))
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


FLATTEN = onnx.helper.make_node("Flatten", ["x"], ["y"])


class TestModels:
    def test_a_fixed_batch(self, net, tmp_path):
        path = net.onnx(tmp_path / "f.onnx", dynamic_batch=False)
        faces = Faces(4)
        assert Extractor(path, mean=0).batch_size == 1  # the prototxt's
        batch_of_3 = onnx_file(tmp_path / "3.onnx", [FLATTEN], [("x", [3, 3, 4, 3])], [("y", [3, 36])])
        found = Extractor(batch_of_3, mean=0, batch_size=64).features(faces)
        np.testing.assert_array_equal(found, [prepared(image).reshape(-1) for image in faces.pixels])
        np.testing.assert_allclose(Extractor(path, mean=0).features(faces), expected(net, faces.pixels), **TOLERANCE)

    def test_half_precision(self, tmp_path):
        half = onnx.TensorProto.FLOAT16
        path = onnx_file(tmp_path / "h.onnx", [FLATTEN], [("x", ["n", 3, 4, 3], half)], [("y", ["n", 36], half)])
        faces = Faces(2)
        found = Extractor(path, mean=0).features(faces)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, [prepared(image).reshape(-1) for image in faces.pixels])

    def test_one_of_several_outputs(self, tmp_path):
        text = nets.inputs(data=(1, 3, HEIGHT, WIDTH)) + nets.inner_product("data", "fc", FEATURES)
        text += nets.inner_product("data", "other", 2)
        net = linear_faces(tmp_path, text=text)
        path = net.onnx(tmp_path / "two.onnx")
        faces = Faces(2)
        for arguments in ((net.prototxt, net.caffemodel), (path,)):
            with pytest.raises(
                NormfaceError, match=r"has the outputs fc, other; say which is the feature \(--output\)"
            ):
                Extractor(*arguments, mean=0)
            found = Extractor(*arguments, mean=0, output="fc").features(faces)
            np.testing.assert_allclose(found, expected(net, faces.pixels), **TOLERANCE)
        with pytest.raises(NormfaceError, match=r'has no output "othr" \(did you mean "other"\?\); it has fc, other'):
            Extractor(path, mean=0, output="othr")

    def test_a_blob_in_the_middle(self, tmp_path):
        """The layer behind it, which a training net has, is not even converted."""
        text = nets.inputs(data=(1, 3, HEIGHT, WIDTH)) + nets.inner_product("data", "fc", FEATURES)
        net = linear_faces(tmp_path, text=text + nets.inner_product("fc", "classes", 3))
        faces = Faces(2)
        found = Extractor(net.prototxt, net.caffemodel, mean=0, output="fc").features(faces)
        np.testing.assert_allclose(found, expected(net, faces.pixels), **TOLERANCE)
        with pytest.raises(NormfaceError, match=r'has no blob "fd" \(did you mean "fc"\?\) \(--output\)'):
            Extractor(net.prototxt, net.caffemodel, mean=0, output="fd")

    @pytest.mark.parametrize("head", ["input", "layers"])
    def test_inputs_that_the_feature_does_not_depend_on(self, tmp_path, head):
        """The net's text, caffeport's file of it, and a file of another program that has them all."""
        front = {
            "input": 'input: "mask" input_shape { dim: 2 dim: 3 dim: 9 dim: 9 } '
            f'input: "data" input_shape {{ dim: 1 dim: 3 dim: {HEIGHT} dim: {WIDTH} }} ',
            "layers": 'layer { name: "m" type: "MemoryData" top: "mask" top: "label" transform_param { scale: 9 } '
            "memory_data_param { batch_size: 2 channels: 3 height: 9 width: 9 } }"
            'layer { name: "d" type: "MemoryData" top: "data" top: "id" transform_param { mean_value: 7 scale: 0.5 } '
            f"memory_data_param {{ batch_size: 2 channels: 3 height: {HEIGHT} width: {WIDTH} }} }}",
        }[head]
        text = front + nets.inner_product("data", "fc", FEATURES) + nets.layer("ReLU", "mask", "other")
        net = linear_faces(tmp_path, text=text)
        faces = Faces(5)
        by_hand = expected(net, faces.pixels, mean=7, scale=0.5)
        own = {} if head == "layers" else {"mean": 7, "scale": 0.5}
        whole, part = net.onnx(tmp_path / "whole.onnx"), net.onnx(tmp_path / "part.onnx", outputs=["fc"])
        for model, options in (
            ((net.prototxt, net.caffemodel), own),
            ((whole,), {"mean": 7, "scale": 0.5}),
            ((part,), {"mean": 7, "scale": 0.5}),
        ):
            extractor = Extractor(*model, output="fc", batch_size=2, **options)
            np.testing.assert_allclose(extractor.features(faces), by_hand, **TOLERANCE)

    def test_an_input_that_no_node_reads(self, tmp_path):
        """Of any type; its axes may be of any size."""
        inputs = [("label", ["n"], onnx.TensorProto.INT64), ("x", ["n", 3, 4, 3]), ("z", ["n", "k", 2])]
        path = onnx_file(tmp_path / "m.onnx", [FLATTEN], inputs, [("y", ["n", 36])])
        faces = Faces(3)
        found = Extractor(path, mean=0).features(faces)
        np.testing.assert_array_equal(found, [prepared(image).reshape(-1) for image in faces.pixels])

    def test_two_inputs_that_are_read_are_refused(self, tmp_path):
        """Also where one of them is read within a branch, and by a node that stands before what it reads."""
        branch = onnx.helper.make_graph(
            [onnx.helper.make_node("Add", ["y", "extra"], ["s"])],
            "b",
            [],
            [onnx.helper.make_tensor_value_info("s", 1, None)],
        )
        other = onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["y"], ["t"])],
            "o",
            [],
            [onnx.helper.make_tensor_value_info("t", 1, None)],
        )
        node = onnx.helper.make_node("If", ["yes"], ["z"], then_branch=branch, else_branch=other)
        inputs = [("x", ["n", 3, 4, 3]), ("extra", ["n", 36]), ("yes", [], onnx.TensorProto.BOOL)]
        path = onnx_file(tmp_path / "m.onnx", [node, FLATTEN], inputs, [("z", ["n", 36])])
        with pytest.raises(NormfaceError, match=r"needs one image input .*, and has x nx3x4x3, extra nx36, yes scalar"):
            Extractor(path, mean=0)

    def test_an_input_that_is_read_for_its_shape_alone(self, tmp_path):
        crop = 'layer { name: "c" type: "Crop" bottom: "data" bottom: "like" top: "c" crop_param { axis: 2 } }'
        text = nets.inputs(data=(1, 3, 6, 6), like=(1, 7, HEIGHT, WIDTH)) + crop
        net = linear_faces(tmp_path, text=text + nets.inner_product("c", "fc", FEATURES))
        image = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
        found = Extractor(net.prototxt, net.caffemodel, mean=0, size=(6, 6)).features_of([image])
        np.testing.assert_allclose(found, expected(net, [image[:HEIGHT, :WIDTH]]), **TOLERANCE)

    def test_layers_in_place_on_the_image(self, tmp_path):
        front = nets.inputs(data=(1, 3, HEIGHT, WIDTH))
        front += nets.layer("Power", "data", "data", "power_param { shift: -3 scale: 2 }", "p")
        net = linear_faces(tmp_path, text=front + nets.inner_product("data", "fc", FEATURES))
        faces = Faces(3)
        for model in ((net.prototxt, net.caffemodel), (net.onnx(tmp_path / "f.onnx"),)):
            found = Extractor(*model, mean=0).features(faces)
            np.testing.assert_allclose(found, expected(net, faces.pixels, mean=1.5, scale=2), **TOLERANCE)

    def test_a_feature_of_the_name_of_the_input(self, tmp_path):
        """Images of one pixel, which a layer in place makes the feature."""
        text = nets.inputs(data=(1, 3, 1, 1)) + nets.layer("Power", "data", "data", "power_param { scale: 2 }", "p")
        net = nets.load(tmp_path, text + nets.inner_product("data", "fc", 4))
        net.save(tmp_path / "w.caffemodel")
        net.to_onnx(tmp_path / "f.onnx", outputs=["data", "fc"])
        images = [np.full((1, 1, 3), number, np.uint8) for number in (3, 200)]
        for model, output in (
            ((tmp_path / "net.prototxt", tmp_path / "w.caffemodel"), "data"),
            ((tmp_path / "f.onnx",), "data@p"),
        ):
            found = Extractor(*model, mean=0, output=output).features_of(images)
            np.testing.assert_array_equal(found, [[6] * 3, [400] * 3])

    def test_a_grey_net(self, tmp_path):
        net = linear_faces(tmp_path, channels=1)
        faces = Faces(3, channels=1)
        extractor = Extractor(net.prototxt, net.caffemodel, mean=20, scale=2)
        assert not extractor.color
        np.testing.assert_allclose(
            extractor.features(faces), expected(net, faces.pixels, mean=20, scale=2), **TOLERANCE
        )
        with pytest.raises(DataError, match=r"0\.png: is 4x3x3 uint8; expected HxWx1 uint8"):
            extractor.features(Faces(1))
        with pytest.raises(NormfaceError, match=r"rgb: needs a net that takes 3 channels"):
            Extractor(net.prototxt, net.caffemodel, mean=0, rgb=True)

    def test_any_size(self, tmp_path):
        path = onnx_file(
            tmp_path / "any.onnx",
            [onnx.helper.make_node("GlobalAveragePool", ["x"], ["y"])],
            [("x", ["n", 3, "h", "w"])],
            [("y", ["n", 3, 1, 1])],
        )
        with pytest.raises(NormfaceError, match=r"takes images of any size; say which \(--size HxW\)"):
            Extractor(path, mean=0)
        face = Faces(1).pixels[0]
        found = Extractor(path, mean=0, size=(HEIGHT, WIDTH)).features_of([face])
        np.testing.assert_allclose(found[0], face.reshape(-1, 3).mean(0), rtol=1e-6)
        assert Extractor(path, preset="sphereface").size == (112, 96)

    @pytest.mark.parametrize(
        ("nodes", "inputs", "outputs", "message"),
        [
            ([FLATTEN], [("x", ["n", 5, 4, 3])], [("y", ["n", 60])], r"one image input .*, and has x nx5x4x3"),
            ([FLATTEN], [("x", ["n", 12])], [("y", ["n", 12])], r"one image input .*, and has x nx12"),
            (
                [FLATTEN],
                [("x", ["n", 3, 4, 3], onnx.TensorProto.DOUBLE)],
                [("y", ["n", 36], onnx.TensorProto.DOUBLE)],
                r"its input is tensor\(double\); expected tensor\(float\) or tensor\(float16\)",
            ),
            (
                [onnx.helper.make_node("Relu", ["x"], ["y"])],
                [("x", ["n", 3, 4, 3])],
                [("y", ["n", 3, 4, 3])],
                r'its output "y" is \dx3x4x3 float32 of \d images, no feature vector each',
            ),
            (
                [onnx.helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
                [("x", ["n", 3, 4, 3])],
                [("y", [])],
                r'its output "y" is scalar float32',
            ),
            (
                [FLATTEN, onnx.helper.make_node("ArgMax", ["y"], ["z"], axis=1)],
                [("x", ["n", 3, 4, 3])],
                [("z", ["n", 1], onnx.TensorProto.INT64)],
                r'its output "z" is \dx1 int64',
            ),
        ],
    )
    def test_what_is_no_face_net(self, tmp_path, nodes, inputs, outputs, message):
        path = onnx_file(tmp_path / "m.onnx", nodes, inputs, outputs)
        with pytest.raises(NormfaceError, match=r"m\.onnx: .*" + message):
            Extractor(path, mean=0)

    @pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x08" * 99])
    def test_a_damaged_file(self, tmp_path, content, capfd):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(NormfaceError, match=r"m\.onnx: \w+( Runtime)? cannot load it: ") as caught:
            Extractor(tmp_path / "m.onnx", mean=0)
        assert "\n" not in str(caught.value)
        assert capfd.readouterr() == ("", "")

    def test_other_refusals(self, net, tmp_path):
        path = net.onnx(tmp_path / "f.onnx")
        for arguments, options, message in (
            ((tmp_path / "missing.onnx",), {}, r"missing\.onnx: no such file"),
            ((path, net.caffemodel), {}, r"holds its weights; leave .*face\.caffemodel out"),
            ((net.prototxt,), {}, r"needs its weights beside it"),
            ((path,), {"mirror": "add"}, r'mirror "add" is unknown.*known: none, sum, max, concat'),
            ((path,), {"batch_size": 0}, r"batch size 0: expected 1 or more"),
            ((path,), {"threads": -1}, r"threads -1: expected 1 or more"),
            ((path,), {"size": (9, 9)}, r"takes images of 4x3 only"),
            ((path,), {"mean": (1, 2)}, r"mean: has 2 numbers, and the net's images have 3 channels"),
            ((path,), {"device": "tpu"}, r'device "tpu" is unknown.*; known: auto, cpu, cuda'),
        ):
            with pytest.raises(NormfaceError, match=message):
                Extractor(*arguments, **({"mean": 0} | options))


class TestBadImages:
    def test_the_first_stops(self, net):
        faces = Faces(9, broken={7: DataError("7.png: is damaged"), 5: DataError("5.png: is empty")})
        with pytest.raises(DataError, match=r"5\.png: is empty"):
            Extractor(net.prototxt, net.caffemodel, mean=0, batch_size=2).features(faces)

    def test_or_is_skipped(self, net):
        faces = Faces(5, broken={0: DataError("0.png: is empty"), 3: DataError("3.png: is damaged")})
        extractor = Extractor(net.prototxt, net.caffemodel, mean=0, batch_size=3)
        fates, features = zip(*extractor.batches(faces, bad="skip"), strict=True)
        told = [fate if isinstance(fate, int) else str(fate) for one in fates for fate in one]
        assert told == ["0.png: is empty", 1, 2, "3.png: is damaged", 4]
        kept = [faces.pixels[i] for i in (1, 2, 4)]
        np.testing.assert_allclose(np.concatenate(features), expected(net, kept), **TOLERANCE)

    def test_of_another_size(self, net):
        faces = Faces(2)
        faces.pixels[1] = np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8)
        with pytest.raises(DataError, match=r"1\.png: is 4x4 \(HxW\), and the net takes 4x3"):
            Extractor(net.prototxt, net.caffemodel, mean=0).features(faces)

    def test_whose_feature_is_no_number(self, tmp_path):
        """A black image through x / |x| without an epsilon."""
        nodes = [
            FLATTEN,
            onnx.helper.make_node("ReduceL2", ["y"], ["length"], axes=[1]),
            onnx.helper.make_node("Div", ["y", "length"], ["feature"]),
        ]
        path = onnx_file(tmp_path / "unit.onnx", nodes, [("x", ["n", 3, 4, 3])], [("feature", ["n", 36])])
        extractor = Extractor(path, mean=0)
        faces = Faces(4)
        faces.pixels[2] = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        with pytest.raises(DataError, match=r"2\.png: the model's feature of it is not finite"):
            extractor.features(faces)
        ((fate, features),) = extractor.batches(faces, bad="skip")
        assert [isinstance(one, DataError) for one in fate] == [False, False, True, False]
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-6)
        assert len(features) == 3

    def test_other_errors_are_not_swallowed(self, net):
        with pytest.raises(ZeroDivisionError):
            Extractor(net.prototxt, net.caffemodel, mean=0).features(Faces(9, broken={4: ZeroDivisionError()}))

    def test_no_images(self, net):
        extractor = Extractor(net.prototxt, net.caffemodel, mean=0)
        for none in (lambda: extractor.features(Faces(0)), lambda: extractor.features_of([])):
            with pytest.raises(NormfaceError, match="no images"):
                none()


class TestPipeline:
    def test_reading_goes_on_beside_work(self):
        """Work on the first chunk waits until the second one is read: it would wait for ever without overlap."""
        second_read = threading.Event()

        def read(index):
            if index == 3:
                second_read.set()
            return index

        def work(chunk, loaded):
            assert second_read.wait(20)
            return sum(loaded)

        assert list(pipelined([[0, 1], [2, 3]], read, work, 1, 1)) == [1, 5]

    def test_workers_work_at_the_same_time(self):
        both = threading.Barrier(2, timeout=20)
        assert list(pipelined([[0], [1]], int, lambda chunk, _: (both.wait(), chunk[0])[1], 1, 2)) == [0, 1]

    def test_results_keep_their_order(self):
        def work(chunk, loaded):
            time.sleep(0.02 * (chunk[0] == 0))  # the first is the slowest
            return loaded

        chunks = [[3 * i, 3 * i + 1, 3 * i + 2] for i in range(7)]
        assert list(pipelined(chunks, lambda i: -i, work, 2, 3)) == [[-i for i in chunk] for chunk in chunks]

    def test_what_is_held_is_bounded(self):
        begun = set()
        made = pipelined([[i] for i in range(100)], lambda i: begun.add(i), lambda chunk, _: chunk, 2, 2)
        next(made)
        time.sleep(0.1)
        assert len(begun) <= 4  # two workers, two chunks ahead
        made.close()
        assert len(begun) <= 4
