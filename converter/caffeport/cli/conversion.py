"""The work of ``caffeport convert``: all files of a conversion, or none of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..errors import CaffeportError
from ..files import replacing_path, same_file, target_of
from ..graph.net import Net
from ..graph.results import Exported
from ..graph.walk import inference_values
from ..lazy import require
from ..to_torch.file import FORMATS, check_format, save_torch
from ..to_torch.source.name import check_source_name


def check_targets(
    sources: Sequence[Path],
    onnx: Path | None,
    torch: Path | None,
    external_data: bool | None,
    python: Path | None = None,
) -> None:
    """Raise CaffeportError for names under which nothing is to be written: a source's, another file's, a wrong form's.

    external_data: whether the ONNX file's weights go into a file of their own; None where their size will tell.
    """
    weights = _python_weights(python, torch)
    targets = [path for path in (onnx, torch, python) if path is not None]
    targets += [weights] if weights is not None and weights != torch else []
    if not targets:
        raise CaffeportError("nothing to write; give --onnx F.onnx, --torch F.safetensors or --python F.py")
    if onnx is not None and external_data is not False:
        file = target_of(onnx)
        targets.append(file.with_name(file.name + ".data"))
    for index, target in enumerate(targets):
        target_of(target)
        if any(same_file(target, source) for source in sources):
            raise CaffeportError(f"{target}: would overwrite what is converted; choose another name")
        if any(same_file(target, other) for other in targets[:index]):
            raise CaffeportError(f"{target}: is the name of two files to write; choose another for one of them")
    if onnx is not None and onnx.suffix.lower() in FORMATS:
        raise CaffeportError(f"{onnx}: --onnx writes ONNX, and {onnx.suffix} is a form of --torch; name it F.onnx")
    if torch is not None:
        check_format(torch)
    if python is not None:
        check_source_name(python)


def _python_weights(python: Path | None, torch: Path | None) -> Path | None:
    """The file that the source loads: --torch's where it is one of weights by their names, else one of its own."""
    if python is None:
        return None
    if torch is not None and torch.suffix.lower() == ".safetensors":
        return torch
    return python.with_suffix(".safetensors")


def convert(
    net: Net,
    onnx: Path | None,
    torch: Path | None,
    *,
    opset: int = 17,
    dynamic_batch: bool = True,
    fold: bool = True,
    outputs: Sequence[str] | None = None,
    mean: Any = None,
    scale: float | None = None,
    rgb: bool = False,
    external_data: bool | None = None,
    python: Path | None = None,
    target: str = "any",
    **lower: Any,
) -> tuple[list[Path], Exported]:
    """Write the files that have a name; returns those names, and the ONNX file's inputs and outputs (else the net's).

    Where one fails, none is written. A safetensors file beside ``python`` has the keys of its source, not Caffe's. A
    program for torch ends, as the ONNX file does, before losses and metrics. lower: precision, calibrate and keep of
    the ONNX file, as of Net.to_onnx.
    """
    ends, left_out = inference_values(net)
    common: dict[str, Any] = {"outputs": outputs, "mean": mean, "scale": scale, "rgb": rgb}
    common["dynamic_batch"] = dynamic_batch
    with ExitStack() as stack:
        weights = _python_weights(python, torch)
        if python is not None and weights is not None:
            source = require("caffeport.to_torch.source.write")
            text, state = source.python_source(net, python, weights, outputs=outputs, mean=mean, scale=scale, rgb=rgb)
            stack.enter_context(replacing_path(python)).write_text(text, "utf-8")
            if state:
                source.save_state(state, stack.enter_context(replacing_path(weights)))
            else:
                weights = None
        if torch is not None and torch != weights:  # beside its place until the ONNX file is in its own
            waiting = stack.enter_context(replacing_path(torch))
            cut = {"outputs": [value.name for value in ends]} if outputs is None and left_out else {}
            save_torch(net, waiting, ending=check_format(torch), **common | cut)
        if onnx is not None:
            form: dict[str, Any] = {"opset": opset, "fold": fold, "external_data": external_data, "target": target}
            exported = net.to_onnx(onnx, **form, **common, **lower)
        else:
            exported = Exported(net.inputs, list(outputs or net.outputs))
    paths = (onnx, torch, python, weights)
    return list(dict.fromkeys(path for path in paths if path is not None)), exported
