"""The torch modules that layers become: torch's own by their names, and those that it lacks.

Imported only by the torch path.

A module is built without weights; ``to_torch`` puts each blob into the attribute that the layer's
BlobSpec names, as a parameter or, for statistics, a buffer.

Two things that a trainer has to know, and no forward pass does for it:
- ``overwrite_blobs()``, where a module has it, is what Caffe's layer does to its stored blobs before a training pass;
- ``running_state`` names attributes (numbers, tensors) that change in training and are no blobs.
"""

from torch.nn import (
    ELU,
    SELU,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    AvgPool3d,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Dropout,
    Flatten,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    Linear,
    LocalResponseNorm,
    LogSoftmax,
    MaxPool1d,
    MaxPool2d,
    MaxPool3d,
    Mish,
    PixelShuffle,
    ReLU,
    ReLU6,
    Sigmoid,
    Softmax,
    Softplus,
    Softsign,
    Tanh,
    Upsample,
)  # fmt: skip

from .activation import AbsVal, Clip, Constant, Exp, Log, Power, Swish, Threshold, UnscaledDropout
from .angle_margins import AdaptiveScaleMargin, AngleMargin
from .arithmetic import Axpy, ChannelScale, Eltwise, Reduction
from .attention import AttPooling
from .axes import BroadcastTo, ExpandDims, Reverse, Squeeze, Stack, Unstack
from .batch_margins import GlobalLSEMargin, HardMargin, LabelSpecificAffine, RadialRemovalMargin
from .batch_normalization_forks import MovingBN, SegNetBN
from .box_loss import BoxAnnotatorOHEM, SmoothL1Loss
from .broadcasting import Pairwise, Reduce
from .cascade import BoxGroupOutput, BoxOutput, DecodeBBox, FrcnnOutput, ScaleRoute
from .convolution import Convolution, Im2col
from .convolutional_lstm import ConvLSTM
from .deconvnet import EltwiseAccuracy, Unpooling
from .detection import DetectionOutput, PriorBox
from .detection_evaluate import DetectionEvaluate
from .detection_training import DetectionAccuracy, DetectionGroupLoss, DetectionLoss
from .face import Flip, InnerDistance, LabelSpecificAdd, Normalize, SSDNormalize
from .face_loss import CenterLoss, GeneralContrastiveLoss, GeneralTripletLoss
from .face_loss_forks import FocalLoss, InterClass, RangeLoss, RankHardLoss, RingLoss, TripletLoss
from .face_margin import LabelSpecificMargin, LabelSpecificRescale, MarginInnerProduct
from .flow import ChannelNorm, FlowWarp
from .functions import BoundedReLU, Elementwise, HardSigmoid, ScaledELU, ScaledTanH, ThresholdedReLU
from .indexing import Gather, Spans
from .inner_product import Embed, InnerProduct
from .local import Local
from .loss import (
    Accuracy,
    ContrastiveLoss,
    EuclideanLoss,
    HingeLoss,
    InfogainLoss,
    MultinomialLogisticLoss,
    SigmoidCrossEntropyLoss,
    SoftmaxWithLoss,
)  # fmt: skip
from .loss_forks import CtcLoss, FlowL1Loss, L1Loss
from .mask_cascade import ROIWarping, StageBridge, TextProposals
from .matching import Correlation, Resample
from .mean_field import MultiStageMeanfield
from .noise_face import NoiseTolerantFR, NormL2
from .normalization import MVN, BatchNorm, Bias, LRNAcrossChannels, LRNWithinChannel, Scale
from .padding import CropCenter, Pad
from .pooling import SPP, AvePooling, MaxPooling, StochasticPooling
from .prelu import PReLU
from .preprocessing import Preprocess
from .proposals import RegionProposals
from .recurrent import LSTM, RNN
from .recurrent_forks import ContinuationIndicator, Lstm
from .region_choice import BboxAccuracy, HardMining, ProposalTarget
from .region_pooling import PSROIPooling, ROIPooling
from .region_sampling import MaskPooling, MaskResize, ROIAlign
from .reorg import Reorg
from .resampling import Interp, MaskUpsample, NearestUpsample
from .rpn_training import AnchorTarget, RegionTarget
from .selection import ArgMax, BatchReindex, Filter
from .shape import (
    Concat,
    Crop,
    Parameter,
    Permute,
    Reshape,
    ShuffleChannel,
    Silence,
    Slice,
    Split,
    Tile,
)  # fmt: skip
from .space import BatchToSpace, DepthToSpace, ResizeLinear, ResizeNearest, SpaceToBatch, SpaceToDepth
from .ssd_training import MultiBoxLoss
from .volumes import VolumePooling
from .yolo_detection import YoloDetectionOutput, Yolov3DetectionOutput
from .yolo_loss import RegionLoss, YoloSeg, Yolov3

__all__ = [name for name in dir() if name[0].isupper()]
