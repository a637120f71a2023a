"""The documentation's site builds without a warning, needs no network, and its pages lead to what is there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("material", reason="needs mkdocs-material: pip install -r docs/requirements.txt")
pytest.importorskip("mkdocstrings", reason="needs mkdocstrings: pip install -r docs/requirements.txt")

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
LOADED = {"img": "src", "script": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""What a browser fetches without being asked: {tag: attribute}."""


class Page(HTMLParser):
    """A page's links, its headings' ids, and the files that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if values.get("id"):
            self.ids.add(values["id"])
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if values.get(LOADED.get(tag, "")) and values.get("rel") != "canonical":
            self.loads.append(values[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    # No --quiet: it would hide the warnings from --strict.
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_every_link_leads_somewhere(site, pages):
    """Built pages, not their sources: files, and the headings in them; addresses elsewhere are not asked."""
    checked = 0
    for path, page in pages.items():
        if path.name == "404.html":  # served at any address, so its links begin at the root
            continue
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or not (parts.path or parts.fragment):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.relative_to(site)}: {link}"
            if parts.fragment and target.suffix == ".html" and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{path.relative_to(site)}: {link}"
            checked += 1
    assert checked > 2000


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(site, pages):
    for path, page in pages.items():
        elsewhere = [load for load in page.loads if urlsplit(load).scheme not in ("", "data")]
        assert elsewhere == [], path.relative_to(site)
    for path in site.rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?(?:https?:)?//", path.read_text()), path.relative_to(site)


@pytest.mark.slow
def test_every_page_is_searched_and_titled(site, pages):
    index = json.loads((site / "search/search_index.json").read_text())
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    written = {path.relative_to(site).as_posix() for path in pages if path.name != "404.html"}
    assert found == written and len(written) > 25
    assert "api/caffeport.html#caffeport.Net.to_onnx" in {entry["location"] for entry in index["docs"]}


@pytest.mark.slow
def test_what_is_for_readers_of_the_files_is_not_in_the_site(site):
    assert "<blockquote>" not in (site / "api/caffeport.html").read_text()
    assert "> `make docs`" in (ROOT / "docs/api/caffeport.md").read_text()


@pytest.mark.slow
def test_what_a_class_has_is_a_list(site):
    """Attributes that are assigned in pairs, too."""
    page = (site / "api/normface.html").read_text()
    own = page.split('id="normface.data.ImageDataset"')[1].split('id="normface.data.open_reader"')[0]
    assert all(f"<li><code>{name}</code>: " in own for name in ("names", "labels", "identities", "strays"))


@pytest.mark.slow
def test_a_list_below_a_paragraph_is_a_list(site):
    assert re.search(r"Notes on fairness</p>\s*<ul>", (site / "benchmarks/index.html").read_text())


@pytest.mark.slow
def test_a_notebook_shows_its_results(site):
    page = (site / "notebooks/convert_and_prove.html").read_text()
    assert page.count("data:image/png;base64,") == 2 and "14 of 14 blobs compared" in page
    assert page.count('<div class="output"') > 8


def test_a_docstring_becomes_markdown():
    from site_docstrings import as_markdown

    text = (
        "Return a*b of [x] and <y>, see :func:`caffeport.check`.\n\nmean, scale: numbers,\n    or one a channel.\n"
        'mode: how:\n    "sum": a*b\nother: no name of it\n\nRaises it.\n\n>>> f(1)\n2\n'
    )
    assert as_markdown(text, {"mean", "scale", "mode"}) == (
        "Return a\\*b of \\[x\\] and \\<y>, see `caffeport.check`.\n\n\n- `mean`, `scale`: numbers,\n"
        '    or one a channel.\n- `mode`: how:\n    - `"sum"`: a\\*b\n\nother: no name of it\n\nRaises it.\n\n\n'
        "```pycon\n>>> f(1)\n2\n```\n"
    )


def test_links_lead_from_the_repository_into_the_site(caplog):
    from site_pages import in_site, linked

    assert in_site("../prototxt/README.md#a", "training.md") == "prototxt/README.md#a"
    assert in_site("../README.md", "training.md") == "index.md"
    assert in_site("../../docs/slides.md", "examples/mnist/README.md") == "../../slides.md"
    assert in_site("convert_and_prove.ipynb", "notebooks/index.md") == "convert_and_prove.md"
    assert in_site("https://example.org/a.ipynb", "index.md") == "https://example.org/a.ipynb"
    assert linked("[folder", "../prototxt", "training.md") == "folder"
    assert linked("![a", "sphere.webp", "index.md") == "![a](sphere.webp)"
    assert caplog.text == ""
    assert in_site("../mkdocs.yml", "training.md") == "mkdocs.yml.md"
    assert caplog.text == ""
    in_site("../Makefile", "training.md")
    assert "training.md: links to ../Makefile, no page of the site" in caplog.text


@pytest.mark.slow
def test_the_search_works_from_a_folder(site):
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("needs chromium (Debian's package)")
    address = f"{(site / 'index.html').as_uri()}?q=magface"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    shown = subprocess.run([*command, address], capture_output=True, text=True, timeout=120).stdout
    assert int(re.search(r'md-search-result__meta">(\d+) matching documents', shown)[1]) >= 2
