"""One static page of all experiments that a folder holds: figures and paragraphs within it, nothing fetched."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import Any

from caffeport.files import replacing
from caffeport.json_text import to_json
from normface.errors import DataError
from normface.reading import parsing, printable, read_file, read_json

from .registry import EXPERIMENTS
from .report import RESULTS, VERDICTS

PAGE = "index.html"
MAX_FIGURE = 64 << 20  # bytes
KINDS = {".png": "image/png", ".gif": "image/gif"}

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --soft: #595959; --paper: #fff; --edge: #ddd; --card: #f6f6f4;
  --yes: #00664d; --no: #a34700; --open: #595959; }
@media (prefers-color-scheme: dark) { :root { --ink: #eee; --soft: #aaa; --paper: #161616; --edge: #3a3a3a;
  --card: #222; --yes: #4fd1ac; --no: #ff9d5c; --open: #aaa; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1.5rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, sans-serif; }
h1 { line-height: 1.2; } h2 { margin: 0; line-height: 1.25; }
nav ol { padding-left: 1.4rem; } a { color: inherit; }
section { border-top: 1px solid var(--edge); padding: 1.6rem 0; }
.verdict { font-weight: 600; } .yes { color: var(--yes); } .no { color: var(--no); } .open { color: var(--open); }
figure { margin: 1.2rem 0; } figcaption { color: var(--soft); font-size: .9rem; margin-top: .3rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; display: block; }
.shown { overflow-x: auto; border-radius: 4px; }
@media (max-width: 40rem) { body { padding: 1rem; } .shown img { max-width: none; max-height: 21rem; } }
iframe { width: 100%; height: 34rem; border: 1px solid var(--edge); border-radius: 4px; background: var(--paper); }
code { background: var(--card); padding: .1rem .3rem; border-radius: 3px; overflow-wrap: anywhere; }
pre { background: var(--card); padding: .8rem; overflow-x: auto; font-size: .82rem; max-height: 24rem; }
"""


def write(out: Path) -> tuple[Path, list[dict[str, Any]]]:
    """out/index.html from every out/NAME/results.json there is; returns the page's path and those results.

    Raises DataError where there is none, or where one is broken.
    """
    out = Path(out)
    contents = [read_results(out / name / RESULTS) for name in EXPERIMENTS if (out / name / RESULTS).is_file()]
    if not contents:
        raise DataError(f"{out}: has no results of an experiment; run: python -m experiments all --out {out}")
    page = out / PAGE
    text = html(out, contents)
    with replacing(page) as stream:
        stream.write(text.encode())
    return page, contents


def read_results(path: Path) -> dict[str, Any]:
    """Raises DataError for a file that is not what ``report`` writes."""
    content = read_json(path, "cannot be read (run the experiment again)")
    with parsing(path, "is not what an experiment writes (run it again)"):
        _check(path, content)
        html(path.parent.parent, [{**content, "figures": []}]).encode()  # all of it can be shown
    return content


def _check(path: Path, content: Any) -> None:
    wanted = {"experiment": str, "title": str, "command": str, "claim": str, "finding": str, "measured": dict,
              "figures": list, "timings": dict, "seed": int, "full": bool}  # fmt: skip
    wrong = [key for key, kind in wanted.items() if not isinstance(_item(content, key), kind)]
    figures = [] if wrong else content["figures"]
    sound = all(isinstance(_item(figure, key), str) for figure in figures for key in ("file", "caption"))
    also = [] if wrong else content.get("also", [])  # a folder of an earlier version has none
    sound = (
        sound
        and isinstance(also, list)
        and all(isinstance(_item(one, "claim"), str) and _item(one, "holds") in (True, False, None) for one in also)
    )
    if wrong or not sound or content.get("holds") not in (True, False, None):
        raise DataError(
            f"{path}: is not what an experiment writes ({', '.join(wrong) or 'figures, holds'}); run it again"
        )
    if content["experiment"] != path.parent.name:
        name = printable(content["experiment"])
        raise DataError(f"{path}: is of the experiment '{name}', not of the folder's; run it again")
    if not isinstance(content["timings"].get("seconds"), (int, float)):
        raise DataError(f"{path}: has no timings.seconds; run the experiment again")


def html(out: Path, contents: list[dict[str, Any]]) -> str:
    links = "".join(
        f'<li><a href="#{escape(c["experiment"])}">{escape(c["title"])}</a> – {_verdict(c["holds"])}</li>'
        for c in contents
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>The slides, live</title><style>{STYLE}</style></head><body>\n"
        "<h1>The slides, live</h1>\n"
        "<p>Every claim about normalised losses as an experiment: what is claimed, what was measured, and whether it "
        "holds at the size that was run. Each section has the command that makes it again.</p>\n"
        f"<nav><ol>{links}</ol></nav>\n{''.join(_section(out / c['experiment'], c) for c in contents)}</body></html>\n"
    )


def _section(folder: Path, content: dict[str, Any]) -> str:
    figures = "".join(_figure(folder, figure["file"], figure["caption"]) for figure in content["figures"])
    numbers = to_json(content["measured"], indent=1, ascii_only=False)
    also = "".join(
        f"<p><b>Also claimed.</b> {escape(one['claim'])} That {VERDICTS[one['holds']]}.</p>\n"
        for one in content.get("also", [])
    )
    size = "full size" if content["full"] else "default size"
    return (
        f'<section id="{escape(content["experiment"])}"><h2>{escape(content["title"])}</h2>\n'
        f"<p><b>Claim.</b> {escape(content['claim'])}</p>\n<p><b>Measured.</b> {escape(content['finding'])}</p>\n"
        f"<p>{_verdict(content['holds'])} at {size}, seed {content['seed']}. Made in "
        f"{content['timings']['seconds']:.0f} s by <code>{escape(content['command'])}</code></p>\n{also}{figures}"
        f"<details><summary>All numbers</summary><pre>{escape(numbers)}</pre></details></section>\n"
    )


def _verdict(holds: bool | None) -> str:
    kind = {True: "yes", False: "no", None: "open"}[holds]
    return f'<span class="verdict {kind}">The claim {VERDICTS[holds]}</span>'


def _page(path: Path) -> str:
    """The HTML of a figure that is a page."""
    try:
        return read_file(path, MAX_FIGURE).decode("utf-8")
    except UnicodeDecodeError as cause:
        raise DataError(f"{path}: is no text file: byte {cause.start} is not UTF-8") from cause


def _figure(folder: Path, file: str, caption: str) -> str:
    path = folder / file
    if Path(file).name != file or path.suffix not in (*KINDS, ".html"):
        raise DataError(f"{folder / RESULTS}: {printable(file)!r} is no figure's name; run the experiment again")
    if path.suffix == ".html":  # a page of its own, which may run its scripts but not touch this one
        shown = (
            f'<iframe sandbox="allow-scripts" loading="lazy" title="{escape(caption)}" '
            f'srcdoc="{escape(_page(path))}"></iframe>'
        )
    else:
        data = base64.b64encode(read_file(path, MAX_FIGURE)).decode()
        # on a phone a row of panels keeps its height, and is moved sideways
        shown = (
            f'<div class="shown" tabindex="0"><img alt="{escape(caption)}" '
            f'src="data:{KINDS[path.suffix]};base64,{data}"></div>'
        )
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>\n"


def _item(content: Any, key: str) -> Any:
    return content.get(key) if isinstance(content, dict) else None
