"""The runtime that an ONNX file is written for: which of several equal forms its operators take."""

from __future__ import annotations

import enum


class Target(enum.Enum):
    """A runtime to write for; every form is standard ONNX with the same numbers, and runs in all of them.

    ANY: the form that is fastest on the whole. PLAIN: a node for a layer, as the net has them (``fold=False``).
    """

    ANY = "any"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    OPENCV = "opencv"
    PLAIN = "plain"

    @property
    def splits_prelu(self) -> bool:
        """Return whether PReLU is written as max(x, 0) - a max(-x, 0), the same numbers, instead of PRelu.

        ONNX Runtime's CPU kernel has no PRelu in the blocked layout of its convolutions, so that every one reorders
        twice: MobileFaceNet takes 2.0 to 2.4 times as long. OpenVINO makes the sum a PRelu again; OpenCV 5 does not,
        and takes 1.7 times as long with it.
        """
        return self in (Target.ANY, Target.ONNXRUNTIME)


TARGETS = tuple(target.value for target in Target if target is not Target.PLAIN)
"""What users may name."""
