"""--find-lr: the learning rate range test (Smith 2017, "Cyclical learning rates"): the loss while the rate grows.

Each step has a rate larger than the one before by one factor. The loss of a step is smoothed over those before it, by
an average with decay 0.9 freed of its start. The test ends where that is four times its least, or no number. The
suggestion is the rate where it falls fastest over the logarithm of the rate, which is fastai's "steepest", before the
least; a tenth of the rate of the least is the other rule that people use.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from caffeport.files import replacing_path
from caffeport.to_torch.float32 import whole_float32

from ..errors import TrainingError
from .config import Config
from .fabric import make_fabric, progress_of
from .feeding import ahead
from .head_start import start_head
from .run import prepare
from .schedule import optimizers as make_optimizers
from .schedule import set_rates
from .unfreezing import Unfreezing, starts

LEAST, MOST, STEPS = 1e-6, 10.0, 100
SMOOTH, DIVERGED = 0.9, 4.0


@dataclass(frozen=True)
class Found:
    """rates, losses, smoothed: of each step. steepest: the rate where the smoothed loss falls fastest; least: of its
    least."""

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    steepest: float
    least: float

    @property
    def suggestion(self) -> float:
        """The smaller of both rules, so that a run starts safely."""
        return min(self.steepest, self.least / 10)

    def summary(self) -> dict[str, object]:
        return {
            "suggestion": self.suggestion,
            "steepest": self.steepest,
            "least": self.least,
            "rates": self.rates,
            "losses": self.losses,
            "smoothed": self.smoothed,
        }


@whole_float32()
def find(config: Config) -> Found:
    """Train for up to STEPS steps from --lr LEAST to MOST, on one device, and forget it. Writes nothing."""
    config = replace(config.as_read(), devices=1, nodes=1, val_share=0.0, val=None, test=None, val_bin=None)
    config = replace(config, val_pairs=None, val_blufr=None, val_images=2000, patience=None)
    fabric = make_fabric(config)
    fabric.launch()
    run = prepare(config, fabric)
    start_head(run, fabric)
    trunk, loss = run.trunk, run.loss
    optimizers = make_optimizers(config, run.backbone, trunk, loss, run.sampled)
    Unfreezing(trunk, starts(replace(config, freeze_steps=0.0, unfreeze={}), run.backbone, STEPS)).at(0)
    trunk.train()
    loss.train()
    rates = np.geomspace(LEAST, MOST, STEPS)
    losses: list[float] = []
    used: list[float] = []
    batches = map(run.sampler.batch, range(STEPS * config.accumulate))
    with (
        closing(ahead(run.source, batches, config.readers)) as feed,
        progress_of(fabric, "learning rates", STEPS) as bar,
    ):
        for rate in rates.tolist():
            set_rates(optimizers, rate / config.lr)
            total, images = 0.0, 0
            for chosen, inputs, kept in (next(feed) for _ in range(config.accumulate)):
                if not kept.any():
                    continue
                labels = torch.from_numpy(run.labels[chosen.places[kept]]).to(fabric.device)
                with fabric.autocast():
                    features = trunk(inputs.to(fabric.device))
                value = loss(features.float(), labels)
                if value.requires_grad:
                    (value / config.accumulate).backward()
                total += float(value.detach()) * len(labels)
                images += len(labels)
            bar.advance()
            if not images:
                continue
            losses.append(total / images)
            used.append(rate)
            curve = smoothed(losses)
            if not math.isfinite(losses[-1]) or curve[-1] > DIVERGED * min(curve):
                break
            if config.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_([*trunk.parameters(), *loss.parameters()], config.clip_norm)
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    return judged(used, losses)


def smoothed(losses: list[float]) -> list[float]:
    """a_t = 0.9 a_(t-1) + 0.1 l_t, divided by 1 - 0.9^t."""
    average, curve = 0.0, []
    for number, loss in enumerate(losses, 1):
        average = SMOOTH * average + (1 - SMOOTH) * loss
        curve.append(average / (1 - SMOOTH**number))
    return curve


def judged(rates: list[float], losses: list[float]) -> Found:
    """The suggestion for the losses of these rates. Raises TrainingError where they fall nowhere."""
    curve = smoothed(losses)
    good = [index for index, value in enumerate(curve) if math.isfinite(value)]
    least = min(good, key=lambda index: curve[index], default=0)
    if least < 2:
        raise TrainingError(
            "--find-lr: the loss falls at no learning rate; is this loss, or --head, at its least already?"
        )
    slopes = np.gradient(np.array(curve[: least + 1]), np.log10(rates[: least + 1]))
    return Found(rates, losses, curve, rates[int(np.argmin(slopes))], rates[least])


def draw(found: Found, path: Path) -> None:
    """Write the curve as a PNG."""
    from ..evaluate.figures import figure

    image = figure(5.2, 3.8)
    axes = image.add_subplot()
    axes.plot(found.rates, found.losses, color="tab:gray", lw=0.8, label="loss of the step")
    axes.plot(found.rates, found.smoothed, color="tab:blue", label="smoothed")
    axes.axvline(found.suggestion, color="tab:red", ls="--", lw=1, label=f"suggestion: --lr {found.suggestion:.2g}")
    axes.set_xscale("log")
    top = max(found.smoothed[0], min(found.smoothed)) * 1.6
    axes.set_ylim(min(0.0, *(value for value in found.smoothed if math.isfinite(value))), top)
    axes.set(xlabel="--lr", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with replacing_path(path) as temporary:
        image.savefig(temporary, format="png")
