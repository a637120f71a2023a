"""The figures of one model, by which models are compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Measured:
    """The figures of the model after ``step`` steps; None if not measured. The names are metrics.csv's columns.

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

    def row(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def verifies_better_than(self, other: Measured | None) -> bool:
        """More true accepts; where they tie, as they often do on few people, the larger area under the ROC."""
        assert self.tar is not None and self.auc is not None
        return other is None or other.tar is None or (self.tar, self.auc) > (other.tar, other.auc)
