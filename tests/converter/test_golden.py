"""Every recorded case: forward and backward in torch, forward in ONNX Runtime, blobs out and back."""

from __future__ import annotations

import pickle

import caffeport
import numpy as np
import onnxruntime
import pytest
import torch
from support import golden_cases as golden

RTOL, ATOL = 1e-4, 1e-5  # float32, sums of up to some hundred terms in another order

OPS = [("ops", name, "test") for name in golden.cases("ops")]
FACES = [("face_layers", name, "train") for name in golden.cases("face_layers")]
SSD = [("ssd", name, "test") for name in golden.cases("ssd")]
EVERY = pytest.mark.parametrize(("folder", "name", "phase"), OPS + FACES + SSD, ids=lambda value: value)


def test_all_of_caffes_cases_are_here():
    assert len(OPS) == 101
    assert len(FACES) == 38
    assert len(SSD) == 13


def assert_close(actual: np.ndarray, expected: np.ndarray, title: str) -> None:
    assert actual.shape == expected.shape, title
    assert actual.dtype == expected.dtype, title
    np.testing.assert_allclose(actual, expected, RTOL, ATOL, err_msg=title)


@EVERY
def test_torch_forward(folder, name, phase, tmp_path):
    case = golden.load(folder, name, tmp_path, phase)
    made = case.net.to_torch().blobs(*map(torch.tensor, case.inputs.values()))
    for blob, expected in case.group("data").items():
        assert_close(made[blob].detach().numpy(), expected, blob)
    if name not in FEWER_ROWS_AT_RUN_TIME:
        assert case.net.blob_shapes == {blob: array.shape for blob, array in case.group("data").items()}


# Filter's shapes count every image as kept, DetectionOutput's the most rows there can be; how many there are
# is known only when they run.
FEWER_ROWS_AT_RUN_TIME = {"filter", "detection_output_none"}


@EVERY
def test_traced_and_pickled(folder, name, phase, tmp_path):
    """fx has a node a layer, whatever the layer is; a pickle brings back all that a module is made of."""
    case = golden.load(folder, name, tmp_path, phase)
    inputs = [torch.tensor(array) for array in case.inputs.values()]
    model, pickled = case.net.to_torch(), pickle.loads(pickle.dumps(case.net.to_torch()))
    traced = torch.fx.symbolic_trace(case.net.to_torch())  # of one's own: a pass in training may count
    expected, *found = (_outputs(made, inputs) for made in (model, traced, pickled))
    for outputs in found:
        assert outputs.keys() == expected.keys()
        for blob in expected:
            assert torch.equal(outputs[blob], expected[blob]), blob


def _outputs(model: torch.nn.Module, inputs: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    result = model(*inputs)
    return {"": result} if isinstance(result, torch.Tensor) else result


def differentiable() -> list[tuple[str, str, str]]:
    """Return the cases that recorded a gradient."""
    cases = []
    for folder, name, phase in OPS + FACES:
        with np.load(golden.GOLDEN / folder / f"{name}.npz") as stored:
            if any(key.startswith(("diff/", "blob_diff/")) for key in stored.files):
                cases.append((folder, name, phase))
    return cases


@pytest.mark.parametrize(("folder", "name", "phase"), differentiable(), ids=lambda value: value)
def test_torch_gradients(folder, name, phase, tmp_path):
    case = golden.load(folder, name, tmp_path, phase)
    model = case.net.to_torch()
    inputs = [torch.tensor(array, requires_grad=True) for array in case.inputs.values()]
    blobs = model.blobs(*inputs)
    total = torch.zeros(())
    if any(model.loss_weights.get(blob) for blob in model.output_names):
        total = total + model.loss({blob: blobs[blob] for blob in model.output_names})
    for blob, gradient in case.group("top_diff").items():
        total = total + (blobs[blob] * torch.tensor(gradient)).sum()
    if total.requires_grad:
        total.backward()
    for blob, expected in case.group("diff").items():
        assert_close(_gradient(inputs[case.net.inputs.index(blob)]), expected, f"gradient of {blob}")
    state = model.state_dict(keep_vars=True)
    for key, expected in case.group("blob_diff").items():
        layer_name, _, index = key.rpartition("/")
        layer = case.net.layer(layer_name)
        spec, param = layer.specs[int(index)], layer.params[int(index)]
        if spec.trained and param.layer == layer_name:  # a shared blob's gradient is its owner's
            assert_close(_gradient(state[f"{layer_name}.{spec.name}"]), expected, f"gradient of {key}")


def _gradient(tensor: torch.Tensor) -> np.ndarray:
    return np.zeros(tensor.shape, np.float32) if tensor.grad is None else tensor.grad.numpy()


def exports() -> list[tuple[str, str, str]]:
    return [(folder, name, phase) for folder, name, phase in OPS + SSD + FACES if not _ends_in_loss(folder, name)]


def _ends_in_loss(folder: str, name: str) -> bool:
    training = ("_loss", "softmax_loss", "accuracy", "center_loss", "general_", "margin_inner", "large_margin")
    return any(part in name for part in training) or name == "scaled_cosine_softmax"


@pytest.mark.parametrize("fold", [False, True], ids=["plain", "folded"])
@pytest.mark.parametrize("opset", [13, 17, 21])
@pytest.mark.parametrize(("folder", "name", "phase"), exports(), ids=lambda value: value)
def test_onnx_forward(folder, name, phase, opset, fold, tmp_path, recwarn):
    case = golden.load(folder, name, tmp_path, phase)
    path = tmp_path / "net.onnx"
    case.net.to_onnx(path, opset=opset, fold=fold)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    made = session.run(None, {entry.name: case.inputs[entry.name] for entry in session.get_inputs()})
    assert [entry.name for entry in session.get_outputs()] == case.net.outputs
    for blob, found in zip(case.net.outputs, made, strict=True):
        # A deployed net passes scores through, where the recording (of training) has the margin.
        recorded = "cos" if name == "label_specific_add" else blob
        assert_close(found, case.arrays[f"data/{recorded}"], blob)


LOSSES = [case for case in OPS if _ends_in_loss(*case[:2])]


@pytest.mark.parametrize(("folder", "name", "phase"), LOSSES, ids=lambda value: value)
def test_losses_and_metrics_are_refused_by_name(folder, name, phase, tmp_path):
    case = golden.load(folder, name, tmp_path, phase)
    with pytest.raises(caffeport.ExportError, match=r'layer "a" .* (loss|metric) layer .* outputs=\["x"\]'):
        case.net.to_onnx(tmp_path / "net.onnx")
    assert not list(tmp_path.glob("*.onnx*"))


@EVERY
def test_weights_come_back_with_the_same_bits(folder, name, phase, tmp_path):
    case = golden.load(folder, name, tmp_path, phase)
    case.net.with_weights(case.net.to_torch()).save(tmp_path / "b.caffemodel", prototxt=tmp_path / "b.prototxt")
    again = caffeport.load(tmp_path / "b.prototxt", tmp_path / "b.caffemodel", phase=phase)
    assert [layer.name for layer in again.layers] == [layer.name for layer in case.net.layers]
    for mine, theirs in zip(case.net.layers, again.layers, strict=True):
        assert [blob.tobytes() for blob in mine.blobs] == [blob.tobytes() for blob in theirs.blobs]
        assert [blob.shape for blob in mine.blobs] == [blob.shape for blob in theirs.blobs]
