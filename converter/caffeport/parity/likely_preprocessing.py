"""Which of the usual preprocessings a net likely expects, by its response to photos; never more than was measured.

How far a way has to be behind to be ruled out was chosen so that what is published of a model was ruled out by none of
the photos that docs/converting.md tells of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ..errors import CaffeportError
from ..graph.net import Net
from ..table import Table
from ..zoo.model import Preset
from .photo_response import PhotoResponse, Response
from .usual_recipes import recipes

BATCH_NORM, PAIR, ANSWERS = "BatchNorm", "the pair", "the answers"

_TIMES_BEHIND = {1: 6.0, 2: 4.0, 3: 2.0}
"""{photos: how many times the best one's divergence is too much}; one photo has a light and contrast of its own."""
_TIMES_ORDER = {1: 2.0, 2: 1.75, 3: 1.5}
"""The same for the other order of channels of one mean and scale."""
_NO_FIT = 1.5
"""A divergence that is too large for the nearest way to be called near."""
_MARGIN_BEHIND, _LEAST_MARGIN = 0.25, 0.2
"""Cosine that a way's margin between same and different is behind, and that the best one has: less may be chance."""
_GUESS, _NO_GUESS = 0.9, 0.6
"""Shares of the largest entropy: above the first an answer is a guess, below the second it is none."""


@dataclass(frozen=True)
class Candidate:
    """A way, and what was measured of it; None for what was not, infinity where the net's numbers overflowed.

    mean: in the order of the net's channels. order: "BGR", "RGB" or "grey".
    batch_norm: the divergence from BatchNorm's statistics. same, different: cosines of the first two photos, and the
    largest of one of them with another. entropy: the least of the photos' answers, as a share of what a guess has.
    ruled_out: by what; "" for what nothing speaks against.
    """

    mean: tuple[float, ...]
    scale: float
    order: str
    batch_norm: float | None = None
    same: float | None = None
    different: float | None = None
    entropy: float | None = None
    ruled_out: str = ""

    @property
    def formula(self) -> str:
        """Return (x - mean) * scale in words, whatever the order of channels."""
        return Preset(self.mean[::-1] if self.order == "RGB" else self.mean, self.scale, "").formula()

    @property
    def margin(self) -> float:
        """Return by how much the same person's photos are nearer than others'; minus infinity where it is not known."""
        known = self.same is not None and self.different is not None
        margin = self.same - self.different if known else math.nan  # type: ignore[operator]
        return margin if math.isfinite(margin) else -math.inf


@dataclass(frozen=True)
class Suggestion:
    """The verdict in words and its reasons.

    likely: the formulas of mean and scale that are not ruled out, the nearest first.
    order: "RGB" or "BGR" where it is likely the one, "grey" of one channel, "" where it is undecided.
    """

    verdict: str
    reasons: list[str]
    likely: list[str]
    order: str
    photos: int
    candidates: list[Candidate]

    def table(self) -> Table:
        """Return every way with what was measured of it, the same wherever it is shown."""
        ways = self.candidates
        columns = {
            "divergence": [way.batch_norm for way in ways],
            "same": [way.same for way in ways],
            "different": [way.different for way in ways],
            "entropy": [way.entropy for way in ways],
        }
        measured = {name: values for name, values in columns.items() if any(value is not None for value in values)}
        lines = [
            (way.formula, way.order, *(_text(values[i]) for values in measured.values()), way.ruled_out)
            for i, way in enumerate(ways)
        ]
        return Table(("preprocessing", "order", *measured, "ruled out by"), lines, set(measured))

    def to_content(self) -> dict[str, Any]:
        """Return it for JSON."""
        ways = [{"formula": one.formula, **asdict(one)} for one in self.candidates]
        return {**asdict(self), "candidates": ways}


def suggest(net: Net, name: str, photos: np.ndarray, pair: bool = False) -> Suggestion:
    """Try the usual preprocessings on photos for the input ``name``, pixels 0 to 255, (N, C, H, W) in BGR or grey.

    pair: the first two photos are of one person and the others, one at least, of other people; for a net whose one
        output is an embedding. Needs torch. Raises CaffeportError for a pair without a third photo or an embedding.
    """
    response = PhotoResponse(net, pair)
    if pair and not response.has_embedding:
        outputs = ", ".join(net.outputs)
        raise CaffeportError(f"a pair is for a net whose one output is an embedding; this one's are {outputs}")
    if pair and len(photos) < 3:
        raise CaffeportError(f"a pair takes two photos of one person and one of another, 3 or more; got {len(photos)}")
    if net.has_random_weights:
        return _not_judged(len(photos), "the net's weights are made up, and expect nothing")
    if not (response.batch_norms or response.has_answers or response.has_embedding):
        why = "the net has no BatchNorm and no class probabilities to judge by"
        return _not_judged(len(photos), f"{why}; a face net can be judged by a pair" if _may_pair(net) else why)
    images = np.concatenate([photos, photos[..., ::-1]]) if response.has_answers else photos
    ways = [
        _measured(way.preset, "grey" if photos.shape[1] == 1 else way.order, response.ask(name, way.of(images)), photos)
        for way in recipes(photos.shape[1])
    ]
    reasons: list[str] = []
    for rule in (_by_batch_norm, _by_pair, _by_answers):
        ways = rule(ways, len(photos), reasons)
    return _judged(ways, len(photos), reasons)


def _not_judged(photos: int, why: str) -> Suggestion:
    return Suggestion(f"not judged: {why}", [], [], "", photos, [])


def _may_pair(net: Net) -> bool:
    return PhotoResponse(net, pair=True).has_embedding


def _measured(preset: Preset, order: str, response: Response, photos: np.ndarray) -> Candidate:
    same = different = entropy = None
    if response.embeddings is not None:
        cosines = response.embeddings @ response.embeddings.T
        same, different = float(cosines[0, 1]), float(cosines[:2, 2 : len(photos)].max())
    if response.answers is not None:
        shares = np.clip(response.answers, 1e-30, 1)
        entropy = float((-(shares * np.log(shares)).sum(1)).min() / math.log(shares.shape[1]))
    return Candidate(preset.mean, preset.scale, order, response.divergence, same, different, entropy)


def _ruled(ways: list[Candidate], by: str, out: Callable[[Candidate], bool]) -> tuple[list[Candidate], int]:
    """Return the ways with what is ruled out marked, and how many of them this one speaks against."""
    against = [out(way) for way in ways]
    marked = [
        replace(way, ruled_out=by) if bad and not way.ruled_out else way for way, bad in zip(ways, against, strict=True)
    ]
    return marked, sum(against)


def _by_batch_norm(ways: list[Candidate], photos: int, reasons: list[str]) -> list[Candidate]:
    if ways[0].batch_norm is None:
        return ways
    best = min(ways, key=_divergence)
    others = [way for way in ways if way.formula != best.formula]
    nearest = min(others, key=_divergence)
    text = (
        f"{BATCH_NORM}: with {_named(best)} what comes to the first layers is nearest to their statistics of training: "
        f"divergence {_divergence(best):.3g}, {_divergence(nearest):.3g} with {_named(nearest)}"
    )
    if _divergence(best) > _NO_FIT:
        reasons.append(f"{text}; near is {_NO_FIT:g} or less, so that nothing is ruled out")
        return ways
    times = _TIMES_BEHIND[min(photos, 3)]
    limit = times * _divergence(best)
    near = {way.formula for way in ways if _divergence(way) <= limit}
    ways, against = _ruled(ways, BATCH_NORM, lambda way: way.formula not in near)
    reasons.append(f"{text}; {against} are ruled out: more than {times:g} times the least, with {_counted(photos)}")
    return ways


def _by_pair(ways: list[Candidate], photos: int, reasons: list[str]) -> list[Candidate]:
    if ways[0].same is None:
        return ways
    best = max(ways, key=lambda way: way.margin)
    text = (
        f"{PAIR}: with {_named(best)} the first two photos, one person's, have cosine {best.same:.2f}, "
        f"and {best.different:.2f} at most with another"
    )
    if best.margin < _LEAST_MARGIN:
        reasons.append(f"{text}: too little between them to rule anything out")
        return ways
    ways, against = _ruled(ways, PAIR, lambda way: way.margin < best.margin - _MARGIN_BEHIND)
    reasons.append(f"{text}; {against} are ruled out: {_MARGIN_BEHIND:g} less between them, or more")
    return ways


def _by_answers(ways: list[Candidate], photos: int, reasons: list[str]) -> list[Candidate]:
    known = [way for way in ways if way.entropy is not None and math.isfinite(way.entropy)]
    if not known:
        return ways
    surest = min(known, key=_entropy)
    text = f"{ANSWERS}: with {_named(surest)} the surest has {_entropy(surest):.0%} of a guess's entropy"
    if _entropy(surest) > _NO_GUESS:
        reasons.append(f"{text}: too much to rule anything out")
        return ways
    ways, against = _ruled(ways, ANSWERS, lambda way: way.entropy is not None and way.entropy > _GUESS)
    reasons.append(f"{text}; {against} are ruled out: every answer has more than {_GUESS:.0%}")
    return ways


def _judged(ways: list[Candidate], photos: int, reasons: list[str]) -> Suggestion:
    left = sorted((way for way in ways if not way.ruled_out), key=_divergence)
    formulas = list(dict.fromkeys(way.formula for way in left))
    order = _order(left, photos, reasons)
    if not left:
        verdict = "undecided: what was measured speaks against each of the usual ways"
    elif len(formulas) == len({way.formula for way in ways}):
        verdict = "undecided: nothing that was measured tells the usual ways apart"
    elif len(formulas) == 1:
        verdict = f"likely {formulas[0]}"
    else:
        verdict = f"undecided between {', '.join(formulas[:-1])} and {formulas[-1]}"
    if order != "grey" and 0 < len(formulas) < len({way.formula for way in ways}):
        verdict += f", {order}" if order else "; RGB or BGR: undecided"
    return Suggestion(verdict, reasons, formulas, order, photos, ways)


def _order(left: list[Candidate], photos: int, reasons: list[str]) -> str:
    """Return the likely order of channels of the one mean and scale that is left; "" where it is undecided."""
    if left and left[0].order == "grey":
        return "grey"
    if not left or len({way.formula for way in left}) > 1:
        return ""
    if len(left) == 1:  # the pair has ruled out the other
        return left[0].order
    nearer, farther = left
    if nearer.batch_norm is None or _divergence(nearer) > _NO_FIT:
        return ""
    times, behind = _TIMES_ORDER[min(photos, 3)], _divergence(farther) / max(_divergence(nearer), 1e-12)
    decided = behind > times
    reasons.append(
        f"RGB or BGR: {BATCH_NORM}'s divergence is {behind:.3g} times as large with {farther.order}; "
        f"{times:g} times {'are' if decided else 'would be'} enough with {_counted(photos)}"
    )
    return nearer.order if decided else ""


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _divergence(way: Candidate) -> float:
    return math.inf if way.batch_norm is None else way.batch_norm


def _entropy(way: Candidate) -> float:
    return math.inf if way.entropy is None else way.entropy


def _named(way: Candidate) -> str:
    return way.formula if way.order == "grey" else f"{way.formula} in {way.order}"


def _counted(photos: int) -> str:
    return "one photo" if photos == 1 else f"{photos} photos"
