"""True accepts at a false accept rate over all pairs of many people, and how far they hang on who was there.

People are drawn with replacement (the bootstrap), as in ``normface.evaluate.resampled_people``, of whose rule this
is: pairs of one person stand and fall together, and the threshold is found anew in each draw. That needs no more than
the highest impostor scores, so that 47 million pairs are no obstacle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from normface.errors import ProtocolError
from normface.evaluate import roc
from normface.evaluate.similarity import unit

ROWS = 512
"""Rows of the score matrix in memory at once."""
REACH = 6
"""Times the impostors let in at the highest rate: so many of the highest scores hold nearly any draw's threshold."""


@dataclass(frozen=True)
class ScoredPeople:
    """The cosines of all pairs of N images, as far as false accept rates need them.

    genuine (G,) and genuine_person (G,); impostor (K,) falling, and one, other (K,): the two people of each.
    counts (P,): images of each person. impostors: how many impostor pairs there are in all.
    """

    genuine: np.ndarray
    genuine_person: np.ndarray
    impostor: np.ndarray
    one: np.ndarray
    other: np.ndarray
    counts: np.ndarray
    impostors: int

    def tar(self, far: float) -> float:
        """Share of the genuine pairs accepted, by the rule of ``roc.tar_at_far``."""
        wanted = max(1, roc.impostors_accepted(far, self.impostors))
        return float(np.mean(self.genuine >= self.impostor[wanted - 1]))

    def drawn(self, far: float, draws: int, seed: int) -> np.ndarray:
        """The rate of each draw of people, (draws,); the same people for the same seed, whatever the features."""
        random = np.random.default_rng(seed)
        people = len(self.counts)
        order = np.argsort(-self.genuine, kind="stable")
        falling, person = -self.genuine[order], self.genuine_person[order]
        rates = np.empty(draws)
        for draw in range(draws):
            times = np.bincount(random.integers(0, people, people), minlength=people)
            images = times * self.counts
            pairs = (int(images.sum()) ** 2 - int(images @ images)) // 2
            accepted = np.cumsum(times[self.one] * times[self.other])
            wanted = max(1, roc.impostors_accepted(far, pairs))
            if accepted[-1] < wanted:
                raise ProtocolError(
                    f"a draw of people needs more than the {len(self.impostor)} highest impostor scores"
                )
            threshold = self.impostor[np.searchsorted(accepted, wanted)]
            length = int(np.searchsorted(falling, -threshold, side="right"))
            rates[draw] = times[person[:length]].sum() / times[person].sum()
        return rates


def scored_people(features: np.ndarray, labels: np.ndarray, highest_far: float) -> ScoredPeople:
    """Compare every image with every other; features (N, D), labels (N,) from 0, each pair counted once."""
    rows = unit(np.asarray(features, np.float32))
    counts = np.bincount(labels)
    images = len(labels)
    genuine_pairs = int(np.sum(counts * (counts - 1) // 2))
    impostors = images * (images - 1) // 2 - genuine_pairs
    if not genuine_pairs or not impostors:
        raise ProtocolError(f"{genuine_pairs} genuine and {impostors} impostor pairs; both are needed")
    wanted = min(impostors, REACH * max(1, roc.impostors_accepted(highest_far, impostors)) + 1000)
    kept = [np.empty((0,), np.float32), np.empty((0,), np.int64), np.empty((0,), np.int64)]
    genuine, person = [], []
    for start in range(0, images, ROWS):
        stop = min(start + ROWS, images)
        scores = rows[start:stop] @ rows[start:].T
        upper = np.triu(np.ones(scores.shape, bool), 1)
        same = labels[start:stop, None] == labels[None, start:]
        genuine.append(scores[upper & same])
        person.append(np.broadcast_to(labels[start:stop, None], scores.shape)[upper & same])
        strangers = upper & ~same
        if len(kept[0]) == wanted:
            strangers &= scores > kept[0].min()
        i, j = np.nonzero(strangers)
        added = [scores[i, j], labels[start + i], labels[start + j]]
        kept = [np.concatenate(parts) for parts in zip(kept, added, strict=True)]
        if len(kept[0]) > wanted:
            best = np.argpartition(-kept[0], wanted - 1)[:wanted]
            kept = [part[best] for part in kept]
    order = np.argsort(-kept[0], kind="stable")
    impostor, one, other = (part[order] for part in kept)
    return ScoredPeople(np.concatenate(genuine), np.concatenate(person), impostor, one, other, counts, impostors)
