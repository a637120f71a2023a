"""The quick way through text format gives what the whole parser gives, or leaves the text to it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from caffeport.errors import PrototxtError
from caffeport.formats.plain_text import parse_plain
from caffeport.formats.prototxt import MAX_DEPTH, MAX_FIELDS, _Parser, parse
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


def plain(text: str):
    """The quick way's tree, or None where it leaves the text to the whole parser."""
    return parse_plain(text, "net", MAX_DEPTH, MAX_FIELDS)


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.stem)
def test_the_projects_own_nets_are_plain(path):
    text = path.read_text()
    tree = plain(text)
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
    tree = plain(text)
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
    tree = plain(text)
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
    assert plain(text) is None


def test_depth_is_the_whole_parsers():
    inside = "a { " * MAX_DEPTH + "}" * MAX_DEPTH
    assert plain(inside) == whole(inside)
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
    plain(line)
    assert time.process_time() - start < 10  # the square of its length would be minutes


def test_more_fields_than_a_net_has_are_refused_by_both_ways_alike():
    text = "a: 1\n" * 5
    messages = []
    for read in (lambda: parse_plain(text, "net", MAX_DEPTH, 4), lambda: parse_plain(text, "net", MAX_DEPTH, 5)):
        try:
            messages.append(read())
        except PrototxtError as error:
            messages.append(str(error))
    assert messages[0] == "net:5:1: more than 4 fields, far more than a net has" and messages[1] == whole(text)


def test_a_line_that_stands_there_again_has_its_own_places_and_values():
    text = "a { b: 1 }\n  # a comment\na { b: 1 }\n\na { b: 1 }\n"
    tree = plain(text)
    assert tree == whole(text) and [entry.line for entry in tree.fields] == [1, 3, 5]
    tree.fields[0].value.fields[0].value.text = "2"
    assert tree.messages("a")[1].text("b") == "1"


@pytest.mark.parametrize(
    ("text", "most", "message"),
    [
        ("a: 1 a: 1\n" * 3, 5, "net:3:6: more than 5 fields"),
        ("a: 1 " * 400, 300, "net:1:1501: more than 300 fields"),
        ("a { } " * 400, 300, "net:1:1801: more than 300 fields"),
        ("a { }\n" * 400, 300, "net:301:1: more than 300 fields"),
        ("  a: 1\n" * 3, 2, "net:3:1: more than 2 fields"),
    ],
)
def test_one_field_too_many_is_told_where_it_begins_or_its_line(text, most, message):
    with pytest.raises(PrototxtError, match=message):
        parse_plain(text, "net", MAX_DEPTH, most)


def test_ends_without_a_beginning_are_no_plain_text():
    assert plain("a { " * 50 + "}" * 100_000) is None
