"""The ONNX file: free axes, folding, preprocessing, opsets, external data, the checker."""

from __future__ import annotations

import json

import caffeport
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support import nets


def run(path, **inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs), strict=True))


def dims(path, what="input"):
    values = getattr(onnx.load(path, load_external_data=False).graph, what)
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def expected(net, **inputs):
    model = net.to_torch().eval()
    with torch.no_grad():
        result = model(*(torch.tensor(inputs[name]) for name in net.inputs))
    return {net.outputs[0]: result.numpy()} if torch.is_tensor(result) else {k: v.numpy() for k, v in result.items()}


def assert_same(actual, expected_outputs):
    assert list(actual) == list(expected_outputs)
    for name in expected_outputs:
        np.testing.assert_allclose(actual[name], expected_outputs[name], 1e-4, 1e-5, err_msg=name)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_batch_is_free_and_size_is_fixed_by_an_inner_product(tmp_path):
    net = nets.load(tmp_path, nets.SMALL)
    net.to_onnx(tmp_path / "n.onnx")
    assert dims(tmp_path / "n.onnx") == {"data": ["N", 3, 12, 10]}
    assert dims(tmp_path / "n.onnx", "output") == {"fc": ["N", 5]}
    for batch in (1, 2, 7):
        x = numbers(batch, 3, 12, 10)
        assert_same(run(tmp_path / "n.onnx", data=x), expected(net, data=x))


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"), [(3, 2, 0), (3, 2, 1), (2, 2, 0), (2, 3, 0), (3, 3, 1), (5, 2, 2)]
)
def test_size_is_free_in_a_convolutional_net(tmp_path, pool, kernel, stride, pad):
    window = f"pooling_param {{ pool: {pool} kernel_size: {kernel} stride: {stride} pad: {pad} }}"
    net = nets.load(
        tmp_path,
        nets.inputs(data=(1, 3, 12, 10)) + nets.conv("data", "c", 4) + nets.layer("Pooling", "c", "p", window),
    )
    net.to_onnx(tmp_path / "n.onnx")
    assert dims(tmp_path / "n.onnx") == {"data": ["N", 3, "H", "W"]}
    for height, width in ((12, 10), (13, 11), (24, 31), (17, 29), (9, 8)):
        x = numbers(2, 3, height, width)
        assert_same(run(tmp_path / "n.onnx", data=x), expected(net, data=x))


def test_static_batch_on_request(tmp_path):
    nets.load(tmp_path, nets.SMALL).to_onnx(tmp_path / "n.onnx", dynamic_batch=False)
    assert dims(tmp_path / "n.onnx") == {"data": [2, 3, 12, 10]}


def test_a_net_that_fixes_its_batch_says_so(tmp_path):
    text = nets.inputs(data=(2, 6)) + nets.layer(
        "Reshape", "data", "r", "reshape_param { shape { dim: 2 dim: 2 dim: 3 } }"
    )
    net = nets.load(tmp_path, text)
    with pytest.warns(caffeport.CaffeportWarning, match="fixes the batch"):
        net.to_onnx(tmp_path / "n.onnx")
    assert dims(tmp_path / "n.onnx") == {"data": [2, 6]}


def test_mirror_face_net_with_free_batch(tmp_path):
    """Concat and Slice along the batch, as NormFace's deploy nets merge a face with its mirror image."""
    text = (
        nets.inputs(data=(3, 2, 6, 6))
        + nets.layer("Flip", "data", "flip")
        + nets.layer("Concat", "data flip", "both", "concat_param { axis: 0 }")
        + nets.inner_product("both", "fc", 4)
        + nets.layer("Slice", "fc", "face mirror", "slice_param { axis: 0 }", "cut")
        + nets.layer("Eltwise", "face mirror", "sum")
        + nets.layer("Normalize", "sum", "norm")
    )
    net = nets.load(tmp_path, text)
    net.to_onnx(tmp_path / "n.onnx")
    x = numbers(5, 2, 6, 6)
    found = run(tmp_path / "n.onnx", data=x)
    weight, bias = net.layer("fc").blobs
    both = np.concatenate([x, x[..., ::-1]]).reshape(10, -1) @ weight.T + bias
    merged = both[:5] + both[5:]
    unit = merged / np.sqrt((merged**2).sum(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(found["norm"], unit[:, :, None, None], 1e-4, 1e-6)


def test_fold_leaves_one_node_and_the_same_numbers(tmp_path):
    net = nets.load(tmp_path, nets.SMALL)
    random = np.random.default_rng(1)
    blobs = [random.standard_normal(6), random.random(6) * 3, np.array([1.7])]
    net = net.with_weights({"bn1": [blob.astype(np.float32) for blob in blobs]})
    x = numbers(2, 3, 12, 10)
    for fold, kinds in ((False, {"BatchNormalization", "Mul", "Add"}), (True, set())):
        net.to_onnx(tmp_path / "n.onnx", fold=fold, target="openvino")  # whose PReLU is one node
        nodes = {node.op_type for node in onnx.load(tmp_path / "n.onnx").graph.node}
        assert nodes & {"BatchNormalization", "Mul", "Add"} == kinds
        assert_same(run(tmp_path / "n.onnx", data=x), expected(net, data=x))


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution", "InnerProduct", "grouped"])
def test_fold_into(tmp_path, kind):
    layer = {
        "Convolution": nets.conv("data", "y", 4, "kernel_size: 3 bias_term: false"),
        "grouped": nets.conv("data", "y", 4, "kernel_size: 3 group: 2"),
        "Deconvolution": nets.conv("data", "y", 4, "kernel_size: 4 stride: 2 group: 2").replace(
            '"Convolution"', '"Deconvolution"'
        ),
        "InnerProduct": nets.inner_product("data", "y", 4, "bias_term: false transpose: true"),
    }[kind]
    text = nets.inputs(data=(2, 6, 7, 5)) + layer
    text += nets.layer("BatchNorm", "y", "b") + nets.layer(
        "Bias", "b", "c", 'bias_param { filler { type: "gaussian" } }'
    )
    text += nets.layer("Scale", "c", "d", "scale_param { num_axes: 0 filler { value: 3 } }")
    net = nets.load(tmp_path, text)
    channels = net.blob_shapes["y"][1]
    random = np.random.default_rng(0)
    statistics = [random.standard_normal(channels), random.random(channels) + 0.5, np.array([2.0])]
    net = net.with_weights({"b": [blob.astype(np.float32) for blob in statistics]})
    net.to_onnx(tmp_path / "n.onnx")
    assert len(onnx.load(tmp_path / "n.onnx").graph.node) <= 2  # an inner product flattens first
    x = numbers(3, 6, 7, 5)
    assert_same(run(tmp_path / "n.onnx", data=x), expected(net, data=x))


def test_fold_spares_a_blob_that_somebody_else_reads(tmp_path):
    text = (
        nets.inputs(data=(1, 3, 5, 5))
        + nets.conv("data", "c", 4)
        + nets.layer("BatchNorm", "c", "b")
        + nets.layer("Eltwise", "c b", "e")
    )
    net = nets.load(tmp_path, text)
    net.to_onnx(tmp_path / "n.onnx")
    assert "BatchNormalization" in {node.op_type for node in onnx.load(tmp_path / "n.onnx").graph.node}
    x = numbers(1, 3, 5, 5)
    assert_same(run(tmp_path / "n.onnx", data=x), expected(net, data=x))


def test_fold_pairs_by_connection_not_by_order(tmp_path):
    """Two branches whose BatchNorm and Scale stand in each other's order in the text."""
    scale = 'scale_param { filler { type: "gaussian" } }'
    text = nets.inputs(data=(1, 3, 5, 5)) + nets.conv("data", "a", 4) + nets.conv("data", "b", 4)
    text += nets.layer("BatchNorm", "b", "b1") + nets.layer("BatchNorm", "a", "a1")
    text += nets.layer("Scale", "a1", "a2", scale) + nets.layer("Scale", "b1", "b2", scale)
    net = nets.load(tmp_path, text)
    net = net.with_weights({k: [numbers(4), numbers(4) ** 2 + 0.1, np.ones(1)] for k in ("a1", "b1")})
    net.to_onnx(tmp_path / "n.onnx")
    x = numbers(1, 3, 5, 5)
    assert_same(run(tmp_path / "n.onnx", data=x), expected(net, data=x))


def test_outputs_cuts_the_net_before_a_loss(tmp_path):
    text = nets.inputs(data=(4, 6), label=(4,)) + nets.inner_product("data", "fc", 3)
    text += nets.layer("SoftmaxWithLoss", "fc label", "loss")
    net = nets.load(tmp_path, text, phase="train")
    with pytest.raises(caffeport.ExportError, match=r'"loss" \(SoftmaxWithLoss\).*outputs=\["fc"\]'):
        net.to_onnx(tmp_path / "n.onnx")
    net.to_onnx(tmp_path / "n.onnx", outputs=["fc"])
    assert dims(tmp_path / "n.onnx") == {"data": ["N", 6]}
    with pytest.raises(caffeport.NetError, match=r'"fd".*did you mean "fc"'):
        net.to_onnx(tmp_path / "n.onnx", outputs=["fd"])


def test_preprocessing_in_the_model(tmp_path):
    net = nets.load(tmp_path, nets.SMALL)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 12, 10)).astype(np.float32)
    mean = [104.0, 117.0, 123.0]
    bgr = (pixels[:, ::-1] - np.reshape(mean, (1, 3, 1, 1))) * 0.0078125
    wanted = expected(net, data=bgr.astype(np.float32))
    net.to_onnx(tmp_path / "n.onnx", mean=mean, scale=0.0078125, rgb=True)
    assert_same(run(tmp_path / "n.onnx", data=pixels), wanted)
    model = net.to_torch(mean=mean, scale=0.0078125, rgb=True)
    np.testing.assert_allclose(model(torch.tensor(pixels)).detach().numpy(), wanted["fc"], 1e-4, 1e-5)
    with pytest.raises(caffeport.CaffeportError, match="expected 1 or 3 numbers"):
        net.to_onnx(tmp_path / "n.onnx", mean=[1, 2])


@pytest.mark.parametrize("opset", range(13, 22))
def test_every_opset_passes_the_checker(tmp_path, opset):
    nets.load(tmp_path, nets.SMALL).to_onnx(tmp_path / "n.onnx", opset=opset)
    onnx.checker.check_model(str(tmp_path / "n.onnx"), full_check=True)
    model = onnx.load(tmp_path / "n.onnx")
    assert [entry.version for entry in model.opset_import] == [opset]
    assert {entry.domain for entry in model.opset_import} == {""}


@pytest.mark.parametrize("opset", [12, 22, 0])
def test_other_opsets_are_refused(tmp_path, opset):
    with pytest.raises(caffeport.ExportError, match="13 to 21"):
        nets.load(tmp_path, nets.SMALL).to_onnx(tmp_path / "n.onnx", opset=opset)


def test_external_data(tmp_path):
    net = nets.load(tmp_path, nets.SMALL)
    net.to_onnx(tmp_path / "n.onnx", external_data=True)
    onnx.checker.check_model(str(tmp_path / "n.onnx"), full_check=True)
    assert (tmp_path / "n.onnx.data").stat().st_size > 4 * 5 * 6 * 6 * 5
    x = numbers(2, 3, 12, 10)
    assert_same(run(tmp_path / "n.onnx", data=x), expected(net, data=x))


def test_external_data_beyond_two_gigabytes(tmp_path, monkeypatch):
    """The decision, on a small net: as if protobuf's limit were below its weights."""
    from caffeport.to_onnx import export as to_onnx

    monkeypatch.setattr(to_onnx, "PROTOBUF_LIMIT", 1000)
    nets.load(tmp_path, nets.SMALL).to_onnx(tmp_path / "n.onnx")
    assert (tmp_path / "n.onnx.data").exists()


def test_outputs_keep_their_blob_names(tmp_path):
    """In-place layers, Dropout (nothing at test time) and Split must not rename a blob."""
    text = nets.inputs(data=(2, 4)) + nets.inner_product("data", "fc", 3) + nets.layer("ReLU", "fc", "fc", name="r")
    text += nets.layer("Split", "fc", "a b") + nets.layer("Dropout", "a", "drop")
    text += 'layer { name: "s" type: "Silence" bottom: "b" }'
    net = nets.load(tmp_path, text)
    net.to_onnx(tmp_path / "n.onnx")
    assert list(dims(tmp_path / "n.onnx", "output")) == net.outputs == ["drop"]
    x = numbers(2, 4)
    assert_same(run(tmp_path / "n.onnx", data=x), expected(net, data=x))


def test_shared_weights_are_one_initializer(tmp_path):
    text = nets.inputs(a=(2, 4), b=(2, 4))
    shared = 'param { name: "w" } param { name: "b" }'
    for name in "ab":
        text += nets.inner_product(name, f"y{name}", 3).replace("inner_product_param", f"{shared} inner_product_param")
    net = nets.load(tmp_path, text)
    net.to_onnx(tmp_path / "n.onnx")
    assert len(onnx.load(tmp_path / "n.onnx").graph.initializer) == 2


def test_an_interrupted_export_leaves_the_old_file(tmp_path, monkeypatch):
    net = nets.load(tmp_path, nets.SMALL)
    net.to_onnx(tmp_path / "n.onnx")
    before = (tmp_path / "n.onnx").read_bytes()

    def broken():
        raise KeyboardInterrupt

    monkeypatch.setattr(type(net.params[0]), "data", property(lambda self: broken()))
    with pytest.raises(KeyboardInterrupt):
        net.to_onnx(tmp_path / "n.onnx", fold=False)
    assert (tmp_path / "n.onnx").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_the_file_tells_its_preprocessing(tmp_path):
    net = nets.load(tmp_path, nets.SMALL)
    net.to_onnx(tmp_path / "plain.onnx")
    net.to_onnx(tmp_path / "pixels.onnx", mean=[104, 117, 123], scale=0.5, rgb=True)
    plain, pixels = (
        {entry.key: entry.value for entry in onnx.load(tmp_path / name).metadata_props}
        for name in ("plain.onnx", "pixels.onnx")
    )
    told = json.loads(pixels.pop("caffeport.preprocessing"))
    assert told == {"rgb": True, "scale": 0.5, "mean": [104, 117, 123]}
    assert pixels == plain  # what both files are made of (test_file_facts.py)
