"""Trees of Caffe's relatives that can't have the face layers, known by their files: what they are and the way out."""

from pathlib import Path

BY_FILE = [  # the file that gives it away, one that it must not have, what is said
    (
        "src/proto/caffe.proto",
        "src/caffe/proto/caffe.proto",
        "is mini-caffe or the like (src/proto/caffe.proto): it runs nets forward only, and can't train these layers;"
        " put them into BVLC Caffe, train there, and run the net in this one without them",
    ),
    (
        "caffe2/proto/caffe2.proto",
        "src/caffe/proto/caffe.proto",
        "is Caffe2, which shares no layer with Caffe; the face layers need BVLC Caffe or a fork of it",
    ),
]


def other_caffe(root: Path) -> str:
    """What a tree is that is known not to take the layers, and what to do; "" for any other."""
    for file, without, problem in BY_FILE:
        if (root / file).is_file() and not (root / without).exists():
            return problem
    return ""
