"""``normface finetune``: flags and config.toml to the recipe, and its result to the screen."""

from __future__ import annotations

import argparse
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

from caffeport.cli.arguments import check_model
from caffeport.cli.command import DONE, FAILED, complain, print_table, tell
from caffeport.cli.parser import OneLineParser
from caffeport.json_text import to_json
from caffeport.table import Table

from ..errors import DivergedError, LostRankError, NormfaceError
from ..finetune.config import EARLIER_NAMES, Config, flag
from ..interrupts import Interrupts

EXAMPLES = (
    "normface finetune deploy.prototxt face.caffemodel --data faces/ --embedding fc5 --preset center-face --out tuned",
    "normface finetune deploy.prototxt face.caffemodel --data faces.zip --embedding fc5 --preset normface "
    "--loss am-softmax --loss-option margin=0.35 --freeze-backbone --out tuned",
    "normface finetune --config tuned/config.toml --lr 0.0005 --out again",
    "normface finetune --resume --out tuned",
)
_PLACES = ("net", "weights")
UNUSED = "unused"
"""--out of what writes nothing there."""
BIN = ".bin"
"""The ending of the files of an option that takes several."""
_FLAGS = {"loss_options": "--loss-option"}
"""The flags that are not the setting's name, which is taken as well."""


def add_arguments(parser: OneLineParser) -> None:
    parser.add_argument("--config", metavar="F.toml", type=Path, help="settings from a file; flags win over it")
    groups: dict[str, Any] = {}
    for entry in fields(Config):
        if entry.name in _PLACES:
            about = entry.metadata
            parser.add_place(entry.name, flag(entry.name), metavar=about["metavar"], help=about["help"])
            continue
        name = entry.metadata["group"]
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        _add(parser, groups[name], entry)
    for earlier, name in EARLIER_NAMES.items():
        parser.add_alias(flag(earlier), flag(name))
    groups["preprocessing"].add_argument(
        "--pad", dest="fit", action="store_const", const="pad", help="the same as --fit pad"
    )
    out = groups["output"]
    out.add_argument("--resume", action="store_true", help="go on with the run in --out, to the same numbers")
    out.add_argument("--overwrite", action="store_true", help="replace an earlier run in --out")
    out.add_argument("--json", action="store_true", help="print the result as JSON")
    looks = parser.add_argument_group("looks", "before a run; nothing is trained or written but the image; no --out")
    looks.add_argument("--augment-preview", type=Path, metavar="F.png", help="images as --augment changes them")
    looks.add_argument("--find-lr", action="store_true", help="the loss at growing learning rates, and a suggestion")
    looks.add_argument("--find-lr-figure", type=Path, metavar="F.png", help="--find-lr, and its curve as an image")


def _add(parser: OneLineParser, group: Any, entry: Field[Any]) -> None:
    """A flag of text; its value is read where TOML's is, so that all problems are told together."""
    about = entry.metadata
    default = entry.default if entry.default is not MISSING else None
    text = about["help"]
    if default not in (None, "", False, ()):
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        text += f" (default {'on' if default is True else shown})"
    text = text.replace("%", "%%")
    if about["kind"] == "flag":
        group.add_argument(flag(entry.name), action=argparse.BooleanOptionalAction, default=None, help=text)
        return
    metavar = about.get("metavar") or ("{" + ",".join(about["choices"]) + "}" if "choices" in about else "N")
    option = _FLAGS.get(entry.name, flag(entry.name))
    if option != flag(entry.name):
        parser.add_alias(flag(entry.name), option)
    if about["kind"] == "numbers":
        parser.take_numbers(option)
    elif about["kind"] in ("table", "steps of blobs"):
        parser.take_tables(option)
    elif about["kind"] == "paths":
        parser.take_files(option, BIN)
    action = "append" if about["kind"] in ("table", "steps of blobs", "paths") else "store"
    group.add_argument(option, dest=entry.name, action=action, metavar=metavar, help=text)


def run(options: argparse.Namespace) -> int:
    looks = _looks(options)
    config = _config(options, looks)
    if looks:
        return _look(options, config)
    from ..finetune.recipe import finetune
    from ..finetune.result import INTERRUPTED as INTERRUPTED_RUN

    try:
        with Interrupts(ready=False, words=_STOPPING) as should_stop:
            result = finetune(config, resume=options.resume, overwrite=options.overwrite, should_stop=should_stop)
    except DivergedError as error:
        complain("normface", f"{error}; {_ADVICE}")
        return FAILED
    except LostRankError as error:
        complain("normface", str(error))
        return FAILED
    if not result.leads:
        return DONE
    _print(result, as_json=options.json)
    if result.stopped == INTERRUPTED_RUN:
        complain("normface", f"interrupted after step {result.steps}; --resume --out {config.out} goes on")
        return should_stop.code
    if result.diverged:
        complain("normface", f"{result.diverged}; {config.out} holds the last good model; {_ADVICE}")
    return DONE if result.ok else FAILED


def _looks(options: argparse.Namespace) -> bool:
    """Whether only to look at something, and where its image can go."""
    options.find_lr = options.find_lr or options.find_lr_figure is not None
    for name, path in (("--augment-preview", options.augment_preview), ("--find-lr-figure", options.find_lr_figure)):
        if path is None:
            continue
        if path.suffix.lower() != ".png":
            raise NormfaceError(f"{name} {path}: expected the name of a .png to write")
        if not path.parent.is_dir():
            raise NormfaceError(f"{name} {path}: the folder {path.parent} does not exist")
    return options.find_lr or options.augment_preview is not None


def _look(options: argparse.Namespace, config: Config) -> int:
    from ..finetune import augment_preview, find_lr

    if options.augment_preview is not None:
        images = augment_preview.write(config, options.augment_preview)
        if not options.json:
            tell(options, f"wrote {options.augment_preview}: {images} images and what --augment makes of them")
    if not options.find_lr:
        return DONE
    found = find_lr.find(config)
    if options.find_lr_figure is not None:
        find_lr.draw(found, options.find_lr_figure)
    if options.json:
        print(to_json(found.summary()))
        return DONE
    lines = list(zip(found.rates, found.losses, found.smoothed, strict=True))
    shown = [
        (f"{rate:.2e}", f"{loss:.4g}", f"{smooth:.4g}") for rate, loss, smooth in lines[:: max(1, len(lines) // 20)]
    ]
    print_table(Table(("--lr", "loss", "smoothed"), shown, {"--lr", "loss", "smoothed"}))
    print(f"falls fastest at --lr {found.steepest:.2g}, is least at {found.least:.2g}")
    print(f"suggestion: --lr {found.suggestion:.2g}")
    return DONE


def _config(options: argparse.Namespace, looks: bool = False) -> Config:
    """The settings, checked as far as it goes before torch is imported, which takes seconds."""
    from ..finetune import config_file

    if options.net is not None and Path(options.net).is_dir() and options.weights is None:
        _take_folder(options)
    check_model(options.net, options.weights)
    given = {entry.name: getattr(options, entry.name) for entry in fields(Config)}
    given = {name: value for name, value in given.items() if value is not None}
    stored: dict[str, Any] = {}
    if options.config is not None:
        stored = config_file.read(options.config)
    elif options.resume and "out" in given and (Path(given["out"]) / config_file.NAME).is_file():
        stored = config_file.read(Path(given["out"]) / config_file.NAME)
    elif options.resume and "out" in given and "net" not in given:
        raise NormfaceError(
            f"--resume: {given['out']} holds no run to go on with (it has no {config_file.NAME}); name its folder, or "
            "start one: NET WEIGHTS --data DATA --embedding BLOB --out DIR"
        )
    if looks:
        given.setdefault("out", UNUSED)
    return Config.from_settings({**stored, **given})


def _take_folder(options: argparse.Namespace) -> None:
    """A finetuned model's folder as NET: its net, its weights, and, unless told otherwise, what its images need."""
    from .. import model_folder

    model = model_folder.read(options.net)
    options.net, options.weights = str(model.net), str(model.weights)
    if options.config is None and not any(getattr(options, name) is not None for name in ("preset", "mean", "scale")):
        before = model.preprocessing
        options.mean, options.scale = list(before.mean), before.scale
        options.rgb = before.rgb if options.rgb is None else options.rgb
        options.fit = before.fit if options.fit is None else options.fit


THRESHOLDS = "model.toml"
_STOPPING = "stopping after this step, with a checkpoint; once more stops at once"
_ADVICE = "a lower --lr or --head-lr-mult, --clip-norm, or a longer --warmup may help"


def _print(result: Any, as_json: bool) -> None:
    if as_json:
        print(to_json(result.summary()))
        return
    headings, lines = result.table()
    if lines:
        print_table(Table(headings, lines, set(headings[1:])))
    held = result.held_out
    if held["identities"]:
        print(
            f"{held['pictures']} images of {held['identities']} held-out people: {held['genuine_pairs']:,} genuine "
            f"and {held['impostor_pairs']:,} impostor pairs, of which FAR {100 * result.far:g} % lets in "
            f"{held['impostors_accepted']:,}"
        )
    headings, lines = result.test_table()
    if lines:
        print_table(Table(headings, lines, set(headings[1:])))
        held = result.test.held
        print(f"{held['pictures']} images of {held['identities']} people of {result.test.data}; {result.test_words()}")
    if result.hard_samples:
        worst = result.hard_samples[0]
        print(
            f"hard_samples.csv, hard_samples.png: the {len(result.hard_samples)} training images least like their own "
            f"identity, from {worst['image']} on ({worst['cosine']:.3f} to {worst['identity']}, "
            f"{worst['nearest_cosine']:.3f} to {worst['nearest']})"
        )
    for note in result.notes:
        print(f"note: {note}")
    if not result.proofs:
        return
    best = f"the model of step {result.best_step}" if result.best_step else "the last model"
    why = f" (stopped: {result.stopped})" if result.stopped else ""
    print(
        f"{result.steps} of {result.planned_steps} steps{why}, {result.pictures} images of {result.identities} people"
    )
    if result.left_out:
        count = len(result.left_out)
        print(f"{count} {'image was' if count == 1 else 'images were'} left out")
    if result.best and not result.best.verifies_better_than(result.before):
        people = "sets" if result.best.tar is None else "held-out people"
        print(f"no step verifies the {people} better than the model it started from")
    print(f"{best} is in {result.out}:")
    print_table(result.proof_table())
    if (Path(result.out) / THRESHOLDS).is_file():
        print(f"{THRESHOLDS}: thresholds, measured on the held-out people; normface compare finds them there")
