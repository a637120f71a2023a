"""A forward pass as lines: calls within calls where they follow each other, names where a value is read again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ...naming import Names
from .block_names import safe
from .steps import Step, is_operation, uses

DEEPEST = 3
"""Calls within each other on one line."""
_PLACEHOLDER = re.compile(r"\{(m|\d+)\}")


class Forward:
    """Writes the body of one forward. ``values``: the names of the inputs; ``wished``: names for what it makes."""

    def __init__(
        self, steps: Sequence[Step], attributes: Sequence[str], inputs: Mapping[int, str], outputs: Sequence[int],
        *, wished: Callable[[Step, int], str], named: Mapping[int, str], indent: str, width: int,
    ) -> None:  # fmt: skip
        self.steps, self.attributes, self.outputs = steps, attributes, outputs
        self.variables = dict(inputs)
        self.left = uses(steps, outputs)
        self.wished, self.named, self.indent, self.width = wished, named, indent, width
        self.taken = Names({"self", "x", "torch", "nn", "F", *inputs.values(), *named.values()})
        self.lines: list[str] = []
        # The one value that is not assigned yet: its text, and how deep its calls are.
        self.waiting: tuple[int, str, int, Step] | None = None

    def write(self) -> dict[int, str]:
        """Fill ``lines``; returns the outputs' texts, the last of which may be an expression."""
        for place, step in enumerate(self.steps):
            self._step(step, self.attributes[place], self.steps[place + 1] if place + 1 < len(self.steps) else None)
        if self.waiting is not None and len(self.outputs) == 1 and self.waiting[0] == self.outputs[0]:
            value, text, _, _ = self.waiting
            return {value: text}
        self._flush()
        return {value: self.variables[value] for value in self.outputs}

    def _step(self, step: Step, attribute: str, following: Step | None) -> None:
        text, depth = self._text(step, attribute)
        if self.waiting is not None and (
            self.waiting[0] not in step.inputs
            or depth > DEEPEST
            or len(self.indent) + self._room(step) + len(text) > self.width
            or step.template.count(f"{{{step.inputs.index(self.waiting[0])}}}") != 1
        ):
            self._flush()
            text, depth = self._text(step, attribute)
        self.waiting = None
        for value in step.inputs:
            self.left[value] -= 1
        if len(step.outputs) > 1:
            names = [self._name(step, value) if self.left.get(value) else "_" for value in step.outputs]
            self.lines.append(f"{self.indent}{', '.join(names)} = {text}")
            self.variables.update(zip(step.outputs, names, strict=True))
            return
        (value,) = step.outputs
        self.waiting = value, text, depth, step
        reads = following.inputs.count(value) if following is not None else 0
        is_last = following is None and self.outputs == [value] and self.left[value] == 1
        if (value in self.named and not is_last) or (not is_last and (self.left.get(value, 0) != 1 or reads != 1)):
            self._flush()

    def _room(self, step: Step) -> int:
        """What stands before the text on its line."""
        names = [self.named.get(value) or self.wished(step, value) for value in step.outputs]
        return max(len("return "), len(", ".join(names)) + len(" = "))

    def _flush(self) -> None:
        """Give the waiting value a name."""
        if self.waiting is None:
            return
        value, text, _, step = self.waiting
        self.waiting = None
        if not self.left.get(value):
            return
        name = self._name(step, value)
        self.lines.append(f"{self.indent}{name} = {text}")
        self.variables[value] = name

    def _name(self, step: Step, value: int) -> str:
        """x where nothing that is still read is called so."""
        if value in self.named:
            return self.named[value]
        holders = [other for other, name in self.variables.items() if name == "x" and self.left.get(other)]
        if not holders and len(step.outputs) == 1:
            return "x"
        return self.taken.take(self.wished(step, value))

    def _text(self, step: Step, attribute: str) -> tuple[str, int]:
        depth = 1
        operands = []
        for value in step.inputs:
            if self.waiting is not None and self.waiting[0] == value:
                operands.append(self.waiting[1])
                depth = self.waiting[2] + (step.attribute is not None)
            else:
                operands.append(self.variables[value])

        def put(match: re.Match[str]) -> str:
            if match[1] == "m":
                return f"self.{attribute}"
            operand = operands[int(match[1])]
            return f"({operand})" if _needs_brackets(step, match, operand) else operand

        return _PLACEHOLDER.sub(put, step.template), depth


def _needs_brackets(step: Step, match: re.Match[str], operand: str) -> bool:
    """Whether an operator within the operand would bind less than what stands around it."""
    if not is_operation(operand):
        return False
    before, after = step.template[: match.start()], step.template[match.end() :]
    if after[:1] in (".", "["):
        return True
    inside = before.count("(") + before.count("[") > before.count(")") + before.count("]")
    return not inside and step.is_operation


def local_name(step: Step, value: int) -> str:
    """A value's name by its blob, where that reads well."""
    top = step.tops[step.outputs.index(value)] if step.tops else ""
    name = safe(top, "y")
    return name if len(name) <= 30 else "y"
