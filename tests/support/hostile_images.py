"""Images whose headers declare what they do not hold, in every format that OpenCV decodes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import cv2

from support.data_writers import encoded, random_image


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, body: bytes = b"", before: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + before
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(body, 9))
        + chunk(b"IEND", b"")
    )


def tiff(*tags: tuple[int, int, int, int], data: bytes = bytes(1000)) -> bytes:
    """(tag, type, count, value) each, in this order; rows of one strip."""
    rest = [
        (258, 3, 1, 8),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (277, 3, 1, 1),
        (278, 4, 1, 1 << 15),
        (279, 4, 1, len(data)),
    ]
    entries = [*tags, *rest, (273, 4, 1, 8 + 2 + 12 * (len(tags) + 7) + 4)]
    raw = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return raw + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4) + data


def bmp(width: int, height: int, bits: int, packing: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, packing, 0, 0, 0, 0, 0)
    return b"BM" + bytes(8) + struct.pack("<I", 54) + head + bytes(1024) + b"\0\1"


def gif(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + image + b"\x3b"


def jpeg(width: int, height: int, progressive: bool = False, then: bytes = b"") -> bytes:
    """A small JPEG whose frame declares another size; ``then`` stands before its end."""
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    raw = cv2.imencode(".jpg", random_image(0, 16, 16), flags)[1].tobytes()
    at = raw.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    return raw[: at + 5] + struct.pack(">HH", height, width) + raw[at + 9 : -2] + then + b"\xff\xd9"


def webp(width: int, height: int) -> bytes:
    """An animation: a large canvas, a small frame."""
    image = encoded(random_image(0, 16, 16), ".webp")[12:]
    sides = b"\x0f\0\0\x0f\0\0"
    frame = bytes(6) + sides + bytes(4) + image
    canvas = b"\x02\0\0\0" + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body += b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


W, H, SHORT, LONG, SLONG = 256, 257, 3, 4, 9
SMALL_FRAME = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 16, 16, 3) + b"\1\x11\0\2\x11\1\3\x11\1"
IMAGES: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "tiff-slong": (tiff((W, SLONG, 1, 30000), (H, SLONG, 1, 30000)), "no SHORT or LONG, or is there twice"),
    "tiff-long8": (tiff((W, 16, 1, 30000), (H, 16, 1, 30000)), "no SHORT or LONG, or is there twice"),
    "tiff-doubled-large-first": (
        tiff((W, LONG, 1, 30000), (H, LONG, 1, 30000), (W, LONG, 1, 8), (H, LONG, 1, 8)),
        "there twice",
    ),
    "tiff-doubled-large-last": (
        tiff((W, LONG, 1, 8), (H, LONG, 1, 8), (W, LONG, 1, 30000), (H, LONG, 1, 30000)),
        "there twice",
    ),
    "tiff-doubled-signed": (
        tiff((W, LONG, 1, 8), (H, LONG, 1, 8), (W, SLONG, 1, 30000), (H, SLONG, 1, 30000)),
        "there twice",
    ),
    "tiff-count": (tiff((W, LONG, 2, 30000), (H, LONG, 1, 30000)), "no SHORT or LONG"),
    "tiff-no-size": (tiff(), "does not say its size"),
    "tiff-tile": (tiff((W, LONG, 1, 8), (H, LONG, 1, 8), (322, LONG, 1, 1 << 14), (323, LONG, 1, 1 << 14)), "declares"),
    "tiff-slong-900-kB": (
        lambda: tiff((W, SLONG, 1, 30000), (H, SLONG, 1, 30000), data=zlib.compress(bytes(900_000_000))),
        "no SHORT or LONG",
    ),
    "png-empty": (lambda: png(14000, 14000), "declares .* bytes of PNG do not hold"),
    "png-zeros": (lambda: png(14000, 14000, bytes(1751 * 14000)), "declares .* bytes of PNG do not hold"),
    "png-late-size": (
        lambda: png(14000, 14000, before=chunk(b"tEXt", struct.pack(">II", 1, 1))),
        "not start with its size",
    ),
    "bmp-runs": (bmp(14000, 14000, 8, 1), "declares .* bytes of BMP do not hold"),
    "gif-screen": (gif((14000, 14000), (4, 4)), "declares .* bytes of GIF do not hold"),
    "gif-frame": (gif((4, 4), (60000, 60000)), "is damaged"),
    "jpeg": (jpeg(14000, 14000), "declares .* bytes of JPEG do not hold"),
    "jpeg-progressive": (jpeg(14000, 14000, True), "declares .* bytes of JPEG do not hold"),
    "jpeg-two-frames": (jpeg(14000, 14000, then=SMALL_FRAME), "declares .* bytes of JPEG do not hold"),
    "webp-canvas": (webp(14000, 14000), "declares .* bytes of WebP do not hold"),
    "pnm-comment": (b"P5 900#900000\n 1 255\n" + bytes(1000), "is no|expected"),
    "avif-as-bmp": (b"BM\0\x20ftypavif" + bytes(4000), "is no|is damaged|HEIC"),
    "exr": (b"\x76\x2f\x31\x01\x02\0\0\0channels\0chlist\0" + bytes(4000), "is no"),
    "radiance": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 14000 +X 14000\n" + bytes(400), "is no"),
    "sun-raster": (b"\x59\xa6\x6a\x95" + struct.pack(">7I", 14000, 14000, 24, 0, 1, 0, 0), "is no"),
    "portable-float": (b"PF\n14000 14000\n-1.0\n\0\0\0\0", "is no"),
    "portable-any": (b"P7\nWIDTH 14000\nHEIGHT 14000\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n\0", "is no"),
    "jpeg-2000": (b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(400), "is no"),
    "jpeg-2000-stream": (b"\xff\x4f\xff\x51\x00\x2f" + struct.pack(">HII", 0, 14000, 14000) + bytes(400), "is no"),
}
