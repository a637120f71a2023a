"""Lets the sources of a staged tree compile with libraries that are newer than the tree.

- protobuf took the second argument of ``CodedInputStream::SetTotalBytesLimit`` away in 3.21; the first alone does since
  3.7. Both forms stay in the text, and the preprocessor chooses.
- OpenCV 4 took the names of its C interface away (``CV_LOAD_IMAGE_COLOR``). Those of ``RENAMED`` become the names that
  C++ has for them in OpenCV 3 and later (``cv::IMREAD_COLOR``), also where a tree has macros that do so for version 3.

Comments, strings, and names to which a file gives a meaning of its own stay as they are. Standard library only.
"""

import re
from pathlib import Path

from .source_text import closing, code_of, decode, edited, encode

FOLDERS = ("include", "src", "tools", "python", "examples")
"""Of a tree, those with sources."""

SOURCES = {".cpp", ".cc", ".hpp", ".h", ".cu", ".cuh"}

SPACE = "(?:BGR5[56]5|L?BGRA?|L?RGBA?|mRGBA|GRAY|XYZ|YCrCb|HSV|HLS|Lab|Luv|YUV(?:420s?p)?|Bayer(?:BG|GB|RG|GR))"
"""A space of colors, in the name of a conversion: CV_BGR2GRAY."""

RENAMED = (
    ("LOAD_IMAGE_(UNCHANGED|GRAYSCALE|COLOR|ANYDEPTH|ANYCOLOR)", r"IMREAD_\1"),
    (r"(IMWRITE_\w+|CAP_\w+|WINDOW_\w+|EVENT_\w+|FONT_HERSHEY_\w+|FONT_ITALIC|FILLED)", r"\1"),
    ("AA", "LINE_AA"),
    (rf"({SPACE}2{SPACE}\w*)", r"COLOR_\1"),
    (r"((?:ADAPTIVE_)?THRESH_\w+)", r"\1"),
    ("INTER_NN", "INTER_NEAREST"),
    (r"(INTER_(?:LINEAR|CUBIC|AREA|LANCZOS4)|WARP_FILL_OUTLIERS|WARP_INVERSE_MAP)", r"\1"),
    (r"(RETR_\w+|CHAIN_APPROX_\w+|TM_\w+|INPAINT_\w+|REDUCE_\w+|DIST_(?:L1|L2|C)|HOUGH_GRADIENT)", r"\1"),
    ("SHAPE_(RECT|CROSS|ELLIPSE)", r"MORPH_\1"),
    ("MOP_(ERODE|DILATE|OPEN|CLOSE|GRADIENT|TOPHAT|BLACKHAT)", r"MORPH_\1"),
    ("COMP_(CORREL|CHISQR|INTERSECT|BHATTACHARYYA|HELLINGER)", r"HISTCMP_\1"),
    ("(MINMAX|L1|L2)", r"NORM_\1"),
    ("C", "NORM_INF"),
    ("TERMCRIT_(?:ITER|NUMBER)", "TermCriteria::COUNT"),
    ("TERMCRIT_EPS", "TermCriteria::EPS"),
    ("FOURCC", "VideoWriter::fourcc"),
)
"""(what follows CV_ in OpenCV's C interface, what follows cv:: in C++)"""

OLD_NAME = re.compile(r"(?<![\w:])CV_\w+")
OWN_MEANING = re.compile(r"#[ \t]*define[ \t]+(CV_\w+)(?![ \t]+\(?cv::)|\b(CV_\w+)[ \t]*=(?!=)")
TWO_ARGUMENTS = "\n#if GOOGLE_PROTOBUF_VERSION < 3011000\n"
TOTAL_BYTES_LIMIT = re.compile(r"\bSetTotalBytesLimit\s*(\()")


def adapt(tree: Path) -> "list[str]":
    """Rewrite the sources that need it; a line for each of them, which names what was old there."""
    report = []
    for path in sources(tree):
        new, names = adapted(decode(path.read_bytes()))
        if names:
            path.write_bytes(encode(new))
            report.append(f"adapted to newer libraries: {path.relative_to(tree)}: {', '.join(names)}")
    return report


def sources(tree: Path) -> "list[Path]":
    found = [path for folder in FOLDERS for path in (tree / folder).rglob("*") if path.suffix in SOURCES]
    return sorted(path for path in found if path.is_file())


def stops_at(tree: Path) -> "list[str]":
    """What stops the tree's own build where its libraries are newer than it: a line for each library."""
    files: dict[str, dict[str, None]] = {}
    for path in sources(tree):
        for name in adapted(decode(path.read_bytes()))[1]:
            library = "OpenCV from 4 on" if name.startswith("CV_") else "protobuf from 3.21 on"
            files.setdefault(library, {})[path.relative_to(tree).as_posix()] = None
    return [
        f"with {library} the tree's own build stops at {', '.join(where)}; caffe_layers/stage.py makes an adapted copy"
        for library, where in sorted(files.items())
    ]


def adapted(text: str) -> "tuple[str, list[str]]":
    """The text for newer libraries, and the old names in it."""
    if "CV_" not in text and "SetTotalBytesLimit" not in text:
        return text, []
    code = code_of(text)
    own = {name for found in OWN_MEANING.finditer(code) for name in found.groups()}
    edits, names = [], set()
    for found in OLD_NAME.finditer(code):
        new = renamed(found.group())
        if new and found.group() not in own and not named_by_directive(code, found.start()):
            edits.append((*found.span(), new))
            names.add(found.group())
    for found in TOTAL_BYTES_LIMIT.finditer(code):
        end = closing(code, found.start(1))
        comma = top_level_comma(code, found.end(), end)
        if comma >= 0 and not text.endswith(TWO_ARGUMENTS, 0, comma):  # it is adapted already
            edits.append((comma, comma, TWO_ARGUMENTS))
            edits.append((end, end, "\n#endif\n"))
            names.add("SetTotalBytesLimit")
    return edited(text, edits), sorted(names)


def renamed(name: str) -> str:
    """What OpenCV's C++ interface calls ``name`` (CV_...); "" where no name changed."""
    for old, new in RENAMED:
        found = re.fullmatch(old, name[len("CV_") :])
        if found:
            return "cv::" + found.expand(new)
    return ""


def named_by_directive(code: str, position: int) -> bool:
    """Whether the name there is what a #define defines, or stands in another line of the preprocessor."""
    line = code[code.rfind("\n", 0, position) + 1 : position]
    return re.match(r"[ \t]*#(?![ \t]*define[ \t]+\S)", line) is not None


def top_level_comma(code: str, start: int, end: int) -> int:
    """Where the first comma of an argument list [start, end) is that no bracket encloses; -1 if there is none."""
    depth = 0
    for at in range(start, end):
        depth += {"(": 1, ")": -1}.get(code[at], 0)
        if code[at] == "," and depth == 0:
            return at
    return -1
