"""Write docs/slides.md and docs/slides/ from the results of ``python -m experiments all``.

    python docs/slides_page.py [OUT]

OUT is that command's --out (default out). The figures are the same with fewer colours, which take less room.
"""

from __future__ import annotations

import io
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


def main(out: Path) -> None:
    contents = [read_results(out / name / RESULTS) for name in EXPERIMENTS if (out / name / RESULTS).is_file()]
    if not contents:
        sys.exit(f"{out}: has no results; run: python -m experiments all --out {out}")
    (DOCS / "slides").mkdir(exist_ok=True)
    text, size = INTRODUCTION + summary(contents), 0
    for content in contents:
        text += section(content)
        for file in shown(content):
            image = small(out / content["experiment"] / file)
            size += len(image)
            with replacing(DOCS / "slides" / target(content, file)) as stream:
                stream.write(image)
    if size > MOST_BYTES:
        sys.exit(f"the figures take {size:,} bytes, more than {MOST_BYTES:,}; show fewer")
    with replacing(DOCS / "slides.md") as stream:
        stream.write(text.encode())
    print(f"wrote {DOCS / 'slides.md'}: {len(contents)} experiments, figures of {size:,} bytes")


def summary(contents: list[dict[str, Any]]) -> str:
    lines = [f"| [{c['experiment']}](#{c['experiment']}) | {c['title']} | {VERDICTS[c['holds']]} |" for c in contents]
    return "| experiment | claim | at this size it |\n|---|---|---|\n" + "\n".join(lines) + "\n"


def section(content: dict[str, Any]) -> str:
    figures = "".join(
        f"\n![{figure['caption']}](slides/{target(content, figure['file'])})\n\n*{figure['caption']}*\n"
        for figure in content["figures"]
        if figure["file"] in shown(content)
    )
    return (
        f"\n## {content['experiment']}\n\n**{content['title']}.** {content['claim']}\n\n"
        f"*Measured:* {content['finding']}\n\nThe claim **{VERDICTS[content['holds']]}**. "
        f"`{command(content)}` ({content['timings']['seconds']:.0f} s)\n{figures}"
    )


def command(content: dict[str, Any]) -> str:
    """Without the folders of the machine that made it."""
    words = f"python -m experiments {content['experiment']}"
    if "--lfw" in content["command"]:
        words += " --lfw LFW --net NET --weights WEIGHTS"
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
