"""Prototxt text: everything protobuf's text format allows, against Google's own parser; errors with their place."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, fields, is_dataclass

import pytest
from caffeport import PrototxtError
from caffeport.formats import prototxt
from caffeport.formats.schema import decode
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as some
from support import protos


class PoolMethod(enum.Enum):
    MAX = 0
    AVE = 1
    STOCHASTIC = 2


@dataclass
class PowerParameter:
    power: float = 0.0
    scale: float = 0.0
    shift: float = 0.0


@dataclass
class PoolingParameter:
    pool: PoolMethod = PoolMethod.MAX
    kernel_size: int = 0


@dataclass
class LayerParameter:
    name: str = ""
    type: str = ""
    bottom: list[str] = field(default_factory=list)
    loss_weight: list[float] = field(default_factory=list)
    propagate_down: list[bool] = field(default_factory=list)
    pooling_param: PoolingParameter | None = None
    power_param: PowerParameter | None = None


@dataclass
class NetParameter:
    name: str = ""
    input_dim: list[int] = field(default_factory=list)
    force_backward: bool = False
    layer: list[LayerParameter] = field(default_factory=list)


def google(text: str):
    return text_format.Parse(text, protos.make("NetParameter"))


def ours(text: str) -> NetParameter:
    return decode(prototxt.parse(text), NetParameter, title="a net")


def assert_same(actual, expected) -> None:
    """Compare a dataclass of ours with a protobuf message, field by field."""
    for entry in fields(actual):
        mine, theirs = getattr(actual, entry.name), getattr(expected, entry.name)
        if mine is None:
            assert not expected.HasField(entry.name)
        elif isinstance(mine, list):
            assert len(mine) == len(theirs), entry.name
            for one, other in zip(mine, theirs, strict=True):
                assert_same(one, other) if is_dataclass(one) else assert_equal(one, other)
        elif is_dataclass(mine):
            assert_same(mine, theirs)
        else:
            assert_equal(mine.value if isinstance(mine, enum.Enum) else mine, theirs)


def assert_equal(mine, theirs) -> None:
    if isinstance(theirs, float):  # protobuf rounds to float32
        assert mine == pytest.approx(theirs, rel=1e-6, abs=1e-37, nan_ok=True)
    else:
        assert type(mine) is type(theirs) and mine == theirs


FEATURES = {
    "comments": '# head\nname: "a" # tail\n#\n  # "quoted { # }\ninput_dim: 1#glued\ninput_dim: 2',
    "comment in a string": 'name: "a # b"',
    "comment to the end": 'name: "a" #',
    "nothing": "",
    "only blanks": " \n\t \r\n",
    "one line": 'name: "a" layer { name: "b" } input_dim: 3',
    "no blanks": 'name:"a"layer{name:"b"bottom:"c"}input_dim:3',
    "colon before a message": 'layer: { name: "a" pooling_param: { kernel_size: 2 } }',
    "angle brackets": 'layer < name: "a" pooling_param: < pool: AVE > >',
    "brackets of both kinds": "layer { power_param < power: 2 > } layer < power_param { power: 3 } >",
    "separators": 'name: "a", input_dim: 1; input_dim: 2, layer { name: "b"; }; layer { },',
    "list of numbers": "input_dim: [1, 2,3 , 4] input_dim: 5",
    "list of strings": "layer { bottom: ['a', \"b\"] bottom: 'c' }",
    "list of messages": 'layer: [{ name: "a" }, < name: "b" >] layer [{ }]',
    "empty list": "input_dim: [] name: 'a'",
    "adjacent strings": "name: 'a' \"b\"\n  'c' layer { bottom: ['d' 'e', 'f'] }",
    "escapes": r"""name: "\a\b\f\n\r\t\v\\\'\"" """,
    "octal escapes": r'name: "\0\07\101\1011\303\251"',
    "hex escapes": r'name: "\x41\x4a\x4B\xc3\xa9"',
    "utf-8": 'name: "卷积 é 🙂"',
    "quotes in quotes": """name: "it's" layer { name: 'say "x"' }""",
    "octal and hex": "input_dim: 010 input_dim: 0x1F input_dim: 0XaB input_dim: -0x10 input_dim: -010 input_dim: 00",
    "extreme integers": "input_dim: 2147483647 input_dim: -2147483648",
    "floats": "layer { loss_weight: [1, 1., .5, 1.5, 1e3, 1E-3, 1.e+2, 1.5f, 2F, 1e2f, -0.0, 0] }",
    "float words": "layer { loss_weight: [inf, -inf, nan, INFINITY, -Infinity] }",
    "large floats": "layer { loss_weight: 1e400 loss_weight: -1e400 loss_weight: 12345678901234567890 }",
    "bools": "force_backward: true layer { propagate_down: [true, false, True, False, t, f, 1, 0] }",
    "enums": "layer { pooling_param { pool: AVE } } layer { pooling_param { pool: 2 } }",
    "carriage returns": 'name: "a"\r\nlayer {\r\n  name: "b" # c\r\n}\r\n',
    "form feed and tab": 'name:\f"a"\vinput_dim:\t1',
}


@pytest.mark.parametrize("text", FEATURES.values(), ids=FEATURES)
def test_features_as_google_reads_them(text):
    assert_same(ours(text), google(text))


@pytest.mark.parametrize("text", FEATURES.values(), ids=FEATURES)
def test_what_is_written_reads_the_same(text):
    message = prototxt.parse(text)
    assert_same(ours(str(message)), google(text))
    assert_same(ours(text), google(str(message)))
    assert str(prototxt.parse(str(message))) == str(message)


def test_what_only_the_cpp_parser_takes():
    """Caffe's parser is C++; Google's Python one stops at these."""
    weights = ours("layer { loss_weight: - .5 loss_weight: -\n2 loss_weight: - inf }").layer[0].loss_weight
    assert weights == [-0.5, -2, -math.inf]
    assert ours(r'name: "a\?b"').name == "a?b"


def test_layout_of_what_is_written():
    message = prototxt.parse("a{b:1,c<d:'x\\n\\001\\\\\"'>}e:[X,-Y]")
    assert str(message) == 'a {\n  b: 1\n  c {\n    d: "x\\n\\001\\\\\\""\n  }\n}\ne: X\ne: -Y\n'


floats = some.floats(width=32)
powers = some.builds(lambda **values: protos.make("PowerParameter", **values), power=floats, scale=floats, shift=floats)
pools = some.builds(
    lambda **values: protos.make("PoolingParameter", **values),
    pool=some.sampled_from([0, 1, 2]),
    kernel_size=some.integers(0, 2**32 - 1),
)
layers = some.builds(
    lambda **values: protos.make("LayerParameter", **values),
    name=some.text(),
    bottom=some.lists(some.text()),
    loss_weight=some.lists(floats),
    propagate_down=some.lists(some.booleans()),
    pooling_param=some.none() | pools,
    power_param=some.none() | powers,
)
nets = some.builds(
    lambda **values: protos.make("NetParameter", **values),
    name=some.text(),
    input_dim=some.lists(some.integers(-(2**31), 2**31 - 1)),
    force_backward=some.booleans(),
    layer=some.lists(layers, max_size=3),
)
STYLES = {
    "plain": {},
    "utf-8": {"as_utf8": True},
    "one line": {"as_one_line": True},
    "pointy": {"pointy_brackets": True},
    "short lists": {"use_short_repeated_primitives": True},
}


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
@settings(max_examples=150, deadline=None, derandomize=True)
@given(net=nets)
def test_any_message_google_writes(style, net):
    text = text_format.MessageToString(net, **style)
    assert_same(ours(text), net)
    assert_same(ours(text), google(str(prototxt.parse(text))))


def test_deep_messages_up_to_the_limit():
    def nested(depth: int) -> str:
        return "a { " * depth + "b: 1" + " }" * depth

    deepest = prototxt.parse(nested(100))
    for _ in range(100):
        (deepest,) = deepest.messages("a")
    assert deepest.text("b") == "1"
    for depth in (101, 200_000):
        with pytest.raises(PrototxtError, match=r"x:1:\d+: messages are nested more than 100 deep"):
            prototxt.parse(nested(depth), "x")


def test_extension_names_are_kept():
    text = "[caffe.ext] { a: 1 } any { [type.googleapis.com/caffe.X] { b: 2 } }"
    message = prototxt.parse(text)
    assert message.fields[0].name == "[caffe.ext]"
    assert message.messages("any")[0].fields[0].name == "[type.googleapis.com/caffe.X]"
    assert str(prototxt.parse(str(message))) == str(message)


def test_control_characters_survive_a_file(tmp_path):
    name = "".join(map(chr, range(256))) + "\x001"
    message = prototxt.Message()
    message.add("name", name, quoted=True)
    path = tmp_path / "n.prototxt"
    path.write_bytes(str(message).encode())
    assert prototxt.load(path).text("name") == name
    assert google(str(message)).name == name


def test_every_field_knows_its_place():
    message = prototxt.parse('name: "a"\r\nlayer {  # c\n\n  bottom: "b"  top:\n "c" }  x: [1,\n2]', "n")
    layer = message.messages("layer")[0]
    places = [(entry.line, entry.column) for entry in (*message.fields, *layer.fields)]
    assert places == [(1, 1), (2, 1), (5, 9), (5, 9), (4, 3), (4, 16)]
    assert layer.where() == "n:2:7" and layer.where(layer.fields[1]) == "n:4:16"


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("a b", "1:3", 'expected ":" or "{" after "a", got \'b\''),
        ("a: 1\n  b", "2:4", 'expected ":" or "{" after "b", got the end of the file'),
        ("a:", "1:3", 'expected a value for "a", got the end of the file'),
        ("a: }", "1:4", "expected a value for \"a\", got '}'"),
        ("a: - 'x'", "1:6", 'expected a value for "a", got "\'x\'"'),
        ("a {\nb: 1\n", "3:1", 'expected "}" to close the message opened at line 1; is the file cut short?'),
        ("a { b < c: 1 }", "1:14", "expected the name of a field, got '}'"),
        ("a: 1 }", "1:6", "expected the name of a field, got '}'"),
        (": 1", "1:1", "expected the name of a field, got ':'"),
        ("'a': 1", "1:1", "expected the name of a field, got \"'a'\""),
        ("a: [1 2]", "1:7", 'expected "," or "]" in the list of "a", got \'2\''),
        ("a: [1,]", "1:7", "expected a value for \"a\", got ']'"),
        ("a: [1", "1:6", 'expected "," or "]" in the list of "a", got the end of the file'),
        ("[a.b", "1:5", 'expected "]" to close the extension name'),
        ("a: 'b", "1:4", "a string begins here that has no end on its line"),
        ('a: "b\nc"', "1:4", "a string begins here that has no end on its line"),
        ('a: "b\\', "1:4", "a string begins here that has no end on its line"),
        ("a: 1 !", "1:6", "unexpected character '!'"),
        ("# c\n\n \tä: 1", "3:3", "unexpected character 'ä'"),
        ("a: ١", "1:4", "unexpected character '١'"),
        ("a: 1,, b: 2", "1:6", "expected the name of a field, got ','"),
    ],
)
def test_errors_name_line_and_column(text, place, problem):
    with pytest.raises(PrototxtError) as caught:
        prototxt.parse(text, "net.prototxt")
    assert str(caught.value) == f"net.prototxt:{place}: {problem}"


def test_byte_order_mark_and_local_encodings(tmp_path):
    path = tmp_path / "n.prototxt"
    path.write_bytes(b'\xef\xbb\xbfname: "\xc3\xa9"')
    assert prototxt.load(path).text("name") == "é"
    path.write_bytes('# gr\xfc\xdfe\nname: "a" # \xe9'.encode("latin-1"))
    assert prototxt.load(path).text("name") == "a"
    path.write_bytes("# 网络\nname: 'a'".encode("gbk"))
    assert prototxt.load(path).text("name") == "a"


def test_files_that_are_no_text(tmp_path):
    path = tmp_path / "n.prototxt"
    with pytest.raises(PrototxtError, match=r"n\.prototxt: No such file"):
        prototxt.load(path)
    with pytest.raises(PrototxtError, match=r"is a folder; expected a prototxt file"):
        prototxt.load(tmp_path)
    path.write_bytes(protos.net(protos.layer("a", "ReLU")).SerializeToString() + b"\0")
    with pytest.raises(PrototxtError, match=r"n\.prototxt: is a \.caffemodel .*the text of a net .* comes first"):
        prototxt.load(path)
    path.write_bytes(b"\3\0\3")
    with pytest.raises(PrototxtError, match=r"n\.prototxt: is a binary file; expected the text of a net"):
        prototxt.load(path)
    with open(path, "wb") as stream:
        stream.truncate(65 << 20)
    with pytest.raises(PrototxtError, match=r"more than 64 MiB is too large for a prototxt; is this the weights file"):
        prototxt.load(path)


def test_numbers_keep_their_digits():
    message = prototxt.Message()
    for value in (0.1, 1e-30, 1e30, math.inf, -math.inf, 3, -2):
        message.add("loss_weight", value)
    again = [float(text) for text in prototxt.parse(str(message)).texts("loss_weight")]
    assert again == [0.1, 1e-30, 1e30, math.inf, -math.inf, 3, -2]
