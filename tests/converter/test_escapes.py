"""Backslashes in the strings of a prototxt, as protobuf's C++ parser, which Caffe uses, reads or refuses them."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
from caffeport import PrototxtError
from caffeport.formats import prototxt
from caffeport.formats.byte_names import from_bytes, to_bytes
from caffeport.formats.escapes import EscapeError, quote, unescape
from support import nets

# From protobuf's documentation of the text format: string literals.
TAKEN = {
    r"\a\b\f\n\r\t\v\\\'\"\?": b"\a\b\f\n\r\t\v\\'\"?",
    r"\0\7\12\123\1234\377\400\777": b"\0\7\n" + b"S" + b"S4" + b"\xff\x00\xff",
    r"\x4\x41\x412\X4a\xC3\xa9": b"\x04A" + b"A2" + b"J\xc3\xa9",
    r"\u00e9\u5377\u00E9x": "é卷éx".encode(),
    r"\U0001f642\U0010FFFF": "\U0001f642\U0010ffff".encode(),
    r"\ud83d\ude42": "\U0001f642".encode(),
    r"é卷": "é卷".encode(),
    r"a\\8": rb"a\8",
    "": b"",
}
REFUSED = [r"\8", r"\9", r"\q", r"\d", r"\ ", r"\%", r"\-", r"\é", "\\"]
REFUSED += [r"\x", r"\xg", r"\u", r"\u12", r"\u123g", r"\U", r"\U00110000", r"\U1234567"]


@pytest.mark.parametrize(("text", "raw"), TAKEN.items())
def test_escapes_that_are_taken(text, raw):
    assert unescape(text) == raw


@pytest.mark.parametrize("text", REFUSED)
def test_escapes_that_are_refused(text):
    with pytest.raises(EscapeError) as caught:
        unescape(f"ab{text}")
    assert caught.value.position == 2


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (r"a: '\8q\n'", "1:5"),
        ('a: "b"\n"c\\d"', "2:3"),
        (r"""l { source: "C:\data\x" }""", "1:16"),
        (r'a: ["b", "\9"]', "1:11"),
    ],
)
def test_the_place_of_a_wrong_escape(text, place):
    with pytest.raises(PrototxtError, match=rf'^n:{place}: "\\[8d9]" is no escape of a string; a backslash itself is'):
        prototxt.parse(text, "n")


@pytest.mark.parametrize(
    "raw", [b"plain", b'q"\\\n\t\x01\x7f', "é🙂".encode(), b"\xff\xfe1", b"a\xc3", b"\xed\xa0\x80", b"\\x"]
)
def test_bytes_survive_writing(raw):
    name = from_bytes(raw)
    name.encode()  # anything can print it
    assert to_bytes(name) == raw
    assert unescape(quote(name)[1:-1]) == raw
    assert prototxt.parse(f"name: {quote(name)}").text("name") == name


def test_names_of_other_bytes_stay_apart(tmp_path):
    """Two names that are no UTF-8 were one name, of two replacement characters."""
    text = nets.inputs(data=(1, 3)).encode()
    for name, bottom, top in ((b"\xff", b"data", b"a"), (b"\xfe", b"a", b"b")):
        text += b'layer { name: "%s" type: "InnerProduct" bottom: "%s" top: "%s" ' % (name, bottom, top)
        text += b"inner_product_param { num_output: 3 bias_term: false } }\n"
    (tmp_path / "n.prototxt").write_bytes(text)
    net = caffeport.load(tmp_path / "n.prototxt")
    assert [layer.name for layer in net.layers] == ["data", r"\xff", r"\xfe"]
    eye = [[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]
    one, two = np.array(eye, np.float32), 2 * np.array(eye, np.float32)
    net = net.with_weights({r"\xff": [one], r"\xfe": [two]})
    net.save(tmp_path / "n.caffemodel", prototxt=tmp_path / "again.prototxt")
    raw = (tmp_path / "n.caffemodel").read_bytes()
    assert b"\x0a\x01\xff" in raw and b"\x0a\x01\xfe" in raw  # Caffe's own bytes, not an escape of them
    for path in ("n.prototxt", "again.prototxt"):
        again = caffeport.load(tmp_path / path, tmp_path / "n.caffemodel")
        assert [layer.blobs[0][0, 0] for layer in again.layers[1:]] == [1, 2]
    again.to_onnx(tmp_path / "n.onnx")  # whose names have to be UTF-8
    assert caffeport.check(again).ok


def test_a_net_in_a_local_encoding_finds_its_weights(tmp_path):
    """Text and weights were decoded in two ways, so that names in GBK matched nothing."""
    text = nets.inputs(data=(1, 3)) + nets.inner_product("data", "out", 2).replace('name: "out"', 'name: "全连接"')
    (tmp_path / "n.prototxt").write_bytes(f"# 网络\n{text}".encode("gbk"))
    net = caffeport.load(tmp_path / "n.prototxt")
    net.save(tmp_path / "n.caffemodel")
    assert "全连接".encode("gbk") in (tmp_path / "n.caffemodel").read_bytes()
    again = caffeport.load(tmp_path / "n.prototxt", tmp_path / "n.caffemodel")
    assert (again.layers[1].blobs[0] == net.layers[1].blobs[0]).all()
