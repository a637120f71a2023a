"""The result tables in miniature: each loss finetunes a softmax embedding, or trains it from the start.

Strangers are verified with it: with --lfw, --net and --weights the 4,249 people of BLUFR's first test list after
training on 1,500 others, else the digits 7 to 9 after 0 to 6, which decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from . import style
from .embedding import BEFORE, CONTROL, FROM_SCRATCH, LOSSES, Shown, Task, chosen_rates, row_of, table
from .intervals import Interval, interval, plain, verdict
from .mnist import Digits, read_digits
from .result import Figure, Options, Result

CLAIM = (
    "Finetuned for a few epochs by a normalised loss, a net that was trained by softmax verifies people whom it has "
    "never seen better than before; the same training by softmax does not do it."
)
SEEDS, EPOCHS = 10, {False: 15, True: 100}
KNOWN_DIGITS = 7
DIGITS_FAR, FACES_FAR = 0.01, 0.001
MOST_EACH = 1000
"""Images of an unseen digit, beside those of the test set."""
NORMALISED = ("normalised softmax, learned scale", "C-contrastive", "C-triplet", "AM-Softmax")
"""The rows that the claim is judged by."""
FACES, DIGITS = "4,249 people of LFW", "digits 7 to 9"


def run(options: Options) -> Result:
    decides = options.lfw is not None or options.net is not None
    data, task = (FACES, faces(options)) if decides else (DIGITS, digits(options))
    rates = chosen_rates(task, data)
    verified = table(task, range(options.seed, options.seed + SEEDS), rates, f"{data}: seeds")
    gained = gains(verified)
    in_favour = [gained[against][row] for against in (BEFORE, CONTROL) for row in NORMALISED]
    measured = {
        "verified": {row: list(values) for row, values in verified.items()},
        "learning rates, chosen on the development splits": rates,
        "gains over (mean and 95 % interval)": {against: plain(of_rows) for against, of_rows in gained.items()},
    }
    finding = told(data, task, verified, gained)
    if not decides:
        finding += " Faces were not measured: they need --lfw, --net and --weights; seven digits decide nothing."
    figures = [Figure(f"{'faces' if decides else 'digits'}.png", caption(data), drawing(verified, data))]
    return Result(CLAIM, finding, measured, verdict(in_favour) if decides else None, figures)


def digits(options: Options) -> Task:
    """Pixels straight into an embedding 784-256-32."""
    train, test = read_digits(options.mnist)
    known, unseen = range(KNOWN_DIGITS), range(KNOWN_DIGITS, 10)
    parts = [train.only(unseen).first(MOST_EACH), test.only(unseen)]
    strangers = Digits(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels")))
    epochs = EPOCHS[options.full] // 2
    return Task(_pixels(train.only(known)), _pixels(strangers), hidden=256, size=32, epochs=epochs, far=DIGITS_FAR)


def _pixels(digits: Digits) -> Shown:
    pixels = torch.from_numpy(digits.as_input()).flatten(1)
    return Shown(pixels, pixels, torch.from_numpy(digits.labels - digits.labels.min()))


def faces(options: Options) -> Task:
    """A frozen net's features into an embedding D-256-64."""
    from .lfw_lists import first_trial

    known, unseen = first_trial(options, Path(options.out) / "finetune-table")
    return Task(known, unseen, hidden=256, size=64, epochs=EPOCHS[options.full], far=FACES_FAR)


def gains(verified: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Interval]]:
    """What is compared with -> row -> the interval of the paired differences, seed by seed.

    Every row with BEFORE, with softmax trained as long, and each loss that finetuned with itself from scratch.
    """

    def over(row: str, against: str) -> Interval:
        return interval([one - other for one, other in zip(verified[row], verified[against], strict=True)])

    rows = [row for row in verified if row != BEFORE]
    finetuned = [row for row in rows if FROM_SCRATCH + row in verified]
    return {
        BEFORE: {row: over(row, BEFORE) for row in rows},
        CONTROL: {row: over(row, CONTROL) for row in rows if row != CONTROL},
        "the same loss from scratch": {row: over(row, FROM_SCRATCH + row) for row in finetuned},
    }


def told(
    data: str, task: Task, verified: Mapping[str, Sequence[float]], gained: Mapping[str, Mapping[str, Interval]]
) -> str:
    count = len(verified[BEFORE])
    parts = [f"{row} {mean_and_range(verified[row])}" for row in (BEFORE, *LOSSES) if row in verified]
    scratch = [f"{row_of(row)[0]} {mean_and_range(verified[row])}" for row in verified if row_of(row)[1]]
    differences = [
        f"over {against}: " + "; ".join(f"{row} {of_rows[row]}" for row in NORMALISED if row in of_rows)
        for against, of_rows in gained.items()
        if of_rows
    ]
    from_scratch = (
        f" From scratch for as long as softmax and finetuning together: {'; '.join(scratch)}." if scratch else ""
    )
    return (
        f"Genuine pairs of {data} verified at FAR {task.far:.1%}, percent, mean and range of {count} seeds, learning "
        f"rates chosen on a third of the known people: {'; '.join(parts)}.{from_scratch} Paired differences over the "
        f"seeds (95 % interval), {'; '.join(differences)}."
    )


def mean_and_range(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def caption(data: str) -> str:
    return (
        f"Verification of {data}, which no training has seen: a dot a seed, a bar at the mean. Finetuning in colour, "
        "the same loss from scratch beside it in grey."
    )


def drawing(verified: Mapping[str, Sequence[float]], data: str) -> Any:
    rows = [row for row in verified if not row_of(row)[1]]
    drawn, axes = style.subplots(width=8, height=0.42 * len(rows) + 1.4)
    for place, row in enumerate(rows):
        color = style.VERMILION if row.startswith("softmax") else style.BLUE
        of_row = [(verified[row], -0.13, color)]
        if FROM_SCRATCH + row in verified:
            of_row.append((verified[FROM_SCRATCH + row], 0.17, style.GREY))
        for values, off, shade in of_row:
            axes.plot(values, [place + off] * len(values), "o", color=shade, alpha=0.5, markersize=4)
            axes.plot([np.mean(values)] * 2, [place + off - 0.15, place + off + 0.15], color=shade, linewidth=2.5)
    axes.axvline(np.mean(verified[BEFORE]), color=style.GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_xlabel(f"pairs of {data} verified, in percent")
    return drawn
