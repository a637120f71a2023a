"""Ranks of a class-parallel training killed at random: each run resumed on another number of ranks ends where one does.

Claims: after 20 SIGKILLs, in the middle of steps and of checkpoints, the last loss is within 1e-6 of the undisturbed
run's, at most one interval is done again, and every checkpoint that there is can be read.

    python benchmarks/class_parallel_kills.py [--kills 20] [--steps 60] [--every 3] [--seed 0] [--json FILE]

It runs the training of tests/support/parallel_training.py, from the clone.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from normface import parallel
from support.parallel_training import train
from support.ranks import PATIENCE, run_ranks, started

TRAIN = "support.parallel_training:train"
RANKS = 4


def one_kill(folder: Path, steps: int, every: int, chance: random.Random, expected: float) -> dict[str, Any]:
    """Kill a rank in a step or while it saves, resume on one, two, three or five, and compare the last loss."""
    saves = chance.random() < 0.5
    step = chance.randrange(1, steps // every) * every - 1 if saves else chance.randrange(every, steps - 1)
    kill = {"rank": chance.randrange(RANKS), "step": step, "written": chance.randrange(2000) if saves else -1}
    arguments = (str(folder), steps, every, "curricularface", None, "sgd", kill)
    with tempfile.TemporaryDirectory() as meeting:
        ranks = [started(rank, RANKS, Path(meeting), TRAIN, *arguments) for rank in range(RANKS)]
        for rank in ranks:
            rank.communicate(timeout=PATIENCE)
    if ranks[kill["rank"]].returncode != -9:  # the checkpoint was smaller than the bytes that it waited for
        kill["written"] = None
    newest = parallel.latest(folder)
    others = chance.choice([1, 2, 3, 5])
    results = run_ranks(others, TRAIN, str(folder), steps, every)
    last = results[0]["losses"].get(str(steps - 1))
    again = step - int(newest.name.rpartition("-")[2]) if newest else step
    return {
        **kill, "resumed with": others, "steps again": again, "difference": abs(last - expected),
        "left behind": len(list(folder.glob(".step*"))),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, default in (("kills", 20), ("steps", 60), ("every", 3), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default {default})")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        expected = train(f"{place}/undisturbed", options.steps, 10**6)["losses"][options.steps - 1]
        for number in range(options.kills):
            rows.append(one_kill(Path(place) / str(number), options.steps, options.every, chance, expected))
            print(json.dumps(rows[-1]), flush=True)
    most = max(row["difference"] for row in rows)
    again = max(row["steps again"] for row in rows)
    print(f"{len(rows)} kills: the last loss within {most:.1e} (limit 1e-6), at most {again} steps made again")
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    if not most <= 1e-6 or again > options.every:
        sys.exit(1)


if __name__ == "__main__":
    main()
