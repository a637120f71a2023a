"""A whole run of a solver, from the data layers of its nets: what ``caffe train`` does."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from caffeport import Net
from caffeport.operators.base import Role
from torch import Tensor

from ..data.caffe import Feed
from ..errors import DivergedError, TrainingError
from ..held import held
from ..interrupts import Interrupts
from ..progress import progress
from .display import Display, Say
from .fields import SnapshotFormat
from .hdf5_state import need_h5py
from .log import Log
from .solver import Solver
from .state import read as read_state

_FED_BY_HAND = ("Input", "MemoryData")


@dataclass
class Outcome:
    """The end of a run. tests: of the last test, {output: its numbers} a test net.

    code: the exit code that the signal which stopped it asks for, 0 where none did.
    """

    iteration: int
    loss: float
    stopped: bool
    seconds: float
    snapshot: Path | None = None
    tests: list[dict[str, list[float]]] = field(default_factory=list)
    code: int = 0


class Training:
    """solver: made with ``sources=True``, so that its nets have the shapes of their data.

    say: takes the lines that Caffe would print. log: a ``.csv`` or ``.jsonl`` file, see Log.

    Raises TrainingError or DataError before anything is written where a net, its data or a folder is missing.
    """

    def __init__(self, solver: Solver, say: Say = print, log: Path | None = None) -> None:
        self.solver, self._say = solver, say
        solver.parameters.snapshot_prefix = solver.places.find_folder(solver.parameters.snapshot_prefix)
        self._check_prefix()
        self.feeds = [self._feed(net) for net in (solver.train_net, *solver.test_nets)]
        names = ["train", *(f"test {i}" for i in range(len(solver.test_nets)))]
        solver.companions.update(zip(names, self.feeds, strict=True))
        self._log_path = log
        self._outcome = Outcome(0, float("nan"), False, 0.0)
        self._saved_at = -1

    def restore(self, path: str | Path) -> None:
        """Go on from a snapshot (see Solver.restore), with the data where it stood."""
        path = self.solver.restore(path)
        self._say(f"Restoring previous solver status from {path}")
        if not read_state(path).extras.get("companions"):
            self._say("It does not say where the data stood, which start anew.")
        self._saved_at = self.solver.iteration

    def run(self) -> Outcome:
        """Train up to max_iter, or until a signal; raises DivergedError, naming the last snapshot, on a bad loss.

        Raises TrainingError, before anything is written, where another process trains to the same snapshot_prefix.
        """
        with self._alone():
            return self._run()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the snapshots' prefix, where there are any. Raises TrainingError where another training has it."""
        prefix = Path(self.solver.parameters.snapshot_prefix)
        if not self._snapshots:
            yield
            return
        lock = held(prefix.with_name(f".{prefix.name}.training"))
        if lock is None:
            raise TrainingError(
                f"{prefix}: another training writes snapshots of this snapshot_prefix; wait for it, or name another"
            )
        with lock:
            yield

    def _run(self) -> Outcome:
        solver, p = self.solver, self.solver.parameters
        started = time.monotonic()
        tops = [output for net in (solver.train_net, *solver.test_nets) for output in net.outputs]
        columns = ["loss", "lr", "seconds", *dict.fromkeys(top for top in tops if top != "loss")]
        log = Log(self._log_path, columns, solver.iteration) if self._log_path else None
        self._say(f"Solving {solver.train_net.name}")
        self._say(f"Learning Rate Policy: {p.lr_policy}")
        try:
            with Interrupts(hangup=True) as asked, progress("training", p.max_iter, solver.iteration) as bar:
                display = Display(self._say, p.display, p.average_loss)
                while solver.iteration < p.max_iter and not asked.stop:
                    if self._test_due() and (solver.iteration > 0 or p.test_initialization):
                        self._test(display, asked, log)
                        if asked.stop:
                            break
                    self._iterate(display, log, started)
                    bar.advance(words=f"loss {display.loss:.4g}")
                    if asked.snapshot or (p.snapshot and solver.iteration % p.snapshot == 0):
                        self._snapshot()
                        asked.snapshot = False
                if asked.stop or (p.snapshot_after_train and self._saved_at != solver.iteration):
                    self._snapshot()
                self._outcome.stopped = asked.stop
                if asked.stop:
                    self._outcome.code = asked.code
                    self._say("Optimization stopped early.")
                else:
                    if display.due(solver.iteration):
                        display.ended(solver.iteration, solver.loss_of(self.feeds[0].next()))
                    if self._test_due():
                        self._test(display, asked, log)
                    self._say("Optimization Done.")
        except DivergedError as error:
            saved = f"the last snapshot is {self._outcome.snapshot}" if self._outcome.snapshot else "no snapshot yet"
            raise DivergedError(f"{error} ({saved})") from None
        finally:
            if log:
                log.close()
            for feed in self.feeds:
                feed.close()
        self._outcome.iteration, self._outcome.seconds = solver.iteration, time.monotonic() - started
        return self._outcome

    def _iterate(self, display: Display, log: Log | None, started: float) -> None:
        solver, iteration = self.solver, self.solver.iteration
        rate = solver.learning_rate
        batches = [self.feeds[0].next() for _ in range(solver.parameters.iter_size)]
        solver.debug = self._say if solver.parameters.debug_info and display.due(iteration) else None
        tops = solver.step(batches)
        self._outcome.loss = solver.loss
        outputs = {name: solver.last_outputs[name] for name in solver.train_net.outputs}
        display.trained(iteration, solver.loss, rate, outputs, solver.model.loss_weights)
        if log:
            seconds = round(time.monotonic() - started, 3)
            log.write(iteration, "train", **{**tops, "loss": solver.loss, "lr": rate, "seconds": seconds})

    def _test_due(self) -> bool:
        p = self.solver.parameters
        return bool(p.test_iter) and self.solver.iteration % p.test_interval == 0

    def _test(self, display: Display, asked: Interrupts, log: Log | None) -> None:
        """Every test net over its test_iter batches; Caffe reports the mean over batches, of every number.

        A test_iter of 0 makes the net and tests nothing, as published solvers have it.
        """
        solver, p = self.solver, self.solver.parameters
        solver.debug = self._say if p.debug_info else None
        tests = []
        for index, count in enumerate(p.test_iter):
            self._say(f"Iteration {solver.iteration}, Testing net (#{index})")
            sums: dict[str, Tensor] = {}
            for _ in range(count):
                if asked.stop:
                    self._say("Test interrupted.")
                    return
                for name, top in solver.test(self.feeds[1 + index].next(), index).items():
                    sums[name] = sums[name] + top if name in sums else top
            means = {name: total / count for name, total in sums.items()}
            weights = solver.test_loss_weights(index)
            loss = sum(weights[name] * float(means[name].sum()) for name in weights if name in means)
            display.tested(means, weights, loss if p.test_compute_loss and count else None)
            tests.append({name: mean.reshape(-1).tolist() for name, mean in means.items()})
            if log and count:
                firsts = {name: numbers[0] for name, numbers in tests[-1].items()}
                log.write(solver.iteration, f"test {index}", **{**firsts, "loss": loss})
        self._outcome.tests = tests

    def _snapshot(self) -> None:
        path = self.solver.snapshot()
        form = "HDF5" if path.name.endswith(".h5") else "binary proto"
        head, _, tail = path.name.rpartition(".solverstate")
        weights = path.with_name(f"{head}.caffemodel{tail}")
        self._say(f"Snapshotting to {form} file {weights}")
        self._say(f"Snapshotting solver state to {form} file {path}")
        self._outcome.snapshot, self._saved_at = path, self.solver.iteration

    def _feed(self, net: Net) -> Feed:
        for layer in net.layers:
            if layer.op.role is Role.DATA and layer.type in _FED_BY_HAND:
                raise TrainingError(
                    f"{layer.title}: has no source to read from; hand its batches over in Python: "
                    'normface.Solver("solver.prototxt").step({"data": ..., "label": ...})'
                )
        return Feed(net, seed=self.solver.seed)

    @property
    def _snapshots(self) -> bool:
        return bool(self.solver.parameters.snapshot or self.solver.parameters.snapshot_after_train)

    def _check_prefix(self) -> None:
        p = self.solver.parameters
        folder = Path(p.snapshot_prefix).parent
        if not self._snapshots:
            return
        if p.snapshot_format is SnapshotFormat.HDF5:
            need_h5py(p.snapshot_prefix)
            for layer in self.solver.train_net.layers:
                if layer.params and "/" in layer.name:
                    raise TrainingError(
                        f"{layer.title}: its name cannot stand in HDF5 snapshots, where Caffe takes a slash for a "
                        "folder; take snapshot_format: BINARYPROTO"
                    )
        if not (folder.is_dir() and os.access(folder, os.W_OK)):
            raise TrainingError(f"{folder}: snapshots cannot be written there (snapshot_prefix); make the folder first")
