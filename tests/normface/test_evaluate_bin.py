"""InsightFace's .bin sets: every form in which they were pickled is read, and nothing in them is run."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import struct

import cv2
import numpy as np
import pytest
from normface.errors import DataError, ProtocolError
from normface.evaluate import evaluate_lfw
from normface.evaluate.bin_sets import evaluate_bin, read_bin
from normface.evaluate.plain_pickle import read_plain_pickle

IMAGES = [bytes([255, 216, i, 200 + i]) * (1 + 90 * i) for i in range(6)]  # some longer than 255 bytes
SAME = [True, False, True]


def read(tmp_path, raw: bytes):
    path = tmp_path / "set.bin"
    path.write_bytes(raw)
    return read_bin(path)


def assert_is_the_set(found):
    assert found.images == IMAGES
    assert found.same.tolist() == SAME
    assert found.same.dtype == np.bool_


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "same",
    [SAME, tuple(SAME), [np.bool_(t) for t in SAME], np.array(SAME), [int(t) for t in SAME]],
    ids=["bool", "tuple", "numpy scalars", "numpy array", "int"],
)
@pytest.mark.parametrize("whole", [tuple, list])
def test_as_python_3_writes_them(tmp_path, protocol, same, whole):
    assert_is_the_set(read(tmp_path, pickle.dumps(whole([IMAGES, same]), protocol)))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_images_as_numpy_arrays_of_bytes(tmp_path, protocol):
    arrays = [np.frombuffer(image, np.uint8).copy() for image in IMAGES]
    assert_is_the_set(read(tmp_path, pickle.dumps((arrays, SAME), protocol)))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_empty_images_and_shared_ones(tmp_path, protocol):
    images = [b"", IMAGES[1], IMAGES[1], b""]
    assert read(tmp_path, pickle.dumps((images, [True, False]), protocol)).images == images


def python_2(protocol: int, module: bytes) -> bytes:
    """The set as Python 2 wrote it: str as BINSTRING, the first truth a NumPy one of its time."""
    code = b"\x80\x02]q\x00(" if protocol == 2 else b"(]q\x00("
    for image in IMAGES:
        length = b"U" + bytes([len(image)]) if len(image) < 256 else b"T" + struct.pack("<i", len(image))
        code += length + image
    code += b"e](c" + module + b"\nscalar\nq\x01(cnumpy\ndtype\nq\x02(U\x02b1K\x00K\x01tR(K\x03U\x01|NNN"
    code += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbU\x01\x01tR"
    return code + (b"\x89\x88e\x86." if protocol == 2 else b"I00\nI01\net.")


@pytest.mark.parametrize("protocol", [1, 2])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_as_python_2_wrote_them(tmp_path, protocol, module):
    raw = python_2(protocol, module)
    pickletools.dis(raw, out=io.StringIO())  # a whole pickle, whose opcodes balance
    assert_is_the_set(read(tmp_path, raw))


class Runs:
    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("place", ["whole", "image", "truth"])
def test_calls_are_refused_and_not_made(tmp_path, protocol, place):
    ran = tmp_path / "ran"
    evil = Runs(os.system, f"touch {ran}")
    value = {
        "whole": evil,
        "image": ([*IMAGES[:5], evil], SAME),
        "truth": (IMAGES, [True, False, evil]),
    }[place]
    with pytest.raises(DataError, match=r"set\.bin: (refused at byte \d+: .*; nothing was run|is no whole pickle)"):
        read(tmp_path, pickle.dumps(value, protocol))
    assert not ran.exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_the_refused_name_is_told(tmp_path, protocol):
    raw = pickle.dumps(([Runs(eval, "1")], [True]), protocol)
    module = "__builtin__" if protocol == 2 else "builtins"
    with pytest.raises(DataError, match=rf"it names {module}\.eval, which is code; nothing was run"):
        read(tmp_path, raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x80\x02cnumpy\nload\nU\x05a.npy\x85R.", r"numpy\.load, which is code"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "a call of _codecs.encode"),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8\x86R.", "a call of _codecs.encode"),
        (b"\x80\x02cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.", "a call of builtins.bytes"),  # bytes(2147483647)
        (b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.", "a call of numpy.dtype"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "a call of numpy.ndarray"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "opcode NEWOBJ"),
        (b"(S'touch ran'\nios\nsystem\n.", "opcode STRING"),
        (b"(ios\nsystem\n.", "opcode INST"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x05\x97.", "opcode NEXT_BUFFER"),
        (b"Pname\n.", "opcode PERSID"),
        (b"\x80\x02}.", "opcode EMPTY_DICT"),
        (b"\x80\x02]]b.", "it sets the state of a list"),
    ],
)
def test_other_programs_are_refused(tmp_path, raw, message):
    with pytest.raises(DataError, match=rf"refused at byte \d+: .*{message}"):
        read(tmp_path, raw)


def huge_array() -> bytes:
    """It says that it has 2^31 - 2^24 booleans, and brings three."""
    return pickle.dumps(np.array(SAME), 2).replace(b"K\x03\x85", b"J\x00\x00\x00\x7f\x85", 1)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "is no whole pickle|cannot mmap"),
        (b"\x80\x04", "is no whole pickle"),
        (b"\xff\xd8\xff\xe0 a JPEG", "is no whole pickle"),
        (pickle.dumps((IMAGES, SAME), 4)[:-40], "is no whole pickle"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"few.", "is no whole pickle"),
        (b"\x80\x02.", "is no whole pickle: STOP at byte 2"),
        (b"\x80\x02e.", "is no whole pickle: APPENDS at byte 2"),
        (b"\x80\x02h\x05.", "is no whole pickle: BINGET at byte 2"),
        (b"\x80\x02N(e.", "is no whole pickle: APPENDS"),
        (b"\x80\x02(N.", "holds a NoneType"),
        (b"\x80\x02(.", "is no whole pickle: STOP"),
        (huge_array(), "a NumPy array other than"),
        (pickle.dumps(np.zeros((2, 2), bool), 4), "a NumPy array other than"),
        (pickle.dumps(np.zeros(2), 4), "a call of numpy.dtype"),
        (pickle.dumps([1, 2, 3], 4), "holds a list; expected"),
        (pickle.dumps(("abc", SAME), 4), "first part is no list of encoded images"),
        (pickle.dumps((["text"] * 6, SAME), 4), "first part is no list of encoded images"),
        (pickle.dumps((IMAGES, b"abc"), 4), "second part is no list of true and false"),
        (pickle.dumps((IMAGES, [0, 1, 2]), 4), "second part is no list of true and false"),
        (pickle.dumps((IMAGES, [True]), 4), "has 6 images for 1 pairs"),
        (pickle.dumps(([], []), 4), "has 0 images for 0 pairs"),
    ],
)
def test_what_is_no_set(tmp_path, raw, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, raw)


@pytest.mark.slow
def test_every_cut_and_every_changed_byte_is_met(tmp_path):
    """One clear error or a set, whatever byte is damaged; never another exception."""
    raw = pickle.dumps(([b"ab", b"cd"], [np.bool_(True)]), 2)
    draw = np.random.default_rng(0)
    damaged = [raw[:end] for end in range(len(raw))]
    for position in range(len(raw)):
        damaged.append(raw[:position] + draw.bytes(1) + raw[position + 1 :])
    outcomes = set()
    for attempt in damaged:
        try:
            read(tmp_path, attempt)
            outcomes.add("read")
        except DataError as error:
            assert "set.bin" in str(error)
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_a_list_within_itself_ends(tmp_path):
    value: list = []
    value.append(value)
    with pytest.raises(DataError, match="holds a list"):
        read(tmp_path, pickle.dumps(value, 4))


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_bin(tmp_path / "none.bin")
    with pytest.raises(DataError, match="is a folder; expected a file"):
        read_plain_pickle(tmp_path)


def test_images_decode(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    encoded = [cv2.imencode(".png", pixels + i)[1].tobytes() for i in range(2)]
    found = read(tmp_path, pickle.dumps((encoded, [True]), 4))
    np.testing.assert_array_equal(found.read(1), pixels + 1)
    assert found.names == ["set.bin pair 1 left", "set.bin pair 1 right"]
    broken = read(tmp_path, pickle.dumps(([encoded[0], b"none"], [True]), 4))
    with pytest.raises(DataError, match=r"set\.bin pair 1 right"):
        broken.read(1)


@pytest.mark.parametrize("protocol", ["plain", "normface", "sphereface", "insightface"])
def test_a_set_measures_as_the_same_pairs_of_lfw_do(tmp_path, protocol):
    draw = np.random.default_rng(4)
    lines, features, names, same = ["10 6"], [], [], []
    for fold in range(10):
        for number in range(12):
            genuine = number < 6
            centre = draw.normal(size=8)
            left = centre + draw.normal(size=8)
            right = (centre if genuine else draw.normal(size=8)) + draw.normal(size=8)
            person = f"P{fold}_{number}"
            lines.append(f"{person} 1 2" if genuine else f"{person} 1 Q{fold}_{number} 2")
            names += [f"{person}_0001.jpg", f"{person if genuine else f'Q{fold}_{number}'}_0002.jpg"]
            features += [left, right]
            same.append(genuine)
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    expected = evaluate_lfw(np.array(features), names, tmp_path / "pairs.txt", protocol)
    found = evaluate_bin(np.array(features), np.array(same), protocol)
    np.testing.assert_array_equal(found.accuracies, expected.accuracies)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_features_of_another_set():
    with pytest.raises(ProtocolError, match="5 features for a set of 3 pairs"):
        evaluate_bin(np.eye(5), np.array(SAME))
