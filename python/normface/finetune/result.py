"""The result of a run: the figures of its models, files, proofs; metrics.json and the table on the screen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffeport.files import replacing
from caffeport.json_text import to_json

from ..evaluate.roc import impostors_accepted
from .export import Proof
from .measure import Measured, sample

if TYPE_CHECKING:
    from .checkpoint import Position
    from .run import Run


CHOSEN = "chosen on these people"
INTERRUPTED = "interrupted"
"""``stopped`` of a run that was asked to; nothing is exported then."""


@dataclass
class Result:
    """``before``, ``best`` and ``last``: three models, each with its own figures.

    best: the validation with the most true accepts, whose model is exported; None without validation, where the last
    one is. It was chosen on the very people whose figures it has, which flatters it; ``last`` was not chosen.
    training_loss_pictures: on how many training images each model's training_loss is.
    held_out: what is compared, images that could not be read left out. impostors_accepted: how many of the pairs of
    different people the false accept rate ``far`` lets in.
    stopped: why the run ended before its last step, else "". diverged: the same, where a NaN was the reason.
    seconds: up to the last step, breaks not counted. leads: whether this process, of several, wrote the files. ok: it
    did not diverge, and every exported file computes what was trained.
    """

    loss: str
    steps: int
    planned_steps: int
    stopped: str
    diverged: str
    identities: int
    pictures: int
    left_out: list[str]
    held_out: dict[str, int]
    far: float
    before: Measured | None
    best: Measured | None
    last: Measured | None
    training_loss_pictures: int
    preprocessing: dict[str, Any]
    embedding: str
    out: str
    seconds: float
    leads: bool
    rows: list[dict[str, float]]
    proofs: list[Proof] = field(default_factory=list)

    @classmethod
    def of(cls, run: Run, position: Position, stopped: str, diverged: str, leads: bool) -> Result:
        validation, backbone = run.validation, run.backbone
        sources = [source for source in (run.image_source, run.validation_source) if source is not None]
        shown = run.image_source.places[sample(len(run.labels), run.config.seed)]
        impostors = validation.impostor if validation else 0
        return cls(
            loss=run.config.loss,
            steps=position.step,
            planned_steps=run.steps,
            stopped=stopped,
            diverged=diverged,
            identities=run.classes,
            pictures=len(run.labels),
            left_out=[reason for source in sources for reason in source.bad.values()],
            held_out={
                "identities": validation.identities if validation else 0,
                "pictures": validation.images if validation else 0,
                "genuine_pairs": validation.genuine if validation else 0,
                "impostor_pairs": impostors,
                "impostors_accepted": impostors_accepted(run.config.val_far, impostors),
            },
            far=run.config.val_far,
            before=position.before,
            best=position.best,
            last=position.last,
            training_loss_pictures=sum(int(index) not in run.image_source.bad for index in shown),
            preprocessing={**asdict(backbone.preprocessing), "size": list(backbone.size)},
            embedding=backbone.embedding,
            out=run.config.out,
            seconds=position.seconds,
            leads=leads,
            rows=position.rows,
        )

    @property
    def best_step(self) -> int | None:
        return self.best.step if self.best is not None else None

    @property
    def ok(self) -> bool:
        return not self.diverged and all(proof.ok for proof in self.proofs)

    def summary(self) -> dict[str, Any]:
        """Everything but the lines of metrics.csv, for JSON."""
        content = asdict(self)
        del content["rows"], content["leads"]
        return content | {"best_step": self.best_step, "ok": self.ok}

    def write(self, path: Path) -> None:
        with replacing(path) as stream:
            stream.write((to_json(self.summary() | {"rows": self.rows}) + "\n").encode())

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Headings and lines: each figure of each model."""
        titles = {
            "before": self.before,
            f"best, {CHOSEN} (step {self.best_step})": self.best,
            f"last (step {self.last.step if self.last else 0})": self.last,
        }
        models = {title: model for title, model in titles.items() if model is not None}
        lines = []
        for key, name, shown in (
            ("tar", f"true accepts at FAR {100 * self.far:g} %", _percent),
            ("accuracy", "accuracy at the best threshold of each", _percent),
            ("eer", "equal error rate", _percent),
            ("auc", "area under the ROC", "{:.4f}".format),
            ("training_loss", f"training loss on {self.training_loss_pictures} training images", "{:.4g}".format),
        ):
            values = [getattr(model, key) for model in models.values()]
            if any(value is not None for value in values):
                lines.append((name, *("" if value is None else shown(value) for value in values)))
        verified = any(model.tar is not None for model in models.values())
        return ("held-out people" if verified else "", *models), lines


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
