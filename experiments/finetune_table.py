"""The result tables in miniature: each loss finetunes a softmax embedding, and strangers are verified with it.

On the digits 7 to 9 after training on 0 to 6 and, with --lfw, --net and --weights, on the 4,249 people of BLUFR's first
test list after training on 1,500 others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import style
from .embedding import BEFORE, Shown, Task, table
from .mnist import Digits, read_digits
from .result import Figure, Options, Result

CLAIM = (
    "Finetuned for a few epochs by a normalised loss, a net that was trained by softmax verifies people whom it has "
    "never seen better than before; the same training by softmax does not do it."
)
SEEDS, EPOCHS = {False: 5, True: 10}, {False: 40, True: 100}
KNOWN_DIGITS = 7
DIGITS_FAR, FACES_FAR = 0.01, 0.001
DIGITS_RATE = 0.03
MOST_EACH = 1000
"""Images of an unseen digit, beside those of the test set."""
NORMALISED = ("normalised softmax, learned scale", "C-contrastive", "C-triplet", "AM-Softmax")
"""The rows that the claim is judged by."""


def run(options: Options) -> Result:
    seeds = range(options.seed, options.seed + SEEDS[options.full])
    rates = {"digits 7 to 9": table(digits(options), seeds, "digits: seeds")}
    if options.lfw is not None or options.net is not None:
        rates["4,249 people of LFW"] = table(faces(options), seeds, "faces: seeds")
    measured = {data: {row: list(values) for row, values in rows.items()} for data, rows in rates.items()}
    decided = {data: gains(rows) for data, rows in rates.items()}
    judged = decided.get("4,249 people of LFW")
    finding = " ".join(told(data, rows) for data, rows in rates.items())
    if judged is None:
        finding += " Faces were not measured: they need --lfw, --net and --weights; seven digits decide nothing."
    holds = None if judged is None else all(judged.values())
    figures = [Figure(f"{_file(data)}.png", caption(data), drawing(rows, data)) for data, rows in rates.items()]
    return Result(CLAIM, finding, {"rates": measured, "gains_with_every_seed": decided}, holds, figures)


def digits(options: Options) -> Task:
    """Pixels straight into an embedding 784-256-32."""
    train, test = read_digits(options.mnist)
    known, unseen = range(KNOWN_DIGITS), range(KNOWN_DIGITS, 10)
    parts = [train.only(unseen).first(MOST_EACH), test.only(unseen)]
    strangers = Digits(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels")))
    epochs = EPOCHS[options.full] // 2
    shown = [_pixels(train.only(known)), _pixels(strangers)]
    return Task(*shown, hidden=256, size=32, epochs=epochs, far=DIGITS_FAR, finetuning_rate=DIGITS_RATE)


def _pixels(digits: Digits) -> Shown:
    pixels = torch.from_numpy(digits.as_input()).flatten(1)
    return Shown(pixels, pixels, torch.from_numpy(digits.labels - digits.labels.min()))


def faces(options: Options) -> Task:
    """A frozen net's features into an embedding D-256-64."""
    from .lfw_lists import first_trial

    known, unseen = first_trial(options, Path(options.out) / "finetune-table")
    return Task(known, unseen, hidden=256, size=64, epochs=EPOCHS[options.full], far=FACES_FAR)


def gains(rows: Mapping[str, list[float]]) -> dict[str, bool]:
    """Whether a normalised loss verifies more than before with every seed, and more than softmax trained as long."""
    control = "softmax, as long again"
    return {
        row: all(
            after > max(before, again)
            for after, before, again in zip(rows[row], rows[BEFORE], rows[control], strict=True)
        )
        for row in NORMALISED
    }


def told(data: str, rows: Mapping[str, list[float]]) -> str:
    parts = [f"{row} {np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})" for row, values in rows.items()]
    far = "1 %" if data.startswith("digits") else "0.1 %"
    count = len(rows[BEFORE])
    return (
        f"Genuine pairs of {data} verified at FAR {far}, percent, mean and range of {count} seeds: {'; '.join(parts)}."
    )


def caption(data: str) -> str:
    return f"Verification of {data}, which no training has seen: a dot a seed, a bar at the mean."


def drawing(rows: Mapping[str, list[float]], data: str) -> Any:
    drawn, axes = style.subplots(width=8, height=0.42 * len(rows) + 1.4)
    for place, (row, rates) in enumerate(rows.items()):
        color = style.GREY if row.startswith("softmax") else style.BLUE
        axes.plot(rates, [place] * len(rates), "o", color=color, alpha=0.6)
        axes.plot([np.mean(rates)] * 2, [place - 0.3, place + 0.3], color=color, linewidth=2.5)
    axes.axvline(np.mean(rows[BEFORE]), color=style.GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(f"pairs of {data} verified, in percent")
    return drawn


def _file(data: str) -> str:
    return "digits" if data.startswith("digits") else "faces"
