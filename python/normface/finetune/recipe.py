"""Finetuning, from the first step to the exported files, as one plain loop."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import NormfaceWarning
from . import config_file, curves, export
from .backbone import Trunk
from .checkpoint import CHECKPOINT, Checkpoints, Position
from .config import Config
from .fabric import make_fabric, progress_of
from .feeding import PictureSource, ahead
from .output import CONFIG, METRICS, check_folder, open_folder
from .records import Records
from .result import INTERRUPTED, Result
from .run import prepare
from .schedule import factor
from .schedule import optimizer as make_optimizer
from .validation import NotFinite


class Objective(nn.Module):
    """The trained part and the loss as one module, as Fabric wants it: inputs, labels (n,) -> scalar."""

    def __init__(self, trunk: Trunk, loss: nn.Module) -> None:
        super().__init__()
        self.trunk, self.loss = trunk, loss

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.trunk(inputs), labels)


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
    the best model so far, or the last checkpoint's, is exported. Raises Diverged where there is none yet, TrainingError
    and DataError for all that cannot start.
    """
    config.check()
    folder = check_folder(config, resume=resume, overwrite=overwrite)
    started = time.monotonic()
    fabric = make_fabric(config)
    leads = fabric.is_global_zero
    resumes = resume and (folder / CHECKPOINT).is_file()
    run = prepare(config, fabric, resumes=resumes)
    trunk, loss, sampler, validation = run.trunk, run.loss, run.sampler, run.validation
    optimizer = make_optimizer(config, run.backbone, trunk, loss)
    saved = Checkpoints(folder, run, optimizer, fabric)
    position = saved.restore() if resumes else Position()
    objective, optimizer = fabric.setup(Objective(trunk, loss), optimizer)

    if leads:
        open_folder(folder, clear=overwrite)
        config_file.write(config, folder / CONFIG)
    records = Records(folder if leads else None, position.rows, config.tensorboard)
    validate_every = config.validate_every or max(1, round(run.steps_per_epoch))
    checkpoint_every = config.checkpoint_every or validate_every

    if validation is not None and not position.rows:
        position.before = validation.run(trunk, fabric.device)
        records.write({"step": 0, "epoch": 0.0, **asdict(position.before)})

    share = slice(fabric.global_rank, None, fabric.world_size)  # of each batch, this process's pictures
    numbers = range(position.step * config.accumulate, run.steps * config.accumulate)
    feed = ahead(run.source, (tuple(part[share] for part in sampler.batch(n)) for n in numbers), config.readers)
    objective.train()
    stopped, diverged = position.out_of_patience(config.patience), ""
    with closing(feed), closing(records), progress_of(fabric, "finetune", run.steps, position.step) as bar:
        while position.step < run.steps and not stopped:
            rate = factor(config, position.step, run.steps)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * (rate if group["scheduled"] else 1)
            loss_of_step = 0.0
            for micro in range(config.accumulate):
                (places, _), inputs, kept = next(feed)
                if not kept.any():
                    continue  # every picture of the batch was left out
                labels = torch.from_numpy(run.labels[places[kept]]).to(fabric.device)
                with fabric.no_backward_sync(objective, enabled=micro < config.accumulate - 1):
                    value = objective(inputs.to(fabric.device), labels)
                    fabric.backward(value / config.accumulate)
                loss_of_step += float(value.detach()) / config.accumulate
            loss_of_step, asked = _of_all(fabric, loss_of_step, should_stop())
            if not math.isfinite(loss_of_step):
                diverged = stopped = f"the loss is {loss_of_step} at step {position.step + 1}"
                break
            if config.clip_norm is not None:
                fabric.clip_gradients(objective, optimizer, max_norm=config.clip_norm, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            position.count(loss_of_step)
            bar.advance(words=f"loss {loss_of_step:.4g}")

            step, last = position.step, position.step == run.steps
            validates = validation is not None and (last or step % validate_every == 0)
            keeps = last or step % checkpoint_every == 0
            if (validates or keeps or asked) and (bad := saved.broken()):
                diverged = stopped = f'the weights "{bad}" are no numbers after step {step}'
                break
            row = {"step": step, "epoch": step / run.steps_per_epoch, "lr": config.lr * rate, **_scale(loss)}
            if validates:
                try:
                    score = validation.run(trunk, fabric.device)
                except NotFinite as error:
                    diverged = stopped = f"{error} after step {step}"
                    break
                row |= asdict(score)
                if position.judge(score):
                    saved.save_best()
                stopped = "" if last else position.out_of_patience(config.patience)
            if validates or last or step % config.log_every == 0:
                records.write(row | {"loss": position.mean_loss()})
            if asked and not last:
                stopped = INTERRUPTED
            if keeps or stopped:
                saved.save(position)

    result = Result.of(run, position, stopped, diverged, time.monotonic() - started, leads)
    if stopped == INTERRUPTED or not leads:
        return result
    if diverged or position.best_step is not None:
        saved.restore_best(diverged)
    export.write(run.backbone, trunk.cpu(), loss, folder, config.normalize)
    pictures = _some_pictures(run.picture_source)
    if pictures is not None:
        result.proofs = export.prove(run.backbone, run.frozen, trunk, folder, config.normalize, pictures)
    title = f"{run.backbone.whole.name or Path(config.net).stem}: {config.loss}"
    if config.figure and not curves.draw(
        records.rows, folder, title=title, far=config.val_far, best_step=position.best_step
    ):
        warnings.warn("no curves.png: matplotlib is not installed", NormfaceWarning, stacklevel=2)
    result.write(folder / METRICS)
    return result


def _of_all(fabric: Any, loss: float, asked: bool) -> tuple[float, bool]:
    """The mean loss of all processes, and whether any of them was asked to stop: they have to agree."""
    if fabric.world_size == 1:
        return loss, asked
    mine = torch.tensor([loss, float(asked)], dtype=torch.float64, device=fabric.device)
    mean, share = fabric.all_reduce(mine, reduce_op="mean").tolist()
    return mean, share > 0


def _scale(loss: nn.Module) -> dict[str, float]:
    """The loss's scale (L2-softmax calls it alpha), learned or fixed; of a sum the first one's, where it has one."""
    held = [getattr(part, name) for part in loss.modules() for name in ("scale", "alpha") if hasattr(part, name)]
    return {"scale": float(torch.as_tensor(held[0]).detach())} if held else {}


def _some_pictures(source: PictureSource, number: int = 8) -> np.ndarray | None:
    """A few training pictures, prepared for the net; None where none of them could be read."""
    places = np.linspace(0, len(source) - 1, min(number, len(source))).astype(np.int64)
    inputs, kept = source.load((places, np.zeros(len(places), bool)))
    return inputs.numpy() if kept.any() else None
