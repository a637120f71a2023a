"""The result of a run: the figures of its models, files, proofs; metrics.json and the table on the screen."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caffeport.files import replacing
from caffeport.json_text import to_json
from caffeport.table import Table, html_table, html_text

from . import notes
from .export import Proof
from .figures import Measured
from .measure import sample
from .unseen import Tested

if TYPE_CHECKING:
    from .position import Position
    from .run import Run


CHOSEN, CHOSEN_ON_SETS = "chosen on these people", "chosen on these sets"
EXPORTED = "exported, measured once"
INTERRUPTED = "interrupted"
"""``stopped`` of a run that was asked to; nothing is exported then."""


@dataclass(repr=False)
class Result:
    """``before``, ``best`` and ``last``: three models, each with its own figures.

    best: the validation with the most true accepts, whose model is exported; None without validation, where the last
    one is. It was chosen on the very people whose figures it has, which flatters it; ``last`` was not chosen.
    training_loss_pictures: on how many training images each model's training_loss is.
    held_out: what is compared, images that could not be read left out. impostors_accepted: how many of the pairs of
    different people the false accept rate ``far`` lets in. test: on ``--test``'s people, None without. notes: where
    people are too few, or too easy, for the figures to tell much. hard_samples: the lines of hard_samples.csv.
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
    test: Tested | None = None
    notes: list[str] = field(default_factory=list)
    sets_drawn: dict[str, str] = field(default_factory=dict)
    hard_samples: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, run: Run, position: Position, stopped: str, diverged: str, leads: bool) -> Result:
        validation, backbone = run.validation, run.backbone
        sources = [source for source in (run.image_source, run.validation_source) if source is not None]
        shown = run.image_source.places[sample(len(run.labels), run.config.seed)]
        held_out = notes.counted(validation)
        return cls(
            loss=run.config.loss,
            steps=position.step,
            planned_steps=run.steps,
            stopped=stopped,
            diverged=diverged,
            identities=run.classes,
            pictures=len(run.labels),
            left_out=[reason for source in sources for reason in source.bad.values()],
            held_out=held_out,
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
            notes=notes.about("held-out people", held_out, run.config.val_far, position.before),
            sets_drawn={one.name: one.drawn for one in run.sets},
        )

    def add_test(self, test: Tested, left_out: list[str]) -> None:
        """Take the figures of the test and its notes. left_out: why images of it could not be read."""
        self.test = test
        self.left_out += left_out
        self.notes += notes.about("test people", test.held, self.far, test.before)

    def __repr__(self) -> str:
        """Return what became of the run and the gain on held-out people, in one line."""
        ended = self.diverged or self.stopped
        words = [f"{self.loss}, {self.steps} of {self.planned_steps} steps{f' ({ended})' if ended else ''}"]
        model = self.best or self.last
        if self.before is not None and model is not None and self.before.tar is not None and model.tar is not None:
            rates = f"{_percent(self.before.tar)} before, {_percent(model.tar)} after"
            words.append(f"true accepts at FAR {100 * self.far:g} %: {rates}")
        proven = sum(proof.ok for proof in self.proofs)
        words += [f"{proven} of {len(self.proofs)} files proven in {self.out!r}"] if self.proofs else []
        return f"Result({'ok' if self.ok else 'NOT ok'}: {'; '.join(words)})"

    def _repr_html_(self) -> str:
        """The tables of figures and proofs, as a notebook shows them."""
        tables = [Table(heads, lines, set(heads[1:])) for heads, lines in (self.table(), self.test_table()) if lines]
        tables += [self.proof_table()] if self.proofs else []
        return "".join([f"<p>{html_text(repr(self))}</p>", *map(html_table, tables)])

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
        chosen = CHOSEN_ON_SETS if self.best and self.best.tar is None else CHOSEN
        titles = {
            "before": self.before,
            f"best, {chosen} (step {self.best_step})": self.best,
            f"last (step {self.last.step if self.last else 0})": self.last,
        }
        models = {title: model for title, model in titles.items() if model is not None}
        verified = any(model.tar is not None for model in models.values())
        return self._compared("held-out people" if verified else "", models)

    def test_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Headings and lines of the test; no lines without one."""
        if self.test is None:
            return (), []
        return self._compared("test people", {"before": self.test.before, EXPORTED: self.test.exported})

    def proof_table(self) -> Table:
        """The written files, each loaded again and compared with what was trained."""
        lines = [
            ("ok" if p.ok else "DIFFERS", p.file, p.how, "" if p.max_abs is None else f"{p.max_abs:.1e}")
            for p in self.proofs
        ]
        return Table(("", "loaded again", "run by", "max abs"), lines, {"", "max abs"})

    def test_words(self) -> str:
        """The gain on the test's people, with its interval."""
        test = self.test
        if test is None:
            return ""
        between = ""
        if test.gain_low is not None and test.gain_high is not None:
            open_ = test.gain_low <= 0 <= test.gain_high
            between = f" (95 % of draws of people: {100 * test.gain_low:+.2f} to {100 * test.gain_high:+.2f})"
            between += ", which leaves open whether it is better" if open_ else ""
        return f"true accepts of the exported model less those before: {100 * test.gain:+.2f} points{between}"

    def _compared(self, heading: str, models: dict[str, Measured]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
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
            intervals = [_interval(model.tar_low, model.tar_high) for model in models.values()]
            if key == "tar" and any(intervals):
                lines.append(("    95 % of draws of people", *intervals))
        lines[-1:-1] = _lines_of_sets(list(models.values()), self.far, self.sets_drawn)
        return (heading, *models), lines


_TITLES = {
    "accuracy": "{set}: accuracy in folds",
    "tar": "{set}: true accepts at FAR {far:g} %",
    "vr": "{set}: VR at FAR {far:g} %, mean less deviation",
    "dir": "{set}: DIR at FAR 1 %, rank 1, mean less deviation",
}
"""What the table shows of a set that is validated on."""


def _lines_of_sets(models: list[Measured], far: float, drawn: dict[str, str]) -> list[tuple[str, ...]]:
    lines = []
    for name, figures in models[0].sets.items():
        for figure in (figure for figure in figures if figure in _TITLES):
            title = _TITLES[figure].format(set=name, far=100 * far)
            lines.append((title, *(_percent(model.sets[name][figure]) for model in models)))
            intervals = [
                _interval(model.sets[name].get(f"{figure}_low"), model.sets[name].get(f"{figure}_high"))
                for model in models
            ]
            if any(intervals):
                lines.append((f"    95 % of draws of {drawn.get(name, 'people')}", *intervals))
    return lines


def _interval(low: float | None, high: float | None) -> str:
    """The limits, or nothing."""
    return "" if low is None or high is None else f"{100 * low:.2f} to {100 * high:.2f} %"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
