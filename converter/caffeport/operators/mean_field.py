"""MultiStageMeanfield: a dense conditional random field as a layer, of CRF-RNN.

Definition: torrvision/crfasrnn, caffe-crfrnn/src/caffe/layers/multi_stage_meanfield.cpp and meanfield_iteration.cpp,
util/modified_permutohedral.cpp.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

from ..formats.schema import schema
from .base import BlobSpec, Operator, Shape, layer_type, nn
from .fillers import FillerParameter

if TYPE_CHECKING:
    from .onnx_builder import Emitter, Tensor


class Compatibility(enum.Enum):
    POTTS = 0
    SEMI_METRIC = 1
    FULL_MATRIX = 2
    READ_FROM_FILE = 3


@schema
class MultiStageMeanfieldParameter:
    num_iterations: int = 10
    compatibility_mode: Compatibility = Compatibility.POTTS  # how the matrix starts
    threshold: float = 2.0  # read by no version of the layer
    theta_alpha: float | None = None
    theta_beta: float | None = None
    theta_gamma: float | None = None
    spatial_filter_weight: float = 1.0
    bilateral_filter_weight: float = 1.0


@layer_type("MultiStageMeanfield")
class MultiStageMeanfield(Operator):
    """Mean field inference, num_iterations times: Q = softmax(x); x = unary - K (W_s S Q + W_b B Q).

    Bottoms: the unary terms (N, C, H, W), the first x, and the image (N, 3, H, W). S and B are Gaussian filters,
    normalised for every pixel: S over the place divided by theta_gamma, B over the place divided by theta_alpha and
    the colour divided by theta_beta. Both are computed, as in the fork, on a permutohedral lattice (Adams et al.
    2010), which comes near to the Gaussian. Blobs (1, 1, C, C): W_s, W_b, K; W start as the filter weights times the
    identity, K as minus the identity.
    """

    schemas = {"multi_stage_meanfield_param": MultiStageMeanfieldParameter}
    bottoms = (3, 3)
    bottom_axes = ((4, 4),)
    onnx_support = "no (a lattice of the image's colours)"
    full_precision = True

    def setup(self) -> None:
        p = self.p
        if not 2 <= p.num_iterations <= 10_000:
            self.fail(f"expected num_iterations from 2 to 10000, got {p.num_iterations}")
        for name in ("theta_alpha", "theta_beta", "theta_gamma"):
            if getattr(p, name) is None or not getattr(p, name) > 0:
                self.fail(f"expected a {name} above 0, got {getattr(p, name)}")

    def top_shapes(self, bottoms: list[Shape]) -> list[Shape]:
        unary, start, image = bottoms
        if start != unary or image[0] != unary[0] or image[1] < 3 or image[2:] != unary[2:]:
            self.fail(f"expected two blobs of one shape and an image of their size, got {unary}, {start} and {image}")
        return [unary]

    def blob_specs(self, bottoms: list[Shape]) -> list[BlobSpec]:
        p, shape = self.p, (1, 1, *[bottoms[0][1]] * 2)
        starts = {
            "weight_spatial": p.spatial_filter_weight,
            "weight_bilateral": p.bilateral_filter_weight,
            "compatibility": -1.0,
        }
        return [BlobSpec(name, shape, FillerParameter("diagonal", value)) for name, value in starts.items()]

    def multiply_adds(self, bottoms: list[Shape], tops: list[Shape]) -> int:
        batch, channels, height, width = bottoms[0]
        return self.p.num_iterations * 3 * batch * channels**2 * height * width

    def module(self, bottoms: list[Shape]) -> Any:
        p = self.p
        return nn.MultiStageMeanfield(p.num_iterations, p.theta_alpha, p.theta_beta, p.theta_gamma)

    def onnx(self, g: Emitter, *x: Tensor) -> Tensor:
        g.refuse("its filter is a lattice that is built from the image's colours, which standard operators do not have")
