"""Modules' constructors as text, and equal modules that follow each other as one nn.Sequential."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from .literals import literal
from .repeats import common_start
from .steps import Attribute, Step, uses


def constructor_text(attribute: Attribute, texts: Mapping[str, str]) -> str:
    """The call that makes the module; ``texts`` stand for arguments that are no constants."""
    arguments = []
    by_place = True
    for place, (name, value) in enumerate(attribute.arguments.items()):
        if name not in texts and name in attribute.defaults and _same(attribute.defaults[name], value):
            by_place = False
            continue
        by_place &= place < attribute.by_place
        text = texts.get(name) or literal(value)
        arguments.append(text if by_place else f"{name}={text}")
    call = f"{attribute.constructor}({', '.join(arguments)})"
    return f"nn.Sequential(*({call} for _ in range({attribute.repeated})))" if attribute.repeated else call


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other


def with_runs(steps: Sequence[Step], outputs: Sequence[int], kinds: Collection[str]) -> list[Step]:
    """Equal blocks of these kinds, each of which alone reads the one before it, as one step."""
    counts = uses(steps, outputs)
    result: list[Step] = []
    run: list[Step] = []
    for step in steps:
        if run and not (_equal(run[-1], step, kinds) and counts.get(run[-1].outputs[0]) == 1):
            result.append(_run(run))
            run = []
        run.append(step)
    return [*result, _run(run)] if run else result


def _equal(before: Step, step: Step, kinds: Collection[str]) -> bool:
    one, other = before.attribute, step.attribute
    if one is None or other is None or one.kind not in kinds or one.repeated or other.repeated:
        return False
    if step.inputs != before.outputs or step.template != "{m}({0})":
        return False
    return one.constructor == other.constructor and all(
        _same(value, other.arguments[name]) for name, value in one.arguments.items()
    )


def _run(steps: list[Step]) -> Step:
    first, last = steps[0], steps[-1]
    if len(steps) == 1 or first.attribute is None:
        return first
    start = common_start([step.name for step in steps])
    letters = _letters([step.name for step in steps])
    return Step(
        "{m}({0})",
        first.inputs,
        last.outputs,
        max(start, letters, key=len) or first.name,
        tuple(layer for step in steps for layer in step.layers),
        replace(first.attribute, repeated=len(steps)),
        tuple(steps),
        tuple(str(i) for i in range(len(steps))),
        last.tops,
    )


def _letters(names: Sequence[str]) -> str:
    """What all names begin with, without a number at its end."""
    first, last = min(names), max(names)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length].rstrip("0123456789_/-. ")
