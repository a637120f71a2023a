"""What a run came to: figures before and after, files, proofs; metrics.json and the table on the screen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffeport.files import replacing
from caffeport.json_text import to_json

from .export import Proof
from .validation import Score

if TYPE_CHECKING:
    from .checkpoint import Position
    from .run import Run


INTERRUPTED = "interrupted"
"""``stopped`` of a run that was asked to; nothing is exported then."""


@dataclass
class Result:
    """``before`` and ``after``: of held-out people, None without validation. ``best_step``: the exported model's.

    stopped: why the run ended before its last step, else "". diverged: the same, where a NaN was the reason.
    leads: whether this process, of several, wrote the files. ok: it did not diverge, and every exported file computes
    what was trained.
    """

    loss: str
    steps: int
    planned_steps: int
    best_step: int | None
    stopped: str
    diverged: str
    identities: int
    pictures: int
    left_out: list[str]
    held_out: dict[str, int]
    far: float
    before: Score | None
    after: Score | None
    first_loss: float | None
    last_loss: float | None
    preprocessing: dict[str, Any]
    embedding: str
    out: str
    seconds: float
    leads: bool
    rows: list[dict[str, float]]
    proofs: list[Proof] = field(default_factory=list)

    @classmethod
    def of(cls, run: Run, position: Position, stopped: str, diverged: str, seconds: float, leads: bool) -> Result:
        validation, backbone = run.validation, run.backbone
        sources = [source for source in (run.picture_source, run.validation_source) if source is not None]
        losses = [row["loss"] for row in position.rows if "loss" in row]
        return cls(
            loss=run.config.loss,
            steps=position.step,
            planned_steps=run.steps,
            best_step=position.best_step,
            stopped=stopped,
            diverged=diverged,
            identities=run.classes,
            pictures=len(run.labels),
            left_out=[reason for source in sources for reason in source.bad.values()],
            held_out={
                "identities": validation.identities if validation else 0,
                "pictures": validation.pictures if validation else 0,
                "genuine_pairs": validation.genuine if validation else 0,
                "impostor_pairs": validation.impostor if validation else 0,
            },
            far=run.config.val_far,
            before=position.before,
            after=position.best,
            first_loss=losses[0] if losses else None,
            last_loss=losses[-1] if losses else None,
            preprocessing={**asdict(backbone.preprocessing), "size": list(backbone.size)},
            embedding=backbone.embedding,
            out=run.config.out,
            seconds=seconds,
            leads=leads,
            rows=position.rows,
        )

    @property
    def ok(self) -> bool:
        return not self.diverged and all(proof.ok for proof in self.proofs)

    def summary(self) -> dict[str, Any]:
        """Everything but the lines of metrics.csv, for JSON."""
        content = asdict(self)
        del content["rows"], content["leads"]
        return content | {"ok": self.ok}

    def write(self, path: Path) -> None:
        with replacing(path) as stream:
            stream.write((to_json(self.summary() | {"rows": self.rows}) + "\n").encode())

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Headings and lines: each figure before and after."""
        lines = []
        if self.before and self.after:
            names = {
                "tar": f"true accepts at FAR {100 * self.far:g} %",
                "accuracy": "accuracy",
                "eer": "equal error rate",
            }
            for key, name in names.items():
                before, after = getattr(self.before, key), getattr(self.after, key)
                lines.append((name, *(f"{100 * value:.2f} %" for value in (before, after))))
            lines.append(("area under the ROC", f"{self.before.auc:.4f}", f"{self.after.auc:.4f}"))
        if self.first_loss is not None and self.last_loss is not None:
            lines.append(("training loss", f"{self.first_loss:.4g}", f"{self.last_loss:.4g}"))
        return ("held-out people" if self.before else "", "before", "after"), lines
