"""The quick way through text format gives what the whole parser gives, or leaves the text to it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from caffeport.errors import PrototxtError
from caffeport.formats.plain_text import parse_plain
from caffeport.formats.prototxt import MAX_DEPTH, _Parser, parse
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
PLAIN = sorted([*ROOT.glob("prototxt/**/*.prototxt"), *ROOT.glob("examples/**/*.prototxt")])


def whole(text: str):
    """The whole parser's tree, or None where it refuses the text."""
    try:
        return _Parser(text, "net").parse()
    except PrototxtError:
        return None


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.stem)
def test_the_projects_own_nets_are_plain(path):
    text = path.read_text()
    tree = parse_plain(text, "net", MAX_DEPTH)
    assert tree is not None and tree == whole(text)


PIECES = st.sampled_from(
    [
        *(
            "name",
            "layer",
            "a1",
            "_",
            "dim",
            ":",
            " : ",
            "{",
            " {",
            "}",
            "[",
            "]",
            "<",
            ">",
            ",",
            ";",
            "\n",
            "\r\n",
            " ",
            "\t",
        ),
        *(
            '"x"',
            "'y'",
            '""',
            '"#"',
            '"a\\n"',
            '"é"',
            '"',
            "#",
            "# note\n",
            "1",
            "-2",
            "+3",
            "- 4",
            ".5",
            "6.",
            "1e3",
            "1e",
        ),
        *("0x1F", "0x", "7f", "-inf", "true", "1.5.2", "12abc", "é", "\v", "\0", "-", ".", "/", "\ud800"),
    ]
)


@pytest.mark.slow
@given(st.lists(PIECES, max_size=12).map("".join))
@settings(max_examples=2000, deadline=None)
def test_any_text_has_one_meaning(text):
    tree = parse_plain(text, "net", MAX_DEPTH)
    if tree is not None:
        assert tree == whole(text)


FIELDS = st.recursive(
    st.sampled_from(["a: 1", "b: x", 'c: "d e"', "f: 1 g: -2.5e3", "h: 'i';", "j: 1,", "", "# k", "l: true # m"]),
    lambda inner: st.lists(inner, max_size=4).map(lambda lines: "n {\n  " + "\n  ".join(lines) + "\n}"),
    max_leaves=20,
)


@pytest.mark.slow
@given(FIELDS)
@settings(deadline=None)
def test_plain_fields_take_the_quick_way(text):
    tree = parse_plain(text, "net", MAX_DEPTH)
    assert tree is not None and tree == whole(text)


@pytest.mark.parametrize(
    "text",
    [
        "a: [1, 2]",
        'a: "b" "c"',
        "a:\n1",
        "a\n{ }",
        "a < b: 1 >",
        "a: - 1",
        'a: "\\101"',
        "[x.y]: 1",
        "a {",
        "}",
        "a: 1 b",
    ],
)
def test_what_is_less_plain_is_left_to_the_whole_parser(text):
    assert parse_plain(text, "net", MAX_DEPTH) is None


def test_depth_is_the_whole_parsers():
    inside = "a { " * MAX_DEPTH + "}" * MAX_DEPTH
    assert parse_plain(inside, "net", MAX_DEPTH) == whole(inside)
    with pytest.raises(PrototxtError, match=f"nested more than {MAX_DEPTH} deep"):
        parse("a { " * (MAX_DEPTH + 1) + "}" * (MAX_DEPTH + 1))


@pytest.mark.parametrize(
    "line",
    [
        "a" + " " * 200_000 + "!",
        "a: " + "1" * 200_000 + "x",
        "a: " + "1." * 100_000,
        "a:" + " " * 200_000,
        'a: "' + "b" * 200_000,
        "a" * 200_000,
        " " * 200_000 + "!",
        "a: 1e" + "9" * 200_000 + "x",
    ],
    ids=lambda line: line[:4],
)
def test_a_hostile_line_takes_no_longer_than_its_length(line):
    start = time.process_time()
    parse_plain(line, "net", MAX_DEPTH)
    assert time.process_time() - start < 2  # the square of its length would be minutes
