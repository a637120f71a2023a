"""Finetuning of Caffe nets with face losses: from images of people to files for torch, ONNX and Caffe.

from normface.finetune import Config, finetune

result = finetune(Config(net="deploy.prototxt", weights="face.caffemodel", data="faces", embedding="fc5", out="tuned"))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .config import Config

if TYPE_CHECKING:
    from .result import Result


def finetune(
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Finetune a Caffe net as ``config`` says, and write everything to ``config.out``.

    resume: go on from the checkpoint in ``out``. overwrite: replace an earlier run in ``out``. should_stop: asked after
    every step; True ends the run there, with a checkpoint. What it raises stands in ``normface.finetune.recipe``.
    """
    from .recipe import finetune as run  # which imports torch

    return run(config, resume=resume, overwrite=overwrite, should_stop=should_stop)


__all__ = ["Config", "finetune"]
