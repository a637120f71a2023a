"""Typed fields: what each type takes, and the place and the way out in what it refuses."""

from __future__ import annotations

import dataclasses
import enum
import math
from dataclasses import dataclass, field

import pytest
from caffeport import CaffeportWarning, PrototxtError
from caffeport.formats import prototxt
from caffeport.formats.schema import Word, decode, schema


class Mode(enum.Enum):
    FIRST = 0
    SECOND = 1


@dataclass
class Inner:
    value: int = 7


@dataclass
class Everything:
    whole: int = 1
    number: float = 0.5
    flag: bool = False
    text: str = "default"
    mode: Mode = Mode.FIRST
    maybe: int | None = None
    maybe_mode: Mode | None = None
    many: list[int] = field(default_factory=list)
    modes: list[Mode] = field(default_factory=list)
    inner: Inner = field(default_factory=Inner)
    inners: list[Inner] = field(default_factory=list)
    engine: Word = Word("DEFAULT")


def read(text: str, **options) -> Everything:
    return decode(prototxt.parse(text, "n"), Everything, title="a test", **options)


def test_defaults():
    made = read("")
    assert made == Everything(1, 0.5, False, "default", Mode.FIRST, None, None, [], [], Inner(7), [], Word("DEFAULT"))
    made.many.append(1)
    made.inner.value = 8
    assert read("").many == [] and read("").inner.value == 7  # no defaults shared between layers


def test_unset_differs_from_the_default():
    assert read("").maybe is None
    assert read("maybe: 0").maybe == 0
    assert read("").maybe_mode is None
    assert read("maybe_mode: FIRST").maybe_mode is Mode.FIRST


def test_messages_and_repeated_fields():
    made = read("inner { value: 1 } inners { value: 2 } inners { } many: 1 many: [2, 3] modes: [FIRST, 1]")
    assert made.inner == Inner(1) and made.inners == [Inner(2), Inner(7)]
    assert made.many == [1, 2, 3] and made.modes == [Mode.FIRST, Mode.SECOND]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("-3", -3),
        ("0x10", 16),
        ("-0XfF", -255),
        ("010", 8),
        ("-017", -15),
        ("00", 0),
        (str(2**63 - 1), 2**63 - 1),
        (str(-(2**63)), -(2**63)),
    ],
)
def test_whole_numbers(text, value):
    assert read(f"whole: {text}").whole == value


@pytest.mark.parametrize(
    "text", ["1.5", "1e3", "1f", "true", "'1'", "08", "0x", "--1", "-", "inf", str(2**63), "9" * 5000, "0x" + "f" * 400]
)
def test_no_whole_numbers(text):
    with pytest.raises(PrototxtError, match=r"n:1:"):
        read(f"whole: {text}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1.5", -1.5),
        (".5", 0.5),
        ("5.", 5),
        ("1e-3", 1e-3),
        ("2.5f", 2.5),
        ("3F", 3),
        ("-0x10", -16),
        ("inf", math.inf),
        ("-Infinity", -math.inf),
        ("9" * 5000, math.inf),
    ],
)
def test_numbers(text, value):
    assert read(f"number: {text}").number == value


@pytest.mark.parametrize("text", ["true", "'1'", "MAX", "0x" + "f" * 400, "--1", "1-1"])
def test_no_numbers(text):
    with pytest.raises(PrototxtError, match=r"n:1:"):
        read(f"number: {text}")


@pytest.mark.parametrize("text", ["true", "True", "t", "1", "false", "False", "f", "0"])
def test_flags(text):
    assert read(f"flag: {text}").flag is (text in ("true", "True", "t", "1"))


def test_nan_is_a_number():
    assert math.isnan(read("number: nan").number)


@pytest.mark.parametrize("text", ["WINOGRAD", "'CUDNN'", "3", "true"])
def test_a_word_takes_anything(text):
    assert read(f"engine: {text}").engine == text.strip("'")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("whole: 1.5", "\"whole\" expects a whole number, got '1.5'"),
        ("number: MAX", "\"number\" expects a number, got 'MAX'"),
        ("number: '1'", "\"number\" expects a number, got '1'"),
        ("flag: 2", "\"flag\" expects true or false, got '2'"),
        ("flag: 'true'", "\"flag\" expects true or false, got 'true'"),
        ("flag: TRUE", "\"flag\" expects true or false, got 'TRUE'"),
        ("text: word", "\"text\" expects a quoted string, got 'word'"),
        ("text: 5", "\"text\" expects a quoted string, got '5'"),
        ("mode: THIRD", "\"mode\" expects one of FIRST, SECOND, got 'THIRD'"),
        ("mode: 2", "\"mode\" expects one of FIRST, SECOND, got '2'"),
        ("mode: 'FIRST'", "\"mode\" expects one of FIRST, SECOND, got 'FIRST'"),
        ("mode: __class__", "\"mode\" expects one of FIRST, SECOND, got '__class__'"),
        ("whole { }", '"whole" expects a value, got a message'),
        ("mode { }", '"mode" expects a value, got a message'),
        ("engine { }", '"engine" expects a value, got a message'),
        ("inner: 3", "\"inner\" expects a message { ... }, got '3'"),
        ("whole: 1 whole: 1", '"whole" is given twice in a test'),
        ("whole: [1, 1]", '"whole" is given twice in a test'),
        ("inner { } inner { }", '"inner" is given twice in a test'),
        ("Whole: 1", 'a test has no field "Whole" (did you mean "whole"?)'),
        ("inner { vlaue: 1 }", 'inner has no field "vlaue" (did you mean "value"?)'),
        ("zzzz: 1", 'a test has no field "zzzz"; to read the net without it, allow unknown fields'),
        ("__init__: 1", 'a test has no field "__init__"'),
    ],
)
def test_refusals_name_the_place_and_what_is_expected(text, problem):
    with pytest.raises(PrototxtError) as caught:
        read(f"\n  {text}")
    place, message = str(caught.value).split(": ", 1)
    assert place.startswith("n:2:") and message.startswith(problem)


def test_unknown_fields_may_be_allowed_at_any_depth():
    text = "extra: 1 whole: 3 inner { extra { deep: 2 } value: 4 } other { } [a.b] { }"
    with pytest.warns(
        CaffeportWarning, match=r'n:1:\d+: ignored the unknown field "(extra|other|\[a\.b\])" of'
    ) as notes:
        made = read(text, allow_unknown=True)
    assert len(notes) == 4
    assert (made.whole, made.inner.value) == (3, 4)
    with (
        pytest.warns(),
        pytest.raises(PrototxtError, match='"flag" expects true or false'),
    ):  # known ones are still checked
        read("extra: 1 flag: 7", allow_unknown=True)


def declared(decorate):
    """The same class, made by ``decorate``."""

    @decorate
    class Shape:
        dim: list[int] = field(default_factory=list)
        axis: int = 1
        name: str = ""

    @decorate
    class Named(Shape):
        name: str = "other"
        flag: bool | None = None

    return Shape, Named


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    "given", [{}, {"axis": 3}, {"dim": [1, 2], "name": "it's"}, {"name": "n", "axis": 0, "dim": [5]}]
)
def test_a_schema_is_what_dataclass_makes(which, given):
    ours, plain = declared(schema)[which], declared(dataclass)[which]
    made, expected = ours(**given), plain(**given)
    assert repr(made) == repr(expected)
    assert dataclasses.asdict(made) == dataclasses.asdict(expected)
    assert dataclasses.astuple(made) == dataclasses.astuple(expected)
    assert repr(dataclasses.replace(made, axis=9)) == repr(dataclasses.replace(expected, axis=9))
    assert repr(ours([1], 2)) == repr(plain([1], 2))  # in the order of the fields
    assert made == ours(**given) and made != dataclasses.replace(made, axis=9) and made != expected
    assert (ours.__hash__ is None) == (plain.__hash__ is None)
    ours().dim.append(1)
    assert ours().dim == plain().dim


def test_a_schema_refuses_a_field_that_it_has_not():
    with pytest.raises(TypeError, match="Shape has no field axes"):
        declared(schema)[0](axes=1)
