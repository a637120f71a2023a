"""Write docs/slides.md and docs/slides/ from the results of ``python -m experiments all``.

    python docs/slides_page.py [OUT]

OUT is that command's --out (default out); what it has no results of stays as the page has it. The figures are the same
with fewer colours, which take less room.
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

from caffeport.files import replacing
from PIL import Image

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # the experiments lie beside this folder and are not installed

from experiments.gallery import read_results  # noqa: E402
from experiments.registry import EXPERIMENTS  # noqa: E402
from experiments.report import RESULTS, VERDICTS  # noqa: E402

MOST_FIGURES = 3
"""Of an experiment: its first ones; the gallery has all, and the pages that can be turned."""
MOST_BYTES = 1_500_000
INTRODUCTION = """# The slides, live

What NormFace claims about normalised losses, in the order of its slides; each claim as an experiment that anyone can
run on a laptop's CPU. The same seed gives the same numbers on the same machine; where classes are compared, five seeds
are, and an interval that holds 0 decides nothing. Times are those of a two-core machine that had other work when this
page was made, and short where another experiment had trained the same nets before. A claim that does not hold at the
size that was run says so.

    pip install mlxtend
    python -m experiments list
    python -m experiments bound            # writes out/bound/: figures, results.json, claim.md
    python -m experiments all              # every one, and out/index.html with all of it

`--seed N` draws other random numbers, `--full` runs longer, `--mnist DIR` takes the whole of MNIST.
This page is written by `python docs/slides_page.py` from those results.

"""


ON_FACES = {**dict.fromkeys(("metrics", "finetune-table"), " --net NET --weights WEIGHTS"), "whole-net": ""}
"""Experiments that look at --lfw, and what else they need then."""


def main(out: Path) -> None:
    contents = {name: read_results(out / name / RESULTS) for name in EXPERIMENTS if (out / name / RESULTS).is_file()}
    if not contents:
        sys.exit(f"{out}: has no results; run: python -m experiments all --out {out}")
    (DOCS / "slides").mkdir(exist_ok=True)
    rows, sections = before()
    for name, content in contents.items():
        rows[name], sections[name] = row(content), section(content)
        for file in shown(content):
            with replacing(DOCS / "slides" / target(content, file)) as stream:
                stream.write(small(out / name / file))
    present = [name for name in EXPERIMENTS if name in sections]
    text = INTRODUCTION + "| experiment | claim | at this size it |\n|---|---|---|\n"
    text += "".join(rows[name] for name in present) + "".join(sections[name] for name in present)
    size = sum(path.stat().st_size for path in (DOCS / "slides").iterdir())
    if size > MOST_BYTES:
        sys.exit(f"the figures take {size:,} bytes, more than {MOST_BYTES:,}; show fewer")
    with replacing(DOCS / "slides.md") as stream:
        stream.write(text.encode())
    print(f"wrote {DOCS / 'slides.md'}: {len(contents)} experiments, figures of {size:,} bytes")


def before() -> tuple[dict[str, str], dict[str, str]]:
    """(rows of the table, sections) of the page as it is, by experiment: what OUT has no results of stays."""
    page = DOCS / "slides.md"
    head, *parts = re.split(r"(?m)^(?=## )", page.read_text(encoding="utf-8")) if page.is_file() else [""]
    sections = {part.split()[1]: "\n" + part.rstrip("\n") + "\n" for part in parts}
    rows: dict[str, str] = {}
    for line in head.splitlines():
        if match := re.match(r"\| \[([\w-]+)\]", line):
            rows[match[1]] = rows.get(match[1], "") + line + "\n"
    return rows, sections


def row(content: dict[str, Any]) -> str:
    """A line for the claim, and one for each that is decided beside it."""
    link = f"[{content['experiment']}](#{content['experiment']})"
    lines = f"| {link} | {content['title']} | {VERDICTS[content['holds']]} |\n"
    return lines + "".join(
        f"| {link} | {one['claim']} | {VERDICTS[one['holds']]} |\n" for one in content.get("also", [])
    )


def section(content: dict[str, Any]) -> str:
    figures = "".join(
        f"\n![{figure['caption']}](slides/{target(content, figure['file'])})\n\n*{figure['caption']}*\n"
        for figure in content["figures"]
        if figure["file"] in shown(content)
    )
    also = "".join(
        f"\n*Also claimed:* {one['claim']} That **{VERDICTS[one['holds']]}**.\n" for one in content.get("also", [])
    )
    return (
        f"\n## {content['experiment']}\n\n**{content['title']}.** {content['claim']}\n\n"
        f"*Measured:* {content['finding']}\n\nThe claim **{VERDICTS[content['holds']]}**. "
        f"`{command(content)}` ({content['timings']['seconds']:.0f} s)\n{also}{figures}"
    )


def command(content: dict[str, Any]) -> str:
    """Without the folders of the machine that made it."""
    words = f"python -m experiments {content['experiment']}"
    if content["experiment"] in ON_FACES and "--lfw" in content["command"]:
        words += " --lfw LFW" + ON_FACES[content["experiment"]]
    return words + f" --seed {content['seed']}" * bool(content["seed"]) + " --full" * content["full"]


def shown(content: dict[str, Any]) -> list[str]:
    files = [figure["file"] for figure in content["figures"]]
    return [file for file in files if not file.endswith(".html")][:MOST_FIGURES]


def target(content: dict[str, Any], file: str) -> str:
    return f"{content['experiment']}_{file}"


def small(path: Path) -> bytes:
    """A PNG with 64 colours; a GIF as it is."""
    if path.suffix == ".gif":
        return path.read_bytes()
    stream = io.BytesIO()
    image = Image.open(path).convert("RGB").quantize(64, dither=Image.Dither.NONE)
    image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out"))
