"""Finetuning, from the first step to the exported files, as one plain loop."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from caffeport.to_torch.float32 import whole_float32
from torch import Tensor, nn

from ..errors import NormfaceWarning, NotFiniteError
from . import config_file, curves, export, hard_samples, head_file, thresholds
from .averaging import Averages
from .backbone import Trunk
from .checkpoint import Checkpoints, saved
from .class_rows import shard_of, sharded
from .clipping import clip
from .collectives import Ranks
from .config import Config
from .elastic import as_restarted, as_started
from .fabric import progress_of
from .feeding import ImageSource, ahead
from .figures import Measured, column
from .head_start import start_head
from .launch import launched
from .measure import measured
from .output import CONFIG, METRICS, check_folder, check_free, open_folder
from .position import Position
from .records import Records
from .result import INTERRUPTED, Result
from .resumed import check_longer
from .run import Run, prepare
from .sampling import Chosen
from .schedule import factor, set_rates
from .schedule import optimizers as make_optimizers
from .unfreezing import Unfreezing, starts


class Objective(nn.Module):
    """The trained part and the loss as one module, as Fabric wants it."""

    def __init__(self, trunk: Trunk, loss: nn.Module, ranks: Ranks) -> None:
        super().__init__()
        self.trunk, self.loss, self._ranks = trunk, loss, ranks
        # DistributedDataParallel would give all ranks the first one's rows.
        self._ddp_params_and_buffers_to_ignore = [f"loss.{name}" for name in sharded(loss)]
        trained = {name for name, one in self.named_parameters() if one.requires_grad}
        if trained <= {*self._ddp_params_and_buffers_to_ignore}:
            # It refuses to start where nothing else trains.
            self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: Tensor, labels: Tensor, kept: np.ndarray) -> Tensor:
        """The loss of the batch, of whose images (B,) the ``kept`` ones could be read, n of them.

        inputs: this rank's, of the n; none is (0,). labels: all (n,).
        """
        own = self.trunk(inputs).float() if len(inputs) else inputs.new_zeros(0, cast(int, self.loss.embedding_size))
        whole = self._ranks.embeddings(own, kept)
        if self._ddp_params_and_buffers_to_ignore and torch.is_grad_enabled() and not whole.requires_grad:
            # The other ranks send the gradients of theirs, which this one has to take part in.
            whole.requires_grad_(any(parameter.requires_grad for parameter in self.trunk.parameters()))
        return self.loss(whole, labels)


@whole_float32()
def finetune(
    config: Config,
    *,
    resume: bool = False,
    overwrite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Finetune a Caffe net as ``config`` says, and write everything to ``config.out``.

    resume: go on from the checkpoint in ``out``, to the same numbers as without the break (bit for bit on the CPU).
    overwrite: replace an earlier run in ``out``. should_stop: asked after every step; True ends the run there, with a
    checkpoint and without export.

    Where the loss or a weight becomes NaN or infinite the run ends, the result says at which step (``diverged``), and
    the best model so far, or the last checkpoint's, is exported. Raises DivergedError where there is none yet,
    LostRankError where one of several devices' processes ended, TrainingError and DataError for all that cannot start.
    """
    config = as_started(config)
    resume, overwrite = as_restarted(resume, overwrite)
    config.check()
    config = config.as_read()
    config_file.text(config)  # what it cannot hold is told before the work
    folder = check_folder(config, resume=resume, overwrite=overwrite)
    with ExitStack() as held:  # the folder's lock, from its opening to the last file
        return _run(config, folder, held, resume, overwrite, should_stop)


def _run(
    config: Config, folder: Path, held: ExitStack, resume: bool, overwrite: bool, should_stop: Callable[[], bool]
) -> Result:
    with launched(config, resume=resume, overwrite=overwrite) as fabric:
        if fabric.is_global_zero:
            check_free(folder)
        run = prepare(config, fabric)
        if not (resume and saved(folder) is not None):
            start_head(run, fabric)
        position, stopped, diverged = _train(run, folder, held, fabric, resume, overwrite, should_stop)
        result = Result.of(run, position, stopped, diverged, fabric.is_global_zero)
    if stopped != INTERRUPTED and result.leads:
        _export(run, folder, position, result)
        if config.hard_samples is not None:
            result.hard_samples = hard_samples.write(run, folder, config.hard_samples, fabric.device)
            result.write(folder / METRICS)
        if run.unseen is not None:
            test = run.unseen.run(run.backbone, folder, position.exported, fabric.device)
            result.add_test(test, list(run.unseen.source.bad.values()))
            result.write(folder / METRICS)
    return result


def _train(
    run: Run,
    folder: Path,
    held: ExitStack,
    fabric: Any,
    resume: bool,
    overwrite: bool,
    should_stop: Callable[[], bool],
) -> tuple[Position, str, str]:
    """Return where the run ends, why it stopped early, and where it diverged. Leaves the model to export."""
    config, trunk, loss = run.config, run.trunk, run.loss
    ranks, leads, shard = Ranks(fabric), fabric.is_global_zero, shard_of(loss)
    optimizers = make_optimizers(config, run.backbone, trunk, loss, run.sampled)
    unfreezing = Unfreezing(trunk, starts(config, run.backbone, run.steps))
    averages = Averages(trunk, loss, config.ema) if config.ema is not None else None
    exported = averages or run
    if config.ema is not None and leads and 1 / (1 - config.ema) > run.steps / 2:
        words = f"--ema {config.ema:g} remembers about {1 / (1 - config.ema):,.0f} steps, and the run has {run.steps:,}"
        warnings.warn(f"{words}: the average stays near its start; choose less", NormfaceWarning, stacklevel=2)
    checkpoints = Checkpoints(folder, run, optimizers, averages, fabric)
    position = checkpoints.restore() if resume and saved(folder) is not None else Position()
    check_longer(position, run.steps, config.out)
    if position.step and position.planned and run.steps > position.planned and position.step < run.steps:
        rate = config.lr * factor(config, position.step, run.steps)
        words = f"goes on from step {position.step} to {run.steps}, instead of {position.planned}"
        words += f", at the learning rate {rate:.3g} of the longer run's schedule"
        warnings.warn(words, NormfaceWarning, stacklevel=2)
    clock = time.monotonic() - position.seconds
    objective, *optimizers = fabric.setup(Objective(trunk, loss, ranks), *optimizers)

    if leads:
        held.enter_context(open_folder(folder, clear=overwrite))
        config_file.write(config, folder / CONFIG)
    set_columns = [column(one.name, figure) for one in run.sets for figure in one.figures]
    records = Records(folder if leads else None, position.rows, config, set_columns)
    validate_every = config.validate_every or max(1, round(run.steps_per_epoch))
    checkpoint_every = config.checkpoint_every or validate_every

    def figures() -> Measured | str:
        """Measure the model as it is; all ranks go by the same numbers."""
        return measured(run, position.step, fabric.device, exported.trunk, exported.loss, ranks)

    if position.before is None:
        first = figures()
        if isinstance(first, str):
            raise NotFiniteError(first)
        position.before = position.last = first
        if run.validates:
            records.write({"epoch": 0.0, **first.row()})

    numbers = range(position.step * config.accumulate, run.steps * config.accumulate)
    shares = (run.sampler.batch(number).share(ranks.share) for number in numbers)
    feed = ahead(run.source, shares, config.readers)
    bad = run.image_source.bad
    reported: set[int] = set()  # a rank may have met others than the rest, for the means of its own classes
    objective.train()
    stopped, diverged = position.out_of_patience(config.patience), ""
    with closing(feed), closing(records), progress_of(fabric, "finetune", run.steps, position.step) as bar:
        while position.step < run.steps and not stopped:
            unfreezing.at(position.step)
            rate = factor(config, position.step, run.steps)
            set_rates(optimizers, rate)
            batches = [next(feed) for _ in range(config.accumulate)]
            masks = ranks.kept([kept for *_, kept in batches], bad, reported)
            run.image_source.check_any_is_left()
            images = sum(int(kept.sum()) for kept in masks)
            loss_of_step = 0.0
            for micro, ((_, inputs, _), kept) in enumerate(zip(batches, masks, strict=True)):
                if not kept.any():
                    continue  # every image of the batch was left out
                places = run.sampler.batch(position.step * config.accumulate + micro).places[kept]
                labels = torch.from_numpy(run.labels[places]).to(fabric.device)
                weight = int(kept.sum()) / images
                with fabric.no_backward_sync(objective, enabled=ranks.size > 1):  # summed below
                    value = objective(inputs.to(fabric.device), labels, kept)
                    if value.requires_grad:
                        fabric.backward(value * weight)
                loss_of_step += float(value.detach()) * weight
            if images:
                ranks.sum_gradients(trunk, loss)
                if config.batch_norm == "train":
                    ranks.average_statistics(trunk, sum(int(kept.sum()) for *_, kept in batches))
            loss_of_step, asked = ranks.mean(loss_of_step, should_stop())
            if not math.isfinite(loss_of_step):
                diverged = stopped = f"the loss is {loss_of_step} at step {position.step + 1}"
                break
            if images:
                if config.clip_norm is not None and shard is not None:
                    clip(trunk, loss, config.clip_norm)
                elif config.clip_norm is not None:
                    fabric.clip_gradients(objective, optimizers[0], max_norm=config.clip_norm, error_if_nonfinite=False)
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
                if averages is not None:
                    averages.update(trunk, loss)
            position.count(loss_of_step, images)
            bar.advance(words=f"loss {loss_of_step:.4g}" if images else "no image could be read")

            step, last = position.step, position.step == run.steps
            validates = run.validates and step % validate_every == 0
            keeps = last or step % checkpoint_every == 0
            if (validates or keeps or asked) and (broken := checkpoints.broken()):
                diverged = stopped = f'the weights "{broken}" are no numbers after step {step}'
                break
            row = {"step": step, "epoch": step / run.steps_per_epoch, "lr": config.lr * rate, **_scale(loss)}
            if validates or last:
                now = figures()
                if isinstance(now, str):
                    diverged = stopped = f"{now} after step {step}"
                    break
                row |= now.row()
                position.last = now
                if run.validates:
                    if position.judge(now):
                        checkpoints.save_best(step)
                    stopped = "" if last else position.out_of_patience(config.patience)
            if validates or last or step % config.log_every == 0:
                records.write(row | position.mean_loss())
            if asked and not last:
                stopped = INTERRUPTED
            if keeps or stopped:
                position.seconds, position.planned = time.monotonic() - clock, run.steps
                checkpoints.save(position)
    position.seconds = time.monotonic() - clock
    position.exported = position.step
    if stopped != INTERRUPTED:
        checkpoints.settle()
        if leads or shard is not None:
            if diverged or position.best is not None:
                position.exported = checkpoints.restore_best(position, diverged)
            elif averages is not None:
                averages.copy_to(trunk, loss)
        head_file.write(loss, folder / export.HEAD, leads=leads)
    return position, stopped, diverged


def _export(run: Run, folder: Path, position: Position, result: Result) -> None:
    """Write the files of the net, with the proof that they compute the same, the figure and metrics.json."""
    config, trunk = run.config, run.trunk
    export.write(run.backbone, trunk.cpu(), folder, config.normalize)
    images = _some_images(run.image_source)
    if images is not None:
        result.proofs = export.prove(run.backbone, run.frozen, trunk, folder, config.normalize, images)
    thresholds.write(run, folder)
    title = f"{run.backbone.whole.name or Path(config.net).stem}: {config.loss}"
    if config.figure and not curves.draw(
        position.rows, folder, title=title, far=config.val_far, best_step=result.best_step
    ):
        warnings.warn("no curves.png: matplotlib is not installed", NormfaceWarning, stacklevel=2)
    result.write(folder / METRICS)


def _scale(loss: nn.Module) -> dict[str, float]:
    """The loss's scale (L2-softmax calls it alpha), learned or fixed; of a sum the first one's, where it has one."""
    held = [getattr(part, name) for part in loss.modules() for name in ("scale", "alpha") if hasattr(part, name)]
    return {"scale": float(torch.as_tensor(held[0]).detach())} if held else {}


def _some_images(source: ImageSource, number: int = 8) -> np.ndarray | None:
    """A few training images, prepared for the net; None where none of them could be read."""
    places = np.linspace(0, len(source) - 1, min(number, len(source))).astype(np.int64)
    inputs, readable = source.load(Chosen(places, np.zeros(len(places), bool)))
    return inputs.numpy() if readable.any() else None
