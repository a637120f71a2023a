"""Losses that face models are trained with: ``loss(embeddings (N, D), labels (N,))`` is a scalar.

    loss = normface.losses.NormalizedSoftmaxLoss(num_classes, embedding_size)
    loss = normface.losses.SoftmaxLoss(C, D) + 0.01 * normface.losses.CContrastiveLoss(C, D)
    loss = normface.losses.make("softmax+0.01*c-contrastive", C, D)

A loss is a module that owns its class weights ``weight`` (C, D); ``logits(embeddings)`` are the classes' scores
without a margin. Its own options are keywords, and what they mean is in its docstring. All take ``reduction`` and
``ignore_index``, softmax losses ``label_smoothing`` (SoftmaxOptions), and a call a ``sample_weight`` (FaceLoss).
"""

from .adaptive import AdaFaceLoss, MagFaceLoss
from .additive_margin import AMSoftmaxLoss, ArcFaceLoss
from .agents import CContrastiveLoss, CTripletLoss
from .annealing import MarginWarmup, warmups
from .base import FaceLoss, Options, SoftmaxOptions
from .center import CenterLoss
from .combined_margin import CombinedMarginLoss
from .curricular import CurricularFaceLoss
from .elastic import ElasticFaceLoss
from .multiplied_angle import LargeMarginSoftmaxLoss, SphereFaceLoss
from .names import LOSSES, REGULARISERS, LossOptions, make, parse
from .regularisers import MHELoss, RingLoss
from .softmax import L2SoftmaxLoss, NormalizedSoftmaxLoss, PositiveScaleSoftmaxLoss, SoftmaxLoss
from .sphereface2 import SphereFace2Loss
from .sub_center import SubCenterArcFaceLoss
from .sums import Loss, WeightedSum
from .support_vector import SVXSoftmaxLoss

CosFaceLoss = AMSoftmaxLoss
"""The same loss by another paper's name (Wang et al. 2018, CosFace), which took scale 64 and margin 0.35."""

__all__ = [
    "LOSSES",
    "REGULARISERS",
    "AMSoftmaxLoss",
    "AdaFaceLoss",
    "ArcFaceLoss",
    "CContrastiveLoss",
    "CTripletLoss",
    "CenterLoss",
    "CombinedMarginLoss",
    "CosFaceLoss",
    "CurricularFaceLoss",
    "ElasticFaceLoss",
    "FaceLoss",
    "L2SoftmaxLoss",
    "LargeMarginSoftmaxLoss",
    "Loss",
    "LossOptions",
    "MHELoss",
    "MagFaceLoss",
    "MarginWarmup",
    "NormalizedSoftmaxLoss",
    "Options",
    "PositiveScaleSoftmaxLoss",
    "RingLoss",
    "SVXSoftmaxLoss",
    "SoftmaxLoss",
    "SoftmaxOptions",
    "SphereFace2Loss",
    "SphereFaceLoss",
    "SubCenterArcFaceLoss",
    "WeightedSum",
    "make",
    "parse",
    "warmups",
]
