"""Where a run stands: what of it is neither weights nor the optimiser's."""

from __future__ import annotations

from dataclasses import dataclass, field

from .figures import Measured


@dataclass
class Position:
    """The position of a run; it is kept beside the weights.

    before, last: the models at the start and of the last measurement. best: of those after a step of training, which
    ``before`` is not, the one that verifies best. rows: one a line of metrics.csv. loss_sum, images: of the steps
    since the last line. seconds: since the start, breaks not counted. exported: the step whose model is exported.
    planned: the steps that the run was to have when this was kept; --resume --steps may have made them more.
    """

    step: int = 0
    before: Measured | None = None
    best: Measured | None = None
    last: Measured | None = None
    worse_in_a_row: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    loss_sum: float = 0.0
    images: int = 0
    seconds: float = 0.0
    exported: int = 0
    planned: int = 0

    def count(self, loss: float, images: int) -> None:
        """One more step is done, whose loss is the mean over so many images; none where all were left out."""
        self.step += 1
        self.loss_sum += loss * images
        self.images += images

    def mean_loss(self) -> dict[str, float]:
        """{"loss": mean over the images since this was asked the last time}, empty where there was none."""
        mean = {"loss": self.loss_sum / self.images} if self.images else {}
        self.loss_sum, self.images = 0.0, 0
        return mean

    def judge(self, now: Measured) -> bool:
        """Return whether the model of this step is the best so far."""
        if now.verifies_better_than(self.best):
            self.best, self.worse_in_a_row = now, 0
            return True
        self.worse_in_a_row += 1
        return False

    def out_of_patience(self, patience: int | None) -> str:
        """Why to stop, or nothing."""
        over = patience is not None and self.worse_in_a_row >= patience
        return f"no better for {patience} validations" if over else ""
