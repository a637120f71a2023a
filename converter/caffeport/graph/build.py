"""From files to a Net: parse, upgrade, filter by phase, connect, infer shapes, attach weights.

The rules are those of BVLC/caffe's ``net.cpp``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import NetError, did_you_mean
from ..formats import caffemodel, prototxt
from ..formats.prototxt import Message
from ..formats.upgrade import upgrade
from ..memory import without_collections
from ..operators import registry
from ..operators.base import Operator, Phase
from ..operators.custom import CustomLayers, custom_operators
from .connect import connect, split
from .in_place import tell_in_place
from .inputs import resolve_input_shapes
from .net import Net
from .net_fields import NetState
from .options import Options
from .params import make_params
from .prior_boxes import settle_prior_boxes
from .shapes import infer_shapes
from .weights import attach


def load(
    prototxt_path: str | Path,
    weights: str | Path | None = None,
    phase: str = "test",
    stages: Sequence[str] = (),
    custom_layers: CustomLayers = (),
    *,
    level: int = 0,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    allow_unknown_fields: bool = False,
    allow_missing_weights: bool | None = None,
    bn: str | None = None,
    exact_gradients: bool = False,
    prior_boxes: str | None = None,
    layer_options: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Net:
    """Load a Caffe net.

    prototxt_path: the net's text (deploy or train; V0, V1 or V2).
    weights: a ``.caffemodel`` (or ``.caffemodel.h5``); without it Caffe's fillers initialise the blobs.
    phase: "test" or "train"; "train" keeps loss layers, and data layers' tops become inputs.
    stages, level: the state that include and exclude rules are checked against.
    custom_layers: Operator subclasses of your own, or the path of a Python file that defines them; they win over the
        built-in ones.
    input_shapes: {blob: shape}; replaces declared shapes, and makes an input of a bottom that no layer makes.
    allow_unknown_fields: ignore fields that nothing knows instead of refusing them.
    allow_missing_weights: leave layers that ``weights`` lacks to their fillers, as Caffe does without a word;
        by default True in the train phase (a new head) and False in the test phase.
    bn: what a 4-blob "BN" layer stores last: "variance" (PSPNet) or "inverse_std" (caffe-windows).
    exact_gradients: the true derivative where a fork's backward pass computes something else; by default
        training repeats Caffe's numbers.
    prior_boxes: whose boxes PriorBox layers make of a text without a fork's own fields: "ssd", "textboxes" or
        "faceboxes"; by default those for which the net's convolutions have channels.
    layer_options: settings of layers that no text tells, by name: those of a Python layer's configuration, such as
        ``{"rpn_post_nms_top_n": 1000}`` for ProposalLayer.
    seed: of the fillers.

    Raises CaffeportError (PrototxtError, CaffemodelError, NetError, WeightsError): one line that names
    the file and line, or the layer, and the way out.
    """
    phases = {"test": Phase.TEST, "train": Phase.TRAIN}
    if str(phase).lower() not in phases:
        raise NetError(f'phase is "test" or "train", got "{phase}"')
    chosen = phases[str(phase).lower()]
    if isinstance(stages, str):
        stages = (stages,)
    if bn not in (None, "variance", "inverse_std"):
        raise NetError(f'bn is "variance" or "inverse_std", got "{bn}"')
    custom = custom_operators(custom_layers)
    _check_layer_options(layer_options or {}, custom)
    options = Options(
        phase=chosen,
        stages=tuple(stages),
        level=level,
        custom_layers=custom,
        input_shapes={name: tuple(shape) for name, shape in (input_shapes or {}).items()},
        allow_unknown_fields=allow_unknown_fields,
        allow_missing_weights=chosen is Phase.TRAIN if allow_missing_weights is None else allow_missing_weights,
        layer_options={
            **(layer_options or {}),
            "bn": bn,
            "exact_gradients": exact_gradients,
            "prior_boxes": prior_boxes,
        },
        seed=seed,
    )
    with without_collections():
        message = upgrade(prototxt.load(prototxt_path), registry(options.custom_layers))
        stored = caffemodel.read(weights) if weights is not None else None
        net = build(message, stored, options)
        if stored is not None:
            attach(net, stored, allow_missing=options.allow_missing_weights)
            net.weights_path = Path(stored.path)
            net.weights_digest = stored.sha256
    return net


def _check_layer_options(options: Mapping[str, float], custom_layers: Sequence[type[Operator]]) -> None:
    """Refuse an option that no layer type has."""
    if not options:
        return
    known = sorted({name for cls in registry(custom_layers).values() for name in cls.option_names})
    for name in options:
        if name not in known:
            raise NetError(
                f'layer_options names "{name}", which is an option of no layer{did_you_mean(name, known)}; '
                f"known: {', '.join(known)}"
            )


def build(message: Message, stored: caffemodel.Caffemodel | None, options: Options) -> Net:
    """Return a Net from upgraded text. ``stored`` weights only tell shapes here; weights.attach copies them."""
    net_fields, layer_messages = split(message, options)
    state = NetState(options.phase, options.level or net_fields.state.level, [*net_fields.state.stage, *options.stages])
    layers, wanted = connect(message, layer_messages, state, stored, options)
    settle_prior_boxes(layers, options.layer_options)
    pending = resolve_input_shapes(layers, options.input_shapes, stored, message)
    infer_shapes(layers, pending, options.input_shapes)
    tell_in_place(layers, options.phase)
    make_params(layers, wanted, options.seed)
    return Net(net_fields.name, layers, message, options)
