"""Caffe's LMDB of 20,000 images: normface.data against the lmdb package.

Claim: at most 1.2 of its time, for the encoded images with their labels and for their pixels, in the keys' order and
in a random one. Opening the database counts on both sides; ours finds all labels then, and needs no lmdb package.

    python benchmarks/lmdb_speed.py [--records 20000] [--repeats 5] [--json FILE]

The rival does what Caffe's DataReader does: lmdb gives the value, protobuf parses the Datum, OpenCV decodes. The
database is made once: JPEGs of 112x96, 5 KB each. Every repeat is a process of its own for each program, one after the
other in turn, on a database that lies in memory; the time counts from opening to the last image, without the imports.
What the two have read is compared.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

from _measure import Row, cache, parser, report, run

MAKE = """
import sys, cv2, lmdb, numpy
path, count = sys.argv[1], int(sys.argv[2])
def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])
random = numpy.random.default_rng(0)
images = []
for _ in range(200):
    coarse = random.integers(0, 256, (14, 12, 3), numpy.uint8)
    images.append(cv2.imencode(".jpg", cv2.resize(coarse, (96, 112), interpolation=cv2.INTER_CUBIC))[1].tobytes())
with lmdb.open(path, map_size=1 << 30) as environment, environment.begin(write=True) as transaction:
    for i in range(count):
        raw = images[i * 7919 % 200]
        # Datum: channels, height, width, data, label, encoded
        datum = bytes([8, 3, 16, 112, 24, 96, 34]) + varint(len(raw)) + raw + b"\\x28" + varint(i // 10) + b"\\x38\\x01"
        transaction.put(b"%08d" % i, datum)
"""

ORDER = """
import sys, json, time, zlib, numpy
path, count, order, pixels = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4] == "pixels"
places = numpy.random.default_rng(1).permutation(count).tolist() if order == "random" else list(range(count))
checks = []
def take(image, label):
    if len(checks) < 100:
        checks.append([zlib.crc32(image), int(label)])
"""

OURS = (
    ORDER
    + """
from normface.data import decode, open_reader
decode  # loads OpenCV, as the rival's import does
import cv2
start = time.perf_counter()
reader = open_reader(path)
read, labels = reader.read if pixels else reader.raw, reader.labels
for i in places:
    take(read(i), labels[i])
print(json.dumps([time.perf_counter() - start, checks]))
"""
)

RIVAL = (
    ORDER
    + """
import cv2, lmdb
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
file = descriptor_pb2.FileDescriptorProto(name="datum.proto", syntax="proto2")
message = file.message_type.add(name="Datum")
kinds = {"channels": 5, "height": 5, "width": 5, "data": 12, "label": 5, "float_data": 2, "encoded": 8}
for number, (name, kind) in enumerate(kinds.items(), 1):
    message.field.add(name=name, number=number, type=kind, label=3 if name == "float_data" else 1)
pool = descriptor_pool.DescriptorPool()
pool.Add(file)
parse = message_factory.GetMessageClass(pool.FindMessageTypeByName("Datum")).FromString
def one(value):
    datum = parse(value)
    data = datum.data
    take(cv2.imdecode(numpy.frombuffer(data, numpy.uint8), cv2.IMREAD_COLOR) if pixels else data, datum.label)
start = time.perf_counter()
with lmdb.open(path, readonly=True, lock=False) as environment, environment.begin() as transaction:
    if order == "random":
        keys = list(transaction.cursor().iternext(values=False))
        for i in places:
            one(transaction.get(keys[i]))
    else:
        for _, value in transaction.cursor():
            one(value)
print(json.dumps([time.perf_counter() - start, checks]))
"""
)


def main() -> None:
    arguments = parser(__doc__ or "", repeats=5)
    arguments.add_argument("--records", type=int, default=20000, help="images of the database (default 20000)")
    options = arguments.parse_args()
    path = cache() / f"lmdb_speed-{options.records}"
    if not (path / "data.mdb").exists():
        run([sys.executable, "-c", MAKE, path, str(options.records)])
    rows, notes = [], []
    for what, pixels in (("encoded", "bytes"), ("decoded", "pixels")):
        for order in ("sequential", "random"):
            pairs = [measured(path, options.records, order, pixels) for _ in range(options.repeats)]
            ours, rival = (statistics.median(times) for times in zip(*pairs, strict=True))
            rows.append(Row(f"{what}, {order}", "s", ours, rival, 1.2))
            # Each repeat's pair ran side by side, so that a busy machine slows both.
            ratios = ", ".join(f"{ratio:.2f}" for ratio in sorted(mine / theirs for mine, theirs in pairs))
            notes.append(f"ratios of the pairs, {what}, {order}: {ratios}")
    title = f"an LMDB of {options.records} images, {(path / 'data.mdb').stat().st_size / 1e6:.0f} MB"
    report(title, "normface.data", "lmdb and protobuf", rows, notes, options)


def measured(path: Path, count: int, order: str, pixels: str) -> tuple[float, float]:
    """Seconds of ours and of the rival, whose first hundred images are the same."""
    arguments = [path, str(count), order, pixels]
    ours, rival = (json.loads(run([sys.executable, "-c", code, *arguments]).output) for code in (OURS, RIVAL))
    if ours[1] != rival[1]:
        sys.exit("the two have read different images or labels")
    return ours[0], rival[0]


if __name__ == "__main__":
    main()
