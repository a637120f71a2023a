"""Finetuning of Caffe nets with face losses: from pictures of people to files for torch, ONNX and Caffe.

from normface.finetune import Config, finetune

result = finetune(Config(net="deploy.prototxt", weights="face.caffemodel", data="faces", embedding="fc5", out="tuned"))
"""

from typing import Any

from .config import Config


def finetune(config: Config, **options: Any) -> Any:
    """See :func:`normface.finetune.recipe.finetune`; torch is imported here, not before."""
    from .recipe import finetune as run

    return run(config, **options)


__all__ = ["Config", "finetune"]
