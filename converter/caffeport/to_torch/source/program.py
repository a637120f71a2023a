"""A net's steps, blocks, names and weights, put together as the text of a module."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
from torch import nn

from ...graph.layer import Value
from ...graph.net import Net
from ...graph.preprocessing import Preprocessing
from ...naming import Names
from .block_names import kind_of, safe
from .blocks import make_blocks
from .classes import ModelClass, block_class
from .collect import check_inputs, steps_of
from .copied import Copies, import_lines
from .literals import classes_in, literal
from .steps import Attribute, Step, leaves
from .wrap import WIDE, WIDTH


class Program:
    """What a net becomes: ``steps`` of the model and ``attributes``, their names; ``blocks``, the classes."""

    def __init__(
        self, net: Net, wanted: Sequence[Value], inputs: Sequence[Value], preprocessing: Preprocessing | None
    ) -> None:
        check_inputs(net, wanted)
        self.net, self.wanted, self.inputs = net, list(wanted), list(inputs)
        steps, self.numbers = steps_of(net, wanted)
        self.outputs = [self.numbers[value] for value in wanted]
        self.copies = Copies()
        for step in steps:
            self._copy(step.attribute)
        classes = Names({"Model", "Path", "Tensor", "load", "load_file", "nn", "torch", "F", *self.copies.texts})
        self.mean: list[str] = []
        self._mean_state: dict[str, np.ndarray] = {}
        if preprocessing is not None:
            steps = [self._preprocess(steps, preprocessing), *steps]
        self.steps, self.blocks = make_blocks(steps, self.outputs, classes)
        taken = Names({*dir(nn.Module()), "mean"})
        names = (safe(step.name, kind_of(step.attribute)) if step.attribute else "" for step in self.steps)
        self.attributes = [taken.take(name) if name else "" for name in names]
        self.has_weights = any(True for _ in self._blobs())

    @property
    def width(self) -> int:
        """The line length: the usual one, unless a class that is copied has longer lines."""
        longest = max((len(line) for text in self.copies.texts.values() for line in text.splitlines()), default=0)
        return WIDTH if longest <= WIDTH else WIDE

    def _copy(self, attribute: Attribute | None) -> None:
        if attribute is None or attribute.copied is None:
            return
        self.copies.add(attribute.copied)
        for cls in sorted(classes_in(list(attribute.arguments.values())), key=lambda cls: cls.__name__):
            self.copies.add(cls)

    def _preprocess(self, steps: Sequence[Step], preprocessing: Preprocessing) -> Step:
        """The step before all others on the image; those that read the image read its result."""
        value = self.net.input_values[preprocessing.index]
        image, result = self.numbers[value], max(self.numbers.values(), default=0) + 1
        for step in steps:
            step.inputs = tuple(result if number == image else number for number in step.inputs)
        text = "{0}.flip(1)" if preprocessing.rgb else "{0}"
        mean = preprocessing.mean
        if mean is not None and mean.size == 1:
            text += f" - {literal(mean.reshape(-1)[0])}"
        elif mean is not None:
            text += " - self.mean"
            if mean.size <= 16:
                numbers = literal(mean.reshape(-1).tolist())
                tensor, persistent = f"torch.tensor({numbers}).reshape({', '.join(map(str, mean.shape))})", False
            else:
                tensor, persistent = f"torch.zeros{literal(mean.shape)}", True
                self._mean_state = {"mean": np.array(mean, np.float32)}
            self.mean = [f'self.register_buffer("mean", {tensor}{"" if persistent else ", persistent=False"})']
        if preprocessing.scale != 1:
            text = f"({text})" if " - " in text else text
            text += f" * {literal(preprocessing.scale)}"
        return Step(text, (image,), (result,), tops=("x",))

    def _blobs(self) -> Iterator[tuple[str, str, np.ndarray, int | None]]:
        """(path of the module, attribute, numbers, which of Caffe's blobs) of the whole state_dict."""
        for step, name in zip(self.steps, self.attributes, strict=True):
            if step.attribute is None:
                continue
            for path, leaf in leaves(step, name):
                assert leaf.attribute is not None
                for key, array in leaf.attribute.state.items():
                    yield path, key, array, leaf.attribute.owners.get(key)

    def state(self) -> dict[str, np.ndarray]:
        """The weights by their keys in the model's state_dict."""
        return self._mean_state | {f"{path}.{key}": array for path, key, array, _ in self._blobs()}

    def _ties(self) -> list[str]:
        """Lines that make blobs that layers share one parameter."""
        first: dict[int, tuple[str, np.ndarray]] = {}
        lines = []
        for path, key, array, owner in self._blobs():
            if owner is None:
                continue
            place = f"self{''.join(f'[{part}]' if part.isdigit() else f'.{part}' for part in path.split('.'))}.{key}"
            if owner not in first:
                first[owner] = place, array
            elif np.array_equal(first[owner][1], array):
                lines.append(f"{place} = {first[owner][0]}")
        return lines

    def text(self, document: Sequence[str], weights: str) -> str:
        """The module's text; ``weights``: the file that ``load`` reads, from the module's folder, or "" for none."""
        parts = [text.splitlines() for text in self.copies.texts.values()]
        parts += [block_class(block, self.width) for block in self.blocks]
        parts.append(self._model())
        parts.append(_load(weights))
        code = "\n\n\n".join("\n".join(lines) for lines in parts)
        if weights:
            code = f"{_weights_constant(weights)}\n\n\n{code}"
        imports = set(self.copies.imports) | {("torch", "nn", "nn")}
        imports |= {("torch", "Tensor", "Tensor")}
        if re.search(r"\btorch\.", code):
            imports.add(("torch", "", "torch"))
        if re.search(r"\bF\.", code):
            imports.add(("torch.nn.functional", "", "F"))
        if weights:
            imports |= {("pathlib", "Path", "Path"), ("safetensors.torch", "load_file", "load_file")}
        doc = "\n".join([f'"""{document[0]}', *document[1:], '"""'])
        gap = "\n\n\n" if code.startswith(("class ", "def ", "@")) else "\n\n"
        return f"{doc}\n\n{import_lines(imports)}{gap}{code}\n"

    def _model(self) -> list[str]:
        taken = Names({"self", "torch", "nn", "F"})
        inputs = {self.numbers[value]: taken.take(safe(value.name, "input")) for value in self.inputs}
        blobs = [value.name for value in self.wanted]
        names: dict[int, str] = {}
        if len(blobs) > 1:
            names = {n: taken.take(safe(blob, "y")) for n, blob in zip(self.outputs, blobs, strict=True)}
        model = ModelClass(self.steps, self.attributes, self._ties(), self.width)
        title = "The whole net." if len(blobs) == 1 else "The whole net; its outputs by their names."
        return model.lines(title, inputs, self.outputs, names=names, blobs=blobs, mean=self.mean)


def _weights_constant(weights: str) -> str:
    if "/" in weights:
        return f"WEIGHTS = Path(__file__).parent / {literal(weights)}"
    return f"WEIGHTS = Path(__file__).with_name({literal(weights)})"


def _load(weights: str) -> list[str]:
    if not weights:
        return ["def load() -> Model:", '    """The model, in eval mode."""', "    return Model().eval()"]
    return [
        "def load(weights: str | Path = WEIGHTS) -> Model:",
        '    """The model with its weights, in eval mode."""',
        "    model = Model()",
        "    model.load_state_dict(load_file(weights))",
        "    return model.eval()",
    ]
