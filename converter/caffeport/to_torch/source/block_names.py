"""Names within a block's class: its own, its attributes' and its constructor's arguments'."""

from __future__ import annotations

import builtins
import keyword
import re
from collections import Counter
from collections.abc import Sequence

from ...naming import Names
from .repeats import common_start
from .steps import Attribute, Step

_SHORT = {
    "Conv1d": "Conv", "Conv2d": "Conv", "Conv3d": "Conv", "ConvTranspose2d": "Deconv",
    "BatchNorm1d": "BN", "BatchNorm2d": "BN", "BatchNorm3d": "BN", "MaxPool2d": "Pool", "AvgPool2d": "Pool",
}  # fmt: skip
_LONGEST_NAME = 48
"""Characters, so that lines stay short; what was left off stands in the comment."""
_COMMONPLACE = {"conv", "res", "layer", "relu", "bn", "block", "branch", "stage", "unit", "net"}
_MODULE = {"forward", "training", "weight", "bias", "type", "train", "eval", "apply", "half", "float", "to", "cpu"}


def is_channels(name: str) -> bool:
    """Whether an argument counts channels."""
    return name in ("num_features", "num_parameters", "in_features", "out_features") or name.endswith("channels")


def safe(text: str, kind: str) -> str:
    """An identifier that looks like ``text``, and says ``kind`` where it cannot."""
    name = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_")
    name = re.sub(r"__+", "_", name)[:_LONGEST_NAME].rstrip("_")
    name = name if name[:1].isalpha() else f"{kind}{'_' if name[:1].isalpha() else ''}{name}"
    return f"{name}_" if keyword.iskeyword(name) or keyword.issoftkeyword(name) or name in dir(builtins) else name


def attribute_names(occurrences: Sequence[Sequence[Step]]) -> tuple[str, ...]:
    """What most occurrences call each step, beyond what all names of one occurrence share; "" for expressions."""
    relative = [_relative(steps) for steps in occurrences]
    first, taken, names = occurrences[0], Names(_MODULE), []
    for place, step in enumerate(first):
        if step.attribute is None:
            names.append("")
            continue
        (name, number), *_ = Counter(row[place] for row in relative).most_common(1)
        usual = 2 * number > len(relative) and name != "" and len(name) < 25
        names.append(taken.take(safe(name, kind_of(step.attribute)) if usual else kind_of(step.attribute)))
    return tuple(names)


def kind_of(attribute: Attribute) -> str:
    """What a module is called that has no name of its own."""
    if attribute.kind == "unit" or attribute.kind == "conv":
        if attribute.constructor.startswith(("Conv", "nn.Conv")):
            return "dw" if "depthwise" in attribute.features else "conv"
        return "block"
    return attribute.kind


def _relative(steps: Sequence[Step]) -> list[str]:
    """The names of one occurrence without what begins and what ends all that have weights."""
    weighted = [step.name for step in steps if _has_weights(step)]
    if len(weighted) < 2:
        return ["" for _ in steps]
    start = common_start(weighted)
    end = _common_end([name[len(start) :].strip("_/-. ") for name in weighted])
    return [_cut(step.name, start, end) if step.attribute is not None else "" for step in steps]


def _has_weights(step: Step) -> bool:
    return step.attribute is not None and bool(step.attribute.state or step.parts)


def _cut(name: str, start: str, end: str) -> str:
    if not name.startswith(start):
        return ""
    rest = name[len(start) :].strip("_/-. ")
    return rest[: len(rest) - len(end)].strip("_/-. ") if end and rest.endswith(end) else rest


def _common_end(names: Sequence[str]) -> str:
    """What all names end with, from a separator or from the first digit on."""
    turned = [name[::-1] for name in names]
    first, last = min(turned), max(turned)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    while length:
        ends = [name[len(name) - length :] for name in names]
        begins = {name[len(name) - length - 1 : len(name) - length] for name in names}
        letter_before = any(b.isalpha() for b in begins)
        if not ends[0][0].isalnum() or not letter_before or (ends[0][0].isdigit() and letter_before):
            return ends[0]
        length -= 1
    return ""


def instance_name(steps: Sequence[Step], others: Sequence[Step] = ()) -> str:
    """What a block is called: what its layers' names begin with and no ``others``' do, else the first layer's name."""
    names = [step.name for step in steps if _has_weights(step)]
    if not names:
        return next((step.name for step in steps if step.attribute is not None), steps[0].name)
    start = common_start(names)
    usable = len(names) > 1 and len(start) > 1 and re.search(r"[A-Za-z]", start) is not None
    inside = set(map(id, steps))
    alike = (step for step in others if step.attribute and id(step) not in inside and step.name.startswith(start))
    if start in names or (usable and all(step.name[len(start) : len(start) + 1].isalnum() for step in alike)):
        return start
    return names[0]


def class_name(occurrences: Sequence[Sequence[Step]], inputs: Sequence[int]) -> str:
    """From the layers' kinds for a short chain, else from what the names say, else from what the block does."""
    steps = occurrences[0]
    own = [step.attribute for step in steps if step.attribute is not None]
    kinds = [attribute.constructor.rpartition(".")[2] for attribute in own]
    if all(attribute.kind not in ("block", "unit") for attribute in own) and len(own) == len(steps) and len(own) <= 4:
        return "".join(_SHORT.get(kind, kind) for kind in kinds)
    if any(attribute.kind == "block" for attribute in own):
        return "Stage"
    if any(attribute.constructor == "PriorBox" for attribute in own):
        return "BoxHead"
    word = _word(occurrences)
    if word:
        return word
    if any(step.template == "{0} + {1}" for step in steps):
        reads_input = any(step.attribute is None and step.inputs[:1] == inputs[:1] for step in steps)
        reads_input |= any(step.template == "{0} + {1}" and inputs[0] in step.inputs for step in steps)
        return "ResidualBlock" if reads_input else "ProjectionBlock"
    if any("depthwise" in attribute.features for attribute in own) and len(own) == len(steps):
        return "DepthwiseSeparable"
    if any(step.template.startswith("torch.cat") for step in steps):
        return "BranchBlock"
    if any(".permute" in step.template for step in steps):
        return "Head"
    return "Block"


def _word(occurrences: Sequence[Sequence[Step]]) -> str:
    """The first word of all blocks' names, if it says something."""
    words = {(re.findall(r"[A-Za-z]+", instance_name(steps)) or [""])[0].lower() for steps in occurrences}
    word = words.pop()
    return word.capitalize() if not words and len(word) > 3 and word not in _COMMONPLACE else ""


def parameter_names(
    groups: Sequence[Sequence[tuple[int, str]]], steps: Sequence[Step], attributes: Sequence[str]
) -> list[str]:
    """A name for each group of arguments that are equal everywhere, given as (step, argument)."""
    entering = _steps_with(steps, "in_")
    leaving = _steps_with(steps, "out_") or entering
    names = [_channels_name(group, entering[:1], leaving[-1:], attributes) or group[0][1] for group in groups]
    hidden = [i for i, name in enumerate(names) if name.startswith("?")]
    for i in hidden:
        names[i] = "hidden_channels" if len(hidden) == 1 else names[i][1:]
    often = Counter(names)
    taken, result = Names({"self", "x"}), []
    for group, name in zip(groups, names, strict=True):
        if often[name] > 1 and len(steps) > 1:
            name = f"{attributes[group[0][0]]}_{name}"
        result.append(taken.take(name))
    return result


def _steps_with(steps: Sequence[Step], prefix: str) -> list[int]:
    """The steps that have an argument for channels which begins so, or one for both sides."""
    wanted = (f"{prefix}channels", f"{prefix}features", "channels", "features")
    return [
        i for i, step in enumerate(steps) if step.attribute and not set(wanted).isdisjoint(step.attribute.arguments)
    ]


def _channels_name(
    group: Sequence[tuple[int, str]], first: Sequence[int], last: Sequence[int], attributes: Sequence[str]
) -> str:
    """in_channels, out_channels or channels where the block's own are meant; else the layer's with a mark before."""
    places = [(place, name) for place, name in group if is_channels(name)]
    if not places:
        return ""
    features = all("feature" in name for _, name in places if name.startswith(("in_", "out_")))
    features &= any("_features" in name and name != "num_features" for _, name in places)
    word = "features" if features else "channels"
    enters = any(place in first and name.startswith(("in_", "channels")) for place, name in places)
    leaves = any(place in last and name.startswith(("out_", "channels")) for place, name in places)
    if enters and leaves:
        return word
    if enters:
        return f"in_{word}"
    if leaves:
        return f"out_{word}"
    maker = next((place for place, name in places if name.startswith("out_")), places[0][0])
    inside = any(name.startswith(("in_", "channels")) for _, name in places)
    return f"{'?' if inside else ''}{attributes[maker]}_{word}"
