"""Decoding images: what OpenCV makes of each kind, and what is refused before it could do harm."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from normface.data import decode
from normface.errors import DataError
from support.data_writers import encoded, random_image

PIXELS = random_image(0, 24, 16)
SMOOTH = cv2.resize(random_image(1, 3, 2), (16, 24), interpolation=cv2.INTER_LINEAR)
WHOLE = [".png", ".bmp", ".tiff", ".ppm", ".webp"]  # OpenCV writes these without loss
GIF = [".gif"] if cv2.haveImageWriter("x.gif") else []  # OpenCV 4.10 and older do not write it
MARKED = [".jpg", ".png", ".webp"]  # their end shows


@pytest.mark.parametrize("suffix", WHOLE)
def test_pixels(suffix):
    raw = encoded(PIXELS, suffix)
    found = decode(raw, "x")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, PIXELS)
    grey = decode(raw, "x", color=False)
    assert grey.shape == (24, 16, 1)
    # ITU-R BT.601, which OpenCV computes in fixed point.
    np.testing.assert_allclose(grey[:, :, 0], PIXELS @ [0.114, 0.587, 0.299], atol=1.5)


def test_jpeg():
    found = decode(encoded(SMOOTH, ".jpg"), "x").astype(int)
    assert found.shape == SMOOTH.shape
    assert np.abs(found - SMOOTH).mean() < 4  # lossy: 95 % quality, on a smooth image


def test_grey_becomes_three_channels():
    grey = PIXELS[:, :, 0]
    np.testing.assert_array_equal(decode(encoded(grey), "x"), np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(decode(encoded(grey), "x", color=None), grey[:, :, None])


def test_transparency_is_dropped():
    four = random_image(2, 24, 16, 4)
    np.testing.assert_array_equal(decode(encoded(four), "x"), four[:, :, :3])
    np.testing.assert_array_equal(decode(encoded(four), "x", color=None), four)


def test_sixteen_bits_keep_the_upper_eight():
    wide = PIXELS.astype(np.uint16) * 256 + 200
    np.testing.assert_array_equal(decode(encoded(wide), "x"), PIXELS)
    with pytest.raises(DataError, match=r"x: has uint16 pixels; expected 8 bits a channel"):
        decode(encoded(wide), "x", color=None)


def with_orientation(raw: bytes, orientation: int) -> bytes:
    """A JPEG with an EXIF segment that holds one entry: orientation (0x112, a short)."""
    tiff = b"MM\x00\x2a" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    body = b"Exif\x00\x00" + tiff
    return raw[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + raw[2:]


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda x: x),
        (2, lambda x: x[:, ::-1]),
        (3, lambda x: x[::-1, ::-1]),
        (6, lambda x: np.rot90(x, -1)),  # "right top": the camera was turned left, so turn right
        (8, lambda x: np.rot90(x, 1)),
    ],
)
@pytest.mark.parametrize("color", [True, False])
def test_orientation(orientation, turn, color):
    plain = encoded(SMOOTH, ".jpg")
    turned = decode(with_orientation(plain, orientation), "x", color)
    np.testing.assert_array_equal(turned, turn(decode(plain, "x", color)))


def test_one_pixel_and_many():
    np.testing.assert_array_equal(decode(encoded(np.full((1, 1, 3), 7, np.uint8)), "x"), [[[7, 7, 7]]])
    assert decode(encoded(np.zeros((5000, 4000), np.uint8)), "x", color=False).shape == (5000, 4000, 1)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bombs() -> dict[str, bytes]:
    """A few dozen bytes each, which declare billions of pixels."""
    side = 60000
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    idat = zlib.compress(b"")
    return {
        "png": b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", idat) + png_chunk(b"IEND", b""),
        "jpg": b"\xff\xd8\xff\xc0"
        + struct.pack(">HBHHB", 17, 8, side, side, 3)
        + bytes(9)
        + b"\xff\xda\x00\x02\x00\xff\xd9",
        "bmp": b"BM" + bytes(12) + struct.pack("<Iii", 40, side, -side) + bytes(28),
        "gif": b"GIF89a" + struct.pack("<HH", side, side) + bytes(20),
        "tiff": b"II*\x00"
        + struct.pack("<IH", 8, 2)
        + struct.pack("<HHII", 256, 4, 1, side)
        + struct.pack("<HHII", 257, 4, 1, side),
        "webp": b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + bytes(8) + b"\x5f\xea\x00" * 2,
        "ppm": b"P6\n# large\n60000 60000\n255\n",
    }


@pytest.mark.parametrize("kind", bombs())
def test_bombs_are_refused_by_their_header(kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"photo: declares 60000 x 60000 pixels; at most 200 million are read"):
        decode(bombs()[kind], "photo")


@pytest.mark.parametrize("suffix", MARKED)
@pytest.mark.parametrize("left", [0.3, 0.6, 0.95])
def test_cut_short(suffix, left):
    raw = encoded(PIXELS, suffix)
    with pytest.raises(DataError, match=r"some/face: is cut short \(.* bytes\); fetch or make it again"):
        decode(raw[: int(len(raw) * left)], "some/face")


@pytest.mark.parametrize("suffix", [".bmp", ".tiff", ".ppm", *GIF])
def test_cut_short_without_a_mark(suffix):
    raw = encoded(PIXELS, suffix)
    for left in (10, 30, len(raw) // 2, len(raw) - 20):
        with pytest.raises(DataError, match=r"some/face: is (cut short|damaged)"):
            decode(raw[:left], "some/face")


def test_thumbnail_does_not_end_a_jpeg():
    """An EXIF thumbnail holds an end marker of its own."""
    raw = encoded(PIXELS, ".jpg")
    body = b"Exif\x00\x00" + raw
    raw = raw[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + raw[2:]
    np.testing.assert_array_equal(decode(raw, "x"), decode(encoded(PIXELS, ".jpg"), "x"))
    with pytest.raises(DataError, match="is cut short"):
        decode(raw[:-30], "x")


def test_rubbish_after_the_end_is_fine():
    for suffix in (".jpg", ".png"):
        raw = encoded(PIXELS, suffix)
        np.testing.assert_array_equal(decode(raw + b"\x00\xffmore" * 50, "x"), decode(raw, "x"))


def test_progressive_and_restarts():
    """Several scans, and restart markers within them."""
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 1]
    raw = cv2.imencode(".jpg", PIXELS, flags)[1].tobytes()
    assert raw.count(b"\xff\xda") > 1 and b"\xff\xd0" in raw
    assert decode(raw, "x").shape == PIXELS.shape
    with pytest.raises(DataError, match="is cut short"):
        decode(raw[:-2], "x")


def test_png_checksum():
    raw = bytearray(encoded(PIXELS))
    raw[70] ^= 1
    with pytest.raises(DataError, match=r"x: is damaged \(wrong checksum of its IDAT at byte \d+\)"):
        decode(bytes(raw), "x")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"x: is empty; expected an image"),
        (b"hello world", r"x: is no JPEG, PNG, BMP, WebP, GIF, TIFF or PNM image$"),
        (b"\x00\x00\x00\x20ftypheic" + bytes(40), r"HEIC, AVIF or a film; convert it to JPEG"),
        (b"<!DOCTYPE html><html>", r"perhaps a web page saved in its place"),
        (b"version https://git-lfs.github.com/spec/v1\n", r"run git lfs pull"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(20), r"x: is no JPEG"),
        (b"P9 3 3 255\n", r"x: is no JPEG"),
        (b"\x80\x04\x95c__builtin__\neval\n", r"x: is no JPEG"),
    ],
)
def test_no_image(raw, message):
    with pytest.raises(DataError, match=message):
        decode(raw, "x")


def test_random_damage_is_met():
    """Whatever a file's bytes, there is an image or a DataError; OpenCV's own errors do not come through."""
    random = np.random.default_rng(0)
    refused = 0
    for suffix in (*WHOLE, ".jpg", *GIF):
        whole = encoded(SMOOTH, suffix)
        for _ in range(60):
            raw = np.frombuffer(whole, np.uint8).copy()
            at = random.integers(0, len(raw), random.integers(1, 12))
            raw[at] = random.integers(0, 256, len(at))
            try:
                found = decode(raw[: random.integers(1, len(raw) + 1)].tobytes(), "x")
            except DataError:
                refused += 1
            else:
                assert found.dtype == np.uint8 and found.ndim == 3
    assert refused > 100


@pytest.mark.slow
def test_damage_gives_one_line():
    """OpenCV writes to standard error of its own accord; the error says it already."""
    code = (
        "from normface.data import decode\n"
        f"raw = {encoded(PIXELS, '.bmp')[:400]!r}\n"
        "try: decode(raw, 'x')\nexcept Exception as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "x: is damaged, or a BMP of a kind that OpenCV cannot decode\n"
    assert done.stderr == ""
