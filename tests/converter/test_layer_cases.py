"""The case table: a row for every layer type that Caffe's recordings do not cover, against bare NumPy.

Each row runs in torch (values, float64 gradients) and in ONNX Runtime. A registered type without a row
here, a recording, or a test of its own named in ELSEWHERE fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from caffeport.operators import builtin
from support import golden_cases, nets
from support.source_files import check_style, outputs_of

RTOL, ATOL = 1e-4, 1e-5  # float32 against float64, sums of at most some hundred terms


@dataclass
class Row:
    """A layer, the shapes of its bottoms, and its formula: f(bottoms, blobs) -> top or [tops]."""

    kind: str
    parameters: str
    shapes: list[tuple[int, ...]]
    formula: Callable
    title: str = ""
    tops: int = 1
    onnx: bool = True
    gradients: bool = True
    values: dict[int, np.ndarray] = field(default_factory=dict)  # bottoms that are not random

    @property
    def id(self) -> str:
        return f"{self.kind}-{self.title}" if self.title else self.kind


def convolve(x, w, b, stride, pad, dilation, group):
    """Any number of spatial axes, by the definition."""
    axes = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *[(p, p) for p in pad]])
    reach = [d * (k - 1) + 1 for k, d in zip(w.shape[2:], dilation, strict=True)]
    size = [(x.shape[i + 2] - reach[i]) // stride[i] + 1 for i in range(axes)]
    y = np.zeros((x.shape[0], w.shape[0], *size))
    inputs, outputs = x.shape[1] // group, w.shape[0] // group
    for position in np.ndindex(*size):
        window = tuple(
            slice(position[i] * stride[i], position[i] * stride[i] + reach[i], dilation[i]) for i in range(axes)
        )
        for g in range(group):
            patch = x[(slice(None), slice(g * inputs, (g + 1) * inputs), *window)].reshape(x.shape[0], -1)
            rows = w[g * outputs : (g + 1) * outputs].reshape(outputs, -1)
            y[(slice(None), slice(g * outputs, (g + 1) * outputs), *position)] = patch @ rows.T
    return y if b is None else y + b.reshape(1, -1, *[1] * axes)


def pool(x, kernel, stride, pad, how):
    """Caffe's pooling, position by position, as CAFFE's documentation defines its windows and divisors."""
    sizes = x.shape[2:]
    counts = [int(np.ceil((n + 2 * p - k) / s)) + 1 for n, k, s, p in zip(sizes, kernel, stride, pad, strict=True)]
    if any(pad):
        counts = [c - ((c - 1) * s >= n + p) for c, n, s, p in zip(counts, sizes, stride, pad, strict=True)]
    y = np.zeros((*x.shape[:2], *counts))
    for position in np.ndindex(*counts):
        starts = [i * s - p for i, s, p in zip(position, stride, pad, strict=True)]
        ends = [min(a + k, n + p) for a, k, n, p in zip(starts, kernel, sizes, pad, strict=True)]
        area = np.prod([b - a for a, b in zip(starts, ends, strict=True)])
        window = x[:, :, max(starts[0], 0) : min(ends[0], sizes[0]), max(starts[1], 0) : min(ends[1], sizes[1])]
        window = window.reshape(*x.shape[:2], -1)
        if how == "AVE":
            with np.errstate(invalid="ignore", divide="ignore"):
                y[(slice(None), slice(None), *position)] = window.sum(-1) / area
        else:
            y[(slice(None), slice(None), *position)] = window.max(-1) if window.shape[-1] else np.finfo(np.float32).min
    return y


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


CONV = f"convolution_param {{ num_output: 4 {nets.GAUSS} %s }}"
GAUSSIAN = 'filler { type: "gaussian" }'


def pooling_rows():
    """Windows whose ends other converters round or divide wrongly."""
    odd = [(2, 3, 0), (3, 3, 1), (3, 4, 2), (3, 2, 2), (2, 5, 1), (4, 3, 3), (1, 2, 0)]
    for how in ("MAX", "AVE"):
        for kernel, stride, pad in odd:
            text = f"pooling_param {{ pool: {how} kernel_size: {kernel} stride: {stride} pad: {pad} }}"

            def formula(x, blobs, window=(kernel, stride, pad), how=how):
                return pool(x[0], *[(size, size) for size in window], how)

            # A window with no pixel is 0 / 0 and has no gradient.
            every_window = stride <= kernel or pad > 0
            title = f"{how}-k{kernel}s{stride}p{pad}"
            yield Row("Pooling", text, [(2, 3, 7, 9)], formula, title, gradients=every_window)
        # Eight rows: the third window of two rows starts at the ninth and sees no pixel.
        text = f"pooling_param {{ pool: {how} kernel_size: 2 stride: 4 }}"
        yield Row(
            "Pooling", text, [(2, 3, 8, 8)], lambda x, b, how=how: pool(x[0], (2, 2), (4, 4), (0, 0), how),
            f"{how}-empty-window", gradients=False,
        )  # fmt: skip
    text = "pooling_param { pool: AVE kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 2 pad_w: 0 }"
    yield Row("Pooling", text, [(2, 3, 8, 9)], lambda x, b: pool(x[0], (3, 2), (2, 3), (2, 0), "AVE"), "one-pad")


ROWS = [
    Row("ReLU6", "", [(2, 3, 4, 4)], lambda x, b: np.clip(x[0], 0, 6)),
    Row("HardSwish", "", [(2, 3, 4, 4)], lambda x, b: x[0] * np.clip(x[0] + 3, 0, 6) / 6),
    Row("Axpy", "", [(2, 3, 1, 1), (2, 3, 4, 5), (2, 3, 4, 5)], lambda x, b: x[0] * x[1] + x[2]),
    Row("ChannelScale", "", [(2, 3, 4, 5), (2, 4, 5)], lambda x, b: x[0] * x[1][:, None]),
    Row("ChannelScale", "", [(2, 3, 1, 1), (2,)], lambda x, b: x[0] * x[1].reshape(2, 1, 1, 1), "gnap"),
    Row(
        "ShuffleChannel", "shuffle_channel_param { group: 3 }", [(2, 6, 4, 5)],
        lambda x, b: x[0].reshape(2, 3, 2, 4, 5).transpose(0, 2, 1, 3, 4).reshape(2, 6, 4, 5),
    ),
    Row(
        "DepthwiseConvolution", CONV % "kernel_size: 3 stride: 2 pad: 1", [(2, 4, 7, 6)],
        lambda x, b: convolve(x[0], *b, (2, 2), (1, 1), (1, 1), 4),
    ),
    Row(
        "ConvolutionDepthwise", CONV % "kernel_size: 3", [(2, 4, 7, 6)],
        lambda x, b: convolve(x[0], *b, (1, 1), (0, 0), (1, 1), 4),
    ),
    Row(
        "Convolution", CONV % "kernel_size: 3 axis: 2", [(2, 3, 5, 8, 7)],
        lambda x, b: convolve(x[0].reshape(6, 5, 8, 7), *b, (1, 1), (0, 0), (1, 1), 1).reshape(2, 3, 4, 6, 5),
        "axis2",
    ),
    Row("Convolution", CONV % "group: 1", [(2, 5)], lambda x, b: x[0] @ b[0].T + b[1], "no-space"),
    Row(
        "Convolution", CONV % "kernel_h: 1 kernel_w: 3 stride_h: 2 stride_w: 1 pad_h: 0 pad_w: 2 dilation: 2 group: 2",
        [(2, 6, 7, 8)], lambda x, b: convolve(x[0], *b, (2, 1), (0, 2), (2, 2), 2), "uneven",
    ),
    Row(
        "Convolution", CONV % "kernel_size: 2", [(2, 3, 5, 4), (2, 3, 5, 4)],
        lambda x, b: [convolve(v, *b, (1, 1), (0, 0), (1, 1), 1) for v in x], "two-bottoms", tops=2,
    ),
    Row("InnerProduct", f"inner_product_param {{ num_output: 4 axis: -1 {nets.GAUSS} }}", [(2, 3, 5)],
        lambda x, b: x[0] @ b[0].T + b[1], "last-axis"),
    Row("InnerProduct", f"inner_product_param {{ num_output: 4 axis: 2 transpose: true {nets.GAUSS} }}", [(2, 3, 5, 2)],
        lambda x, b: x[0].reshape(2, 3, 10) @ b[0] + b[1], "transposed-axis2"),
    Row("InnerProduct", "inner_product_param { bias_term: false }", [(3, 5), (4, 5), (4,)],
        lambda x, b: x[0] @ x[1].T + x[2], "three-bottoms"),
    Row("Softmax", "softmax_param { axis: 2 }", [(2, 3, 4, 5)], lambda x, b: softmax(x[0], 2), "axis2"),
    Row("PReLU", f"prelu_param {{ {GAUSSIAN} }}", [(2, 3, 4)],
        lambda x, b: np.maximum(x[0], 0) + b[0][:, None] * np.minimum(x[0], 0), "3d"),
    Row("Scale", f"scale_param {{ axis: -1 bias_term: true {GAUSSIAN} bias_{GAUSSIAN} }}", [(2, 3, 4)],
        lambda x, b: x[0] * b[0] + b[1], "last-axis"),
    Row("Scale", "", [(2, 3, 4), ()], lambda x, b: x[0] * x[1], "scalar-bottom"),
    Row("Reduction", "reduction_param { operation: MEAN axis: -2 coeff: -2 }", [(2, 3, 4, 5)],
        lambda x, b: -2 * x[0].mean((2, 3)), "negative-axis"),
    Row("Reduction", "reduction_param { operation: SUMSQ }", [(2, 3)], lambda x, b: (x[0] ** 2).sum(), "to-scalar"),
    Row("Reshape", "reshape_param { shape { dim: -1 dim: 10 } axis: -3 num_axes: 2 }", [(2, 3, 4, 5)],
        lambda x, b: x[0].reshape(2, 3, 2, 10), "negative-axis"),
    Row("Crop", "crop_param { axis: 1 offset: 1 offset: 0 offset: 2 }", [(2, 5, 6, 7), (2, 3, 4, 4)],
        lambda x, b: x[0][:, 1:4, 0:4, 2:6], "offsets"),
    Row("Eltwise", "eltwise_param { operation: SUM coeff: 1 coeff: -1 }", [(2, 3), (2, 3)],
        lambda x, b: x[0] - x[1], "difference"),
    Row("LRN", "lrn_param { local_size: 3 alpha: 2 beta: 0.5 norm_region: WITHIN_CHANNEL k: 9 }", [(1, 2, 4, 5)],
        lambda x, b: x[0] * (1 + 2 / 9 * sum(
            np.pad(x[0] ** 2, ((0, 0), (0, 0), (1, 1), (1, 1)))[:, :, i : i + 4, j : j + 5]
            for i in range(3) for j in range(3)
        )) ** -0.5, "within-ignores-k"),
    Row("MVN", "mvn_param { eps: 0.5 }", [(2, 3, 4, 5)],
        lambda x, b: (x[0] - x[0].mean((2, 3), keepdims=True)) / (x[0].std((2, 3), keepdims=True) + 0.5), "eps",
        gradients=False),  # Caffe's, which leaves eps out: tests/converter/test_in_place.py
    Row("InfogainLoss", "", [(4, 3), (4,), (3, 3)],
        lambda x, b: -(x[2][x[1].astype(int)] * np.log(softmax(x[0], 1))).sum() / 4, onnx=False, gradients=False,
        values={1: np.array([0, 2, 1, 2])}),
    Row("Normalize", "norm_param { across_spatial: false channel_shared: false }", [(2, 3, 4, 5)],
        lambda x, b: x[0] / np.sqrt((x[0] ** 2).sum(1, keepdims=True) + 1e-10) * b[0][:, None, None], "ssd"),
    Row("InnerDistance", "inner_distance_param { axis: 2 }", [(2, 3, 4), (5, 4)],
        lambda x, b: ((x[0][:, :, None] - x[1]) ** 2).sum(-1), "axis2"),
    Row("Flip", "flip_param { flip_width: false flip_height: true }", [(1, 2, 3, 4)],
        lambda x, b: x[0][:, :, ::-1], "height"),
    Row("SPP", "spp_param { pyramid_height: 2 pool: AVE }", [(2, 3, 7, 6)],
        lambda x, b: np.concatenate([
            pool(x[0], (7, 6), (7, 6), (0, 0), "AVE").reshape(2, -1),
            pool(x[0], (4, 3), (4, 3), (1, 0), "AVE").reshape(2, -1),
        ], 1), "average"),
    Row(
        "SPP",
        "spp_param { pyramid_height: 1 pool: MAX }",
        [(2, 3, 5, 4)],
        lambda x, b: x[0].max((2, 3), keepdims=True),
        "one-level-keeps-its-axes",
    ),
    Row(
        "MVN",
        "mvn_param { normalize_variance: false }",
        [(2, 3, 4)],
        lambda x, b: (x[0] - x[0].mean(2, keepdims=True))[..., None],
        "3d-has-4d-top",
    ),
    Row("ArgMax", "", [(3,)], lambda x, b: np.zeros((3, 1, 1)), "1d", gradients=False),
    Row(
        "Pooling",
        "pooling_param { kernel_size: 1 stride: 3 }",
        [(1, 1, 5, 4)],
        lambda x, b: [pool(x[0], (1, 1), (3, 3), (0, 0), "MAX"), np.array([[[[0, 3], [12, 15], [-1, -1]]]])],
        "mask-of-no-pixel",
        tops=2,
        gradients=False,
    ),
    *pooling_rows(),
]  # fmt: skip

# Types whose tests need more than a formula of bottoms and blobs.
ELSEWHERE = {
    **dict.fromkeys(["Data", "ImageData", "HDF5Data", "MemoryData", "DummyData", "WindowData"], "test_inputs.py"),
    **dict.fromkeys(
        ["VideoData", "VideoWithVoxelTruthData", "ImageSegData", "WindowSegData", "ImageLabelmapData"],
        "test_data_forks.py",
    ),
    **dict.fromkeys(["DenseImageData", "DetectionData", "EvalData"], "test_data_forks.py"),
    "HDF5Output": "test_upgrade.py",
    "Split": "test_to_onnx.py",
    **dict.fromkeys(["LabelSpecificRescale", "LabelSpecificMargin"], "test_face_margins.py"),
    **dict.fromkeys(["PSROIPooling", "ROIPooling", "Interp", "Upsample", "PixelShuffle"], "test_fork_layers.py"),
    "BN": "test_batch_normalization_forks.py",
    **dict.fromkeys(
        [
            "Python:rpn.anchor_target_layer.AnchorTargetLayer",
            "Python:rpn.proposal_target_layer.ProposalTargetLayer",
        ],
        "test_rpn_training.py",
    ),
    **dict.fromkeys(
        [
            "ROIWarping",
            "Python:pylayer.mask_layer.MaskLayer",
            "Python:pylayer.stage_bridge_layer.StageBridgeLayer",
            "Python:layers.text_proposal_layer.ProposalLayer",
        ],
        "test_mask_cascade.py",
    ),
    **dict.fromkeys(
        ["DetectionGroupLoss", "DetectionLoss", "DetectionGroupAccuracy", "DetectionAccuracy", "ImageGtData"],
        "test_detection_training.py",
    ),
    **dict.fromkeys(["HardMining", "ProposalTarget", "BboxAccuracy"], "test_region_choice.py"),
    **dict.fromkeys(["DecodeBBox", "ScaleRoute", "FrcnnOutput", "BoxGroupOutput", "BoxOutput"], "test_cascade.py"),
    **dict.fromkeys(["ROIAlign", "MaskResize", "MaskPooling"], "test_region_sampling.py"),
    **dict.fromkeys(
        ["SmoothL1Loss", "SmoothL1LossOHEM", "SoftmaxWithLossOHEM", "BoxAnnotatorOHEM"], "test_box_losses.py"
    ),
    **dict.fromkeys(
        [
            "Proposal",
            "Python:ProposalLayer",
            "Python:SSH.layers.proposal_layer.ProposalLayer",
            "Python:pylayer.proposal_layer.ProposalLayer",
        ],
        "test_proposals.py",
    ),
    **dict.fromkeys(["MultiBoxLoss", "AnnotatedData"], "test_ssd_training.py"),
    "PriorBoxClustered": "test_prior_box_dialects.py",
    "DetectionEvaluate": "test_detection_evaluate.py",
    **dict.fromkeys(["Reorg", "YoloDetectionOutput", "Yolov3DetectionOutput"], "test_yolo_detection.py"),
    **dict.fromkeys(["RegionLoss", "Yolov3", "YoloSeg"], "test_yolo_loss.py"),
    **dict.fromkeys(["ResizeNearestNeighbor", "ResizeBilinear", "UpsampleDarknet", "DepthToSpace"], "test_space.py"),
    **dict.fromkeys(["SpaceToDepth", "SpaceToBatchND", "BatchToSpaceND"], "test_space.py"),
    **dict.fromkeys(["Reverse", "Transpose", "Squeeze", "ExpandDimsND", "Stack", "Unstack"], "test_axes.py"),
    **dict.fromkeys(["TileND", "BroadcastTo", "Gather", "Piece", "StridedSlice"], "test_axes.py"),
    **dict.fromkeys(["Pad", "MirrorPad", "CropCenter"], "test_axes.py"),
    **dict.fromkeys(["Convolution3D", "Deconvolution3D", "Pooling3D", "NdConvolution", "NdPooling"], "test_volumes.py"),
    **dict.fromkeys(["Lstm", "ContinuationIndicator", "CtcLoss"], "test_sequences.py"),
    "L1Loss": "test_loss_forks.py",
    **dict.fromkeys(["ConvLSTM", "FlowWarp", "ChannelNorm"], "test_video.py"),
    **dict.fromkeys(["NormL2", "Arcface", "NoiseTolerantFR"], "test_noise_face.py"),
    **dict.fromkeys(["Unpooling", "EltwiseAccuracy"], "test_deconvnet.py"),
    "MultiStageMeanfield": "test_mean_field.py",
    **dict.fromkeys(["Correlation", "Resample"], "test_matching.py"),
    **dict.fromkeys(["AttPooling", "PwAttend"], "test_attention.py"),
    "Local": "test_local.py",
    **dict.fromkeys(["Mish", "SeLU", "SeLu", "SELU", "HardSigmoid", "HSigmoid", "HardTanH"], "test_functions.py"),
    **dict.fromkeys(["Softplus", "Softsign", "ThresholdedReLU", "ScaledTanH", "LogSoftmax"], "test_functions.py"),
    **dict.fromkeys(["Floor", "Ceil", "Round", "Atan", "Sin", "Mul", "Add", "Sub", "Div"], "test_functions.py"),
    **dict.fromkeys(["Maximum", "Minimum", "ReduceSum", "ReduceMean", "ReduceMax"], "test_functions.py"),
    **dict.fromkeys(["ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"], "test_functions.py"),
    **dict.fromkeys(["CosinAddm", "CombinedMargin", "AdaCosAddmScale"], "test_angle_margins.py"),
    **dict.fromkeys(
        ["LabelSpecificHardMargin", "RadialRemovalMargin", "LabelSpecificAffine", "GlobalLSEMargin"],
        "test_batch_margins.py",
    ),
    **dict.fromkeys(
        ["TripletLoss", "RingLoss", "FocalLoss", "RankHardLoss", "RangeLoss", "InterClass"], "test_face_loss_forks.py"
    ),
}


def recorded_types() -> set[str]:
    found = set()
    for path in (
        file for folder in ("ops", "face_layers", "ssd") for file in (golden_cases.GOLDEN / folder).glob("*.npz")
    ):
        with np.load(path) as stored:
            found.update(re.findall(r'type:\s*"(\w+)"', str(stored["prototxt"])))
    return found


def test_every_layer_type_has_a_case():
    here = Path(__file__).parent
    told = {kind for kind, module in ELSEWHERE.items() if f'"{kind}"' in (here / module).read_text()}
    assert set(builtin()) - recorded_types() - {row.kind for row in ROWS} - told == set()


def build(row: Row, folder: Path):
    names = [f"x{i}" for i in range(len(row.shapes))]
    tops = " ".join(f"y{i}" for i in range(row.tops))
    text = nets.inputs(**dict(zip(names, row.shapes, strict=True)))
    net = nets.load(folder, text + nets.layer(row.kind, " ".join(names), tops, row.parameters))
    random = np.random.default_rng(0)
    values = [random.standard_normal(shape) for shape in row.shapes]
    return net, [row.values.get(i, value) for i, value in enumerate(values)]


def expected(row: Row, net, values) -> list[np.ndarray]:
    made = row.formula(values, [blob.astype(np.float64) for blob in net.layers[-1].blobs])
    return made if isinstance(made, list) else [made]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_torch(row, tmp_path):
    net, values = build(row, tmp_path)
    made = net.to_torch().blobs(*(torch.tensor(value, dtype=torch.float32) for value in values))
    for i, wanted in enumerate(expected(row, net, values)):
        assert net.blob_shapes[f"y{i}"] == wanted.shape
        np.testing.assert_allclose(made[f"y{i}"].detach().numpy(), wanted, RTOL, ATOL)


@pytest.mark.parametrize("row", [row for row in ROWS if row.onnx], ids=lambda row: row.id)
def test_onnx(row, tmp_path, recwarn):
    net, values = build(row, tmp_path)
    for opset in (13, 17, 18, 21):
        net.to_onnx(tmp_path / "n.onnx", opset=opset)
        session = onnxruntime.InferenceSession(str(tmp_path / "n.onnx"), providers=["CPUExecutionProvider"])
        made = session.run(None, {f"x{i}": value.astype(np.float32) for i, value in enumerate(values)})
        for found, wanted in zip(made, expected(row, net, values), strict=True):
            assert found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, RTOL, ATOL)


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in ROWS if not row.kind.endswith("Loss")], ids=lambda row: row.id)
def test_source(row, tmp_path):
    """As a file of PyTorch source."""
    net, values = build(row, tmp_path)
    made = outputs_of(net, tmp_path / "written.py", dict(zip(net.inputs, values, strict=True)))
    for value, wanted in zip(net.layers[-1].outputs, expected(row, net, values), strict=True):
        np.testing.assert_allclose(made[value.name], wanted, RTOL, ATOL)
    check_style(tmp_path / "written.py")


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in ROWS if row.gradients], ids=lambda row: row.id)
def test_gradients(row, tmp_path):
    net, values = build(row, tmp_path)
    module = net.to_torch().double()
    parameters = list(module.parameters())

    def outputs(*tensors):
        made = module(*tensors[: len(values)])
        return tuple(made.values()) if isinstance(made, dict) else made

    tensors = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values]
    assert torch.autograd.gradcheck(outputs, (*tensors, *parameters), atol=1e-6)
