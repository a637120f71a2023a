"""The classes of a written file: one a repeated block, and the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .blocks import REQUIRED, Block
from .constructors import constructor_text
from .forward import Forward, local_name
from .literals import literal
from .steps import Step
from .wrap import wrapped

_INDENT = " " * 8
_WORDS = {
    "conv": "convolution", "deconv": "transposed convolution", "fc": "inner product", "bn": "batch normalisation",
    "relu": "ReLU", "prelu": "PReLU", "elu": "ELU", "relu6": "ReLU6", "pool": "pooling", "lrn": "LRN",
}  # fmt: skip


def block_class(block: Block, width: int) -> list[str]:
    """The lines of a block's class."""
    parameters = ["self"]
    for name, default in block.parameters.items():
        given = "" if default is REQUIRED else f" = {literal(default)}"
        parameters.append(f"{name}: {block.types[name]}{given}")
    lines = [f"class {block.name}(nn.Module):", f'    """{_sentence(block, 4)}"""', ""]
    lines += wrapped(f"    def __init__({', '.join(parameters)}) -> None:", width=width)
    lines.append(f"{_INDENT}super().__init__()")
    for step, name, texts in zip(block.steps, block.names, block.texts, strict=True):
        if step.attribute is not None:
            lines += wrapped(f"{_INDENT}self.{name} = {constructor_text(step.attribute, texts)}", width=width)
    inputs = dict(zip(block.inputs, ["x"] if len(block.inputs) == 1 else ["x", "y"], strict=True))
    signature = ", ".join(f"{name}: Tensor" for name in inputs.values())
    tensors = ", ".join("Tensor" for _ in block.outputs)
    kind = "Tensor" if len(block.outputs) == 1 else f"tuple[{tensors}]"
    lines += ["", f"    def forward(self, {signature}) -> {kind}:"]
    names = dict(zip(map(id, block.steps), block.names, strict=True))
    named = {}
    if len(block.outputs) > 1:
        pairs = zip(block.outputs, block.tops, strict=True)
        named = {value: name for value, name in pairs if name.isidentifier() and name not in inputs.values()}
        if len(set(named.values())) < len(named):  # of a module with several outputs
            named = {}
    forward = Forward(
        block.steps,
        block.names,
        inputs,
        list(block.outputs),
        wished=lambda step, value: names[id(step)] or "y",
        named=named,
        indent=_INDENT,
        width=width,
    )
    results = forward.write()
    result = ", ".join(results[value] for value in block.outputs)
    for line in [*forward.lines, f"{_INDENT}return {result}"]:
        lines += wrapped(line, width=width)
    return lines


def _sentence(block: Block, most: int) -> str:
    """What the block does, in words that name at most so many of its layers."""
    attributes = [step.attribute for step in block.steps if step.attribute is not None]
    kinds = [_WORDS.get(attribute.kind, attribute.kind) for attribute in attributes]
    if not {"block", "unit"} & set(kinds) and len(kinds) == len(block.steps) and len(kinds) <= 4:
        text = f"{', '.join(kinds[:-1])} and {kinds[-1]}"
        return f"{text[0].upper()}{text[1:]}."
    weighted = (step.attribute is not None and bool(step.attribute.state or step.parts) for step in block.steps)
    names = [name for name, has_weights in zip(block.names, weighted, strict=True) if name and has_weights]
    if len(names) > most + 1 or sum(map(len, names)) > 40:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
    if len(names) == len(block.steps):
        return f"{listed}, one after the other."
    if block.name.startswith("Residual"):
        return f"x plus what {listed} make{'s' if len(names) == 1 else ''} of it."
    if block.name.startswith("Projection"):
        return f"The sum of two branches of {listed}."
    if any(step.template.startswith("torch.cat") for step in block.steps):
        return "Branches of one input, joined."
    if block.name.startswith("BoxHead"):
        return "Offsets, scores and default boxes of a feature map."
    if any(".permute" in step.template for step in block.steps):
        return f"{listed}, with the channels behind the places."
    return f"Layers that repeat: {listed}."


class ModelClass:
    """The class of the whole net."""

    def __init__(self, steps: Sequence[Step], attributes: Sequence[str], ties: Sequence[str], width: int) -> None:
        self.steps, self.attributes, self.ties, self.width = steps, attributes, ties, width

    def lines(
        self,
        title: str,
        inputs: Mapping[int, str],
        outputs: Sequence[int],
        *,
        names: Mapping[int, str],
        blobs: Sequence[str],
        mean: Sequence[str],
    ) -> list[str]:
        """``names``: the outputs' variables, where there is more than one; ``blobs``: what Caffe calls the outputs."""
        lines = ["class Model(nn.Module):", f'    """{title}"""', "", "    def __init__(self) -> None:"]
        lines.append(f"{_INDENT}super().__init__()")
        for line in mean:
            lines += wrapped(_INDENT + line, width=self.width)
        for step, name in zip(self.steps, self.attributes, strict=True):
            if step.attribute is not None:
                lines += _attribute_lines(step, name, self.width)
        lines += [_INDENT + tie for tie in self.ties]
        kind = "Tensor" if len(outputs) == 1 else "dict[str, Tensor]"
        signature = ", ".join(["self", *(f"{name}: Tensor" for name in inputs.values())])
        lines += ["", *wrapped(f"    def forward({signature}) -> {kind}:", width=self.width)]
        forward = Forward(
            self.steps,
            self.attributes,
            inputs,
            list(outputs),
            wished=local_name,
            named=names,
            indent=_INDENT,
            width=self.width,
        )
        texts = forward.write()
        if len(outputs) == 1:
            result = texts[outputs[0]]
        else:
            pairs = (f"{literal(blob)}: {texts[value]}" for blob, value in zip(blobs, outputs, strict=True))
            result = "{" + ", ".join(pairs) + "}"
        for line in [*forward.lines, f"{_INDENT}return {result}"]:
            lines += wrapped(line, width=self.width)
        return lines


def _attribute_lines(step: Step, name: str, width: int) -> list[str]:
    attribute: Any = step.attribute
    original = step.name if step.name != name and not step.parts else ""
    lines = wrapped(f"{_INDENT}self.{name} = {constructor_text(attribute, {})}", _printable(original), width)
    for blob in attribute.registered:
        shape = literal(tuple(blob.shape))
        numbers = f"torch.empty({shape})"
        if blob.trained:
            lines += wrapped(f"{_INDENT}self.{name}.{blob.name} = nn.Parameter({numbers})", width=width)
        else:
            lines += wrapped(f'{_INDENT}self.{name}.register_buffer("{blob.name}", {numbers})', width=width)
    return lines


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() and one != "\\" else ascii(one)[1:-1] for one in text)
