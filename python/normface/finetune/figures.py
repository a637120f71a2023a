"""The figures of one model, by which models are compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import fmean


@dataclass(frozen=True)
class Measured:
    """The figures of the model after ``step`` steps; None if not measured. The names are metrics.csv's columns.

    sets: {set: {figure: value}} of the sets that are validated on, each set's main figure first.
    tar_low, tar_high: 95 % of draws of the same number of people, from these with replacement, lie between them.
    """

    step: int
    training_loss: float | None = None
    tar: float | None = None
    accuracy: float | None = None
    auc: float | None = None
    eer: float | None = None
    tar_low: float | None = None
    tar_high: float | None = None
    sets: dict[str, dict[str, float]] = field(default_factory=dict)

    def row(self) -> dict[str, float]:
        own = {name: value for name, value in asdict(self).items() if value is not None and name != "sets"}
        return own | {column(name, figure): value for name, of in self.sets.items() for figure, value in of.items()}

    def verifies_better_than(self, other: Measured | None) -> bool:
        """More true accepts; where they tie, as they often do on few people, the larger area under the ROC.

        Without held-out people the mean over the sets decides, of each one's first figure (the accuracy; of BLUFR the
        verification rate), and where they tie of its second.
        """
        return other is None or other._rank() is None or (self._rank() or ()) > (other._rank() or ())

    def _rank(self) -> tuple[float, float] | None:
        if self.tar is not None and self.auc is not None:
            return self.tar, self.auc
        if not self.sets:
            return None
        firsts, seconds = zip(*(list(of.values())[:2] for of in self.sets.values()), strict=True)
        return fmean(firsts), fmean(seconds)


def column(name: str, figure: str) -> str:
    """Return the column of metrics.csv that a set's figure has."""
    return f"{name}.{figure}"
