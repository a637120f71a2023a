"""The toy's nets and solvers: LeNet++ of ``prototxt/mnist`` with one head or another, as text that Caffe trains too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from caffeport import Message
from caffeport.formats import prototxt
from caffeport.formats.prototxt import Scalar
from normface.errors import TrainingError

from .toy_heads import HEADS

ALL_DIGITS = tuple(range(10))
STEADY_SCALE = 15.0
LEARNED = 0.0
"""As a head's option ``scale``: learned, from the shipped net's own start."""


@dataclass(frozen=True)
class Recipe:
    """One training. head: of toy_heads. size: the feature's. options: the head's own, (name, value).

    digits: the classes. from_softmax: start from the net that was trained by plain softmax on the same digits and
    seed, as NormFace finetunes: from random weights, a normalised 2-D feature learns nothing in so short a time.
    """

    head: str
    size: int = 2
    options: tuple[tuple[str, float], ...] = ()
    digits: tuple[int, ...] = ALL_DIGITS
    seed: int = 0
    from_softmax: bool = True
    rate: float = field(default=1.0, repr=False)
    """The plan's finetuning_rate times this."""

    def start(self) -> Recipe | None:
        """What has to be trained before."""
        return Recipe("softmax", self.size, (), self.digits, self.seed, False) if self.from_softmax else None


@dataclass(frozen=True)
class Plan:
    """How large: images of side x side pixels, batch, iterations of the softmax start and of what follows."""

    side: int = 14
    batch: int = 50
    start: int = 400
    iterations: int = 250
    finetuning_rate: float = 0.005
    """base_lr after the softmax start, which has the shipped 0.01; NormFace finetunes at less too."""
    clip: float = 2.0
    """clip_gradients after the start: at s = 30 the first steps would else throw the features far out."""

    def of(self, recipe: Recipe) -> int:
        """A net that does not start from softmax gets the iterations of both."""
        return self.iterations if recipe.from_softmax else self.start


DEFAULT = Plan()
FULL = Plan(side=28, batch=100, start=2500, iterations=2500)


def steady_rate(scale: float) -> float:
    """What the finetuning rate is multiplied by at s: the slope of the loss by an angle is s times that of the scores'
    softmax, and without this a large scale learns more than a small one in the same iterations."""
    return STEADY_SCALE / scale


def plan_of(full: bool) -> Plan:
    return FULL if full else DEFAULT


def nets_folder() -> Path:
    """The repository's prototxt/mnist, beside this package."""
    return Path(__file__).resolve().parents[1] / "prototxt" / "mnist"


def net_text(recipe: Recipe, plan: Plan) -> str:
    """The train_test prototxt."""
    head = HEADS.get(recipe.head)
    if head is None:
        raise TrainingError(f"no head {recipe.head!r}; there are {', '.join(HEADS)}")
    shipped = "normalized_softmax" if recipe.head == "normalized" else "softmax"
    net = _sized(f"{shipped}_{{}}d_train_test", recipe.size)
    for layer in net.messages("layer"):
        if layer.text("type") == "ImageData":
            fields = layer.messages("image_data_param")[0]
            for name, value in (("batch_size", plan.batch), ("new_height", plan.side), ("new_width", plan.side)):
                _set(fields, name, value)
    classes, options = len(recipe.digits), dict(recipe.options)
    if head.text is None:
        _adapt_shipped_head(net, classes, recipe.size, **options)
    else:
        first = next(i for i, field in enumerate(net.fields) if "ip1" in _bottoms(field.value))
        own = prototxt.parse(head.text(classes, recipe.size, **options), source=f"the head {recipe.head}")
        net.fields = net.fields[:first] + own.fields
    return str(net)


def solver_text(recipe: Recipe, plan: Plan) -> str:
    """The shipped solver's, its schedule compressed to the plan's iterations."""
    solver = prototxt.load(nets_folder() / f"softmax_{shipped_size(recipe.size)}d_solver.prototxt")
    iterations = plan.of(recipe)
    shorter = iterations / int(solver.text("max_iter"))
    steps = [max(1, round(int(step) * shorter)) for step in solver.texts("stepvalue")]
    solver.remove("net", "max_iter", "stepvalue", "snapshot", "snapshot_prefix", "test_interval", "solver_mode")
    if recipe.from_softmax:
        _set(solver, "base_lr", plan.finetuning_rate * recipe.rate)
        solver.add("clip_gradients", plan.clip)
    for step in steps:
        solver.add("stepvalue", step)
    for name in ("max_iter", "snapshot", "test_interval"):
        solver.add(name, iterations)
    solver.add("net", "train_test.prototxt", quoted=True)
    solver.add("snapshot_prefix", "trained", quoted=True)
    solver.add("random_seed", recipe.seed)
    solver.add("solver_mode", "CPU")
    return str(solver)


def deploy_text(size: int) -> str:
    """The net of the feature alone."""
    return str(_sized("deploy_{}d", size))


def shipped_size(size: int) -> int:
    """Of the files that a feature of that size comes from: 2 and 3 are there, others differ by a number."""
    return size if size in (2, 3) else 3


def _sized(name: str, size: int) -> Message:
    net = prototxt.load(nets_folder() / f"{name.format(shipped_size(size))}.prototxt")
    (feature,) = [layer for layer in net.messages("layer") if layer.text("name") == "ip1"]
    _set(feature.messages("inner_product_param")[0], "num_output", size)
    return net


def _adapt_shipped_head(net: Message, classes: int, size: int, scale: float = LEARNED) -> None:
    for layer in _layers_after_feature(net):
        if layer.text("name") == "ip2":
            _set(layer.messages("inner_product_param")[0], "num_output", classes)
        elif layer.text("name") == "weight":
            shape = layer.messages("parameter_param")[0].messages("shape")[0]
            shape.remove("dim")
            shape.add("dim", classes)
            shape.add("dim", size)
        elif layer.text("name") == "cosine_scale" and scale != LEARNED:
            _set(layer.messages("scale_param")[0].messages("filler")[0], "value", scale)
            fixed = Message()
            fixed.add("lr_mult", 0)
            fixed.add("decay_mult", 0)
            layer.add("param", fixed)


def _layers_after_feature(net: Message) -> Iterator[Message]:
    after = False
    for layer in net.messages("layer"):
        if after:
            yield layer
        after = after or layer.text("name") == "ip1"


def _bottoms(value: object) -> list[str]:
    return value.texts("bottom") if isinstance(value, Message) else []


def _set(message: Message, name: str, value: float) -> None:
    """Where the field stands, so that a text with the shipped values is the shipped text."""
    (field,) = message.named(name)
    field.value = Scalar(repr(value), "number")
