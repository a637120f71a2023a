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
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Dropout,
    Flatten,
    Hardswish,
    LeakyReLU,
    Linear,
    LocalResponseNorm,
    MaxPool2d,
    PixelShuffle,
    ReLU,
    Sigmoid,
    Softmax,
    Softplus,
    Tanh,
)  # fmt: skip

from .activation import AbsVal, Clip, Constant, Exp, Log, Power, Swish, Threshold
from .angle_margins import AdaptiveScaleMargin, AngleMargin
from .arithmetic import Axpy, ChannelScale, Eltwise, Reduction
from .batch_margins import GlobalLSEMargin, HardMargin, LabelSpecificAffine, RadialRemovalMargin
from .batch_normalization_forks import MovingBN, SegNetBN
from .convolution import Convolution, Im2col
from .detection import DetectionOutput, PriorBox
from .face import Flip, InnerDistance, LabelSpecificAdd, Normalize, SSDNormalize
from .face_loss import CenterLoss, GeneralContrastiveLoss, GeneralTripletLoss
from .face_loss_forks import FocalLoss, InterClass, RangeLoss, RankHardLoss, RingLoss, TripletLoss
from .face_margin import LabelSpecificMargin, LabelSpecificRescale, MarginInnerProduct
from .inner_product import Embed, InnerProduct
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
from .normalization import MVN, BatchNorm, Bias, LRNAcrossChannels, LRNWithinChannel, Scale
from .pooling import SPP, AvePooling, MaxPooling, StochasticPooling
from .prelu import PReLU
from .preprocessing import Preprocess
from .recurrent import LSTM, RNN
from .region_pooling import PSROIPooling, ROIPooling
from .resampling import Interp, MaskUpsample, NearestUpsample
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

__all__ = [name for name in dir() if name[0].isupper()]
