"""The names of losses and of their sums, apart from the losses: a wrong one is told before torch is imported."""

from __future__ import annotations

import re

from .errors import TrainingError, did_you_mean

NAMES = (
    *("softmax", "normalized-softmax", "positive-scale-softmax", "l2-softmax", "am-softmax", "arcface"),
    *("large-margin-softmax", "sphereface", "c-contrastive", "c-triplet", "center"),
    *("combined-margin", "sv-x-softmax", "curricularface", "magface", "adaface", "sphereface2"),
    *("sub-center-arcface", "elasticface"),
)
"""The keys of normface.losses.LOSSES."""
REGULARISERS = ("ring", "mhe")
"""The keys of normface.losses.REGULARISERS, which are added to a loss."""
OTHER_NAMES = {"cosface": "am-softmax", "mv-softmax": "sv-x-softmax"}
"""{a name from another paper: ours}, of the same loss."""
NEAR = {
    "contrastive": "c-contrastive",
    "triplet": "c-triplet",
    "normface": "normalized-softmax",
    "a-softmax": "sphereface",
    "l-softmax": "large-margin-softmax",
    "cross-entropy": "softmax",
    "ringloss": "ring",
    "hyperspherical-energy": "mhe",
}
"""{what people write: what they may mean}, another loss or one that the name does not tell."""

_TERM = re.compile(r"\s*(?:([0-9.]+(?:e[+-]?[0-9]+)?)\s*\*\s*)?([a-z][a-z0-9_-]*)\s*(\+|$)", re.IGNORECASE)
"""A factor, if any, the name, and what follows."""


def parse(name: str) -> list[tuple[float, str]]:
    """Return the (factor, name) pairs of a loss as the command line names it; raises TrainingError for no such name.

    >>> parse("softmax+0.01*c-contrastive")
    [(1.0, 'softmax'), (0.01, 'c-contrastive')]
    """
    terms, at, sign = [], 0, "+"
    while sign:
        match = _TERM.match(name, at)
        if not match:
            raise TrainingError(f'expected a loss such as "softmax" or "softmax+0.01*c-contrastive", got "{name}"')
        factor, term, sign = match.groups()
        term, at = term.lower().replace("_", "-"), match.end()
        term = OTHER_NAMES.get(term, term)
        if term not in (*NAMES, *REGULARISERS):
            near = NEAR.get(term.removesuffix("-loss"))
            hint = f' (did you mean "{near}"?)' if near else did_you_mean(term, (*NAMES, *REGULARISERS, *OTHER_NAMES))
            raise TrainingError(
                f'no loss "{term}"{hint}; there are {", ".join(NAMES)}, and to add to them {", ".join(REGULARISERS)}'
            )
        terms.append((_factor(factor, name), term))
    if all(term in REGULARISERS for _, term in terms):
        raise TrainingError(
            f'"{name}" tells nobody apart: expected it added to a loss, as in "normalized-softmax+0.01*{terms[0][1]}"'
        )
    return terms


def _factor(text: str | None, name: str) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        raise TrainingError(f'"{text}" in the loss "{name}" is no number') from None
