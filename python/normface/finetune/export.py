"""The tuned model in every form, and the proof that each file, loaded again, computes what was trained."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import caffeport
import numpy as np
import torch
from caffeport.cores import usable_cores
from caffeport.difference import difference
from caffeport.to_torch.safetensors_file import save_safetensors
from torch import Tensor, nn

from .. import model_folder
from ..features.own_preprocessing import note_in_onnx
from . import parts
from .backbone import Backbone, Trunk

DEPLOY, CAFFEMODEL, ONNX, SAFETENSORS, HEAD = (
    "deploy.prototxt",
    "model.caffemodel",
    "model.onnx",
    "model.safetensors",
    "head.safetensors",
)
RTOL, ATOL = 1e-4, 1e-5
"""The tolerance of ``caffeport check``: |a - b| <= atol + rtol * max(|b|, rms(b))."""


@dataclass(frozen=True)
class Proof:
    """``max_abs``: largest difference of the feature from the trained module's; None where it could not be run."""

    file: str
    how: str
    max_abs: float | None
    ok: bool


def write(backbone: Backbone, trunk: nn.Module, folder: Path, normalize: bool) -> caffeport.Net:
    """Write the net's four files, and config.json, which makes the folder a model; returns the net as exported.

    normalize: the feature ends at unit length, by NormFace's Normalize (of this project's Caffe layers) in the
    ``.caffemodel``'s text and by standard operators in ONNX.
    """
    net = backbone.tuned(trunk.state_dict())
    if normalize:
        top = parts.free_name(net, f"{backbone.embedding}_unit")
        net = parts.continued(net, parts.unit_length(backbone.embedding, top))
    net.save(folder / CAFFEMODEL, prototxt=folder / DEPLOY)
    net.to_onnx(folder / ONNX)
    note_in_onnx(folder / ONNX, backbone.preprocessing)
    save_safetensors(net, folder / SAFETENSORS)
    (output,) = net.output_values
    before = backbone.preprocessing.with_options(size=backbone.size)
    files = (folder / ONNX, folder / DEPLOY, folder / CAFFEMODEL)
    model_folder.write(model_folder.ModelFolder(*files, output.name, output.shape[1], before))
    return net


def prove(
    backbone: Backbone, frozen: Trunk | None, trunk: nn.Module, folder: Path, normalize: bool, images: np.ndarray
) -> list[Proof]:
    """Load every file again and run it on ``images`` (N, C, H, W), as prepared for the net. On the CPU."""
    with torch.no_grad():
        inputs = torch.from_numpy(images)
        expected = trunk.cpu().eval()(frozen.cpu().eval().net(inputs) if frozen is not None else inputs)
        if normalize:
            expected = nn.functional.normalize(expected)
    net = caffeport.load(folder / DEPLOY, folder / CAFFEMODEL, custom_layers=backbone.whole.options.custom_layers)
    again = net.to_torch()
    proofs = [_proof(f"{DEPLOY} + {CAFFEMODEL}", "torch", expected, _run(again, inputs))]
    again.load_state_dict(_load_tensors(folder / SAFETENSORS))
    proofs.append(_proof(SAFETENSORS, "torch", expected, _run(again, inputs)))
    if importlib.util.find_spec("onnxruntime") is None:
        proofs.append(Proof(ONNX, "not run: ONNX Runtime is not installed", None, True))
        return proofs
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()  # by itself it counts the machine's
    session = onnxruntime.InferenceSession(str(folder / ONNX), options, providers=["CPUExecutionProvider"])
    (name,) = (one.name for one in session.get_inputs())
    proofs.append(_proof(ONNX, "ONNX Runtime", expected, torch.from_numpy(session.run(None, {name: images})[0])))
    report = caffeport.check(net, [images], rtol=RTOL, atol=ATOL)
    worst = max((row.max_abs for row in report.rows if row.errors), default=0.0)
    proofs.append(Proof("every blob", "torch against ONNX Runtime", worst, report.ok))
    return proofs


def _load_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(str(path))


def _run(module: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return module.eval()(inputs)


def _proof(file: str, how: str, expected: Tensor, found: Tensor) -> Proof:
    flat = found.flatten(1).float().numpy()
    max_abs, _, ok = difference(flat, expected.float().numpy(), RTOL, ATOL)
    return Proof(file, how, float(max_abs), bool(ok))
