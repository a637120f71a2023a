"""Hooks of mkdocs: pages of the site that lie elsewhere in the repository, and notebooks.

The Markdown files link to each other as they lie, so that they read well where the repository is browsed. In the site
a README of another folder is a page under that folder's name, a notebook is a page beside its file, and links lead
there; a file of code that a page links to is shown as one. A link to anything else fails the build.
"""

from __future__ import annotations

import functools
import logging
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = "docs"
HOME = {"README.md": "index.md", "converter/README.md": "index.md", "python/README.md": "index.md"}
"""READMEs in whose place the site has its first page."""
LANGUAGES = {
    **dict.fromkeys((".cpp", ".cu", ".hpp"), "cpp"),
    **dict.fromkeys((".cff", ".yml"), "yaml"),
    **dict.fromkeys((".prototxt", ".txt"), "text"),
    **{".json": "json", ".py": "python", ".sh": "bash", ".toml": "toml"},
}
"""Files that are shown as code where a page links to them, by their endings."""
LINK = re.compile(r"(!?\[[^\]]*)\]\(([^)\s]+)\)")
CODE = re.compile(r"(^ *````?.*?^ *````?|`[^`\n]*`)", re.DOTALL | re.MULTILINE)
SOURCE_ONLY = re.compile(r"^> `make docs` .*\n\n", re.MULTILINE)
"""What tells a reader of the file, not of the site, where its contents are."""
LIST = re.compile(r"^((?![-*] |\d+\. |[ |>#]).*\S)\n([-*] |1\. )", re.MULTILINE)
"""A list that begins right below a paragraph: one to GitHub, none to Python-Markdown without an empty line."""
log = logging.getLogger("mkdocs.hooks.site_pages")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, and a page of each notebook; its file stays, to be downloaded."""
    for path in elsewhere():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    for path in sources([*elsewhere(), *(f"{DOCS}/{file.src_uri}" for file in files if file.src_uri.endswith(".md"))]):
        text = f"# {posixpath.basename(path)}\n\n{fenced((ROOT / path).read_text(), LANGUAGES[Path(path).suffix])}\n"
        files.append(File.generated(config, f"{path}.md", content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        content = as_markdown(ROOT / DOCS / file.src_uri)
        files.append(File.generated(config, page_of(file.src_uri), content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead the page's links to where their targets are in the site."""
    where = page.file.src_uri
    parts = CODE.split(markdown)
    parts[::2] = [LINK.sub(lambda match: linked(match[1], match[2], where), part) for part in parts[::2]]
    return LIST.sub(r"\1\n\n\2", SOURCE_ONLY.sub("", "".join(parts)))


@functools.cache
def elsewhere() -> frozenset[str]:
    """Return the pages outside docs/ that mkdocs.yml's nav names: their paths in the repository, and in the site."""
    named = re.findall(r"^ +- (?:[^:]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    return frozenset(path for path in named if not (ROOT / DOCS / path).is_file() and (ROOT / path).is_file())


def linked(text: str, target: str, where: str) -> str:
    """Return the site's link for ``[text](target)``; a folder, which the site does not list, is its text alone."""
    if target[0] != "#" and ":" not in target and (ROOT / meant(target, origin_of(where))).is_dir():
        return text.removeprefix("[")
    return f"{text}]({in_site(target, where)})"


def origin_of(where: str) -> str:
    """Return the repository's file of a page of the site."""
    return where if where in elsewhere() else f"{DOCS}/{where}"


def in_site(target: str, where: str) -> str:
    """Return the link of the site's page ``where`` to what the repository's file of that page calls ``target``."""
    name, mark, heading = target.partition("#")
    if not name or re.match(r"[a-z]+:", target):
        return target
    origin = origin_of(where)
    path = meant(name, origin)
    if path in HOME:
        path = HOME[path]
    elif path.startswith(f"{DOCS}/"):
        path = page_of(path.removeprefix(f"{DOCS}/"))
    elif is_source(path):
        path = f"{path}.md"
    elif path not in elsewhere():
        log.warning(f"{origin}: links to {target}, no page of the site; name it in the nav of mkdocs.yml")
    return posixpath.relpath(path, posixpath.dirname(where) or ".") + mark + heading


def meant(name: str, origin: str) -> str:
    """Return the path in the repository of what the file ``origin`` calls ``name``."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), name))


def is_source(path: str) -> bool:
    """Return whether a file outside docs/ is one that can be shown as code."""
    return Path(path).suffix in LANGUAGES and not path.startswith(f"{DOCS}/") and (ROOT / path).is_file()


def sources(pages: Iterable[str]) -> set[str]:
    """Return the files of code that the pages link to, each of which becomes a page."""
    texts = {page: (ROOT / page).read_text() for page in pages if (ROOT / page).is_file()}
    links = [(page, link[1]) for page, text in texts.items() for link in LINK.findall("".join(CODE.split(text)[::2]))]
    return {path for page, link in links if is_source(path := meant(link.partition("#")[0], page))}


def page_of(path: str) -> str:
    """Return the page of a notebook; other paths are their own."""
    return re.sub(r"\.ipynb$", ".md", path)


def as_markdown(path: Path) -> str:
    """Return the notebook's cells and what they gave, its images within the text."""
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(text for cell in cells for text in (source(cell), *map(given, cell.get("outputs", ()))))


def source(cell: nbformat.NotebookNode) -> str:
    """Return a cell as it was written."""
    return fenced(cell.source, "python") if cell.cell_type == "code" else cell.source


def given(output: nbformat.NotebookNode) -> str:
    """Return one output of a cell, in the richest of its forms that a page can show."""
    if output.output_type == "stream":
        return f'<div class="output" markdown>\n\n{fenced(output.text, "text")}\n\n</div>'
    if output.output_type == "error":
        raise ValueError(f"a cell ended in {output.ename}: {output.evalue}")
    forms = output.data
    if "image/png" in forms:
        return f'<div class="output"><img alt="" src="data:image/png;base64,{forms["image/png"].strip()}"></div>'
    if "text/html" in forms:  # in one line, in which Markdown looks for no marks of its own
        return f'<div class="output">{" ".join(forms["text/html"].split())}</div>'
    return f'<div class="output" markdown>\n\n{fenced(forms["text/plain"], "text")}\n\n</div>'


def fenced(text: str, language: str) -> str:
    """Return a block of code."""
    return f"````{language}\n{text.rstrip()}\n````"
