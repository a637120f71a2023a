"""Lists with several labels a line, as forks of Caffe read them."""

from __future__ import annotations

import caffeport
import numpy as np
import pytest
from normface.data.caffe import Feed, input_shapes
from normface.data.readers.list_file import read_label_rows
from normface.errors import DataError
from support.data_writers import write_images

NET = (
    'layer { name: "d" type: "ImageData" top: "data" top: "label" '
    'image_data_param { source: "list.txt" batch_size: 2 } }'
    'layer { name: "slice" type: "Slice" bottom: "label" top: "identity" top: "points" '
    "slice_param { axis: 1 slice_point: 1 } }"
    'layer { name: "sink" type: "Silence" bottom: "data" bottom: "identity" bottom: "points" }'
)


def test_a_label_top_of_as_many_columns(tmp_path):
    write_images(tmp_path, ["a b 7.png", "c.png", "d.png"])
    (tmp_path / "list.txt").write_text("a b 7.png 3 0.5 -1e1\nc.png\t4\t.25 2.\nd.png  5 0 7 \n")
    (tmp_path / "net.prototxt").write_text(NET)
    shapes = input_shapes(tmp_path / "net.prototxt")
    assert shapes["label"] == (2, 3)
    net = caffeport.load(tmp_path / "net.prototxt", phase="train", input_shapes=shapes)
    assert net.blob_shapes["identity"] == (2, 1) and net.blob_shapes["points"] == (2, 2)
    with Feed(net, seed=0) as feed:
        np.testing.assert_array_equal(feed.next()["label"], [[3, 0.5, -10], [4, 0.25, 2]])
        np.testing.assert_array_equal(feed.next()["label"], [[5, 0, 7], [3, 0.5, -10]])


@pytest.mark.parametrize(
    ("text", "names", "labels"),
    [
        ("a.jpg 1\nb.jpg 2\n", ["a.jpg", "b.jpg"], [1, 2]),
        ("a 1.jpg 1\n", ["a 1.jpg"], [1]),  # the numbers of a path are no labels
        ("a.jpg\n", ["a.jpg"], [0]),
        ("folder/image 3\n", ["folder/image"], [3]),  # a name without a suffix has one label, as in Caffe
        ("a.JPEG 1 2\n", ["a.JPEG"], [[1, 2]]),
    ],
)
def test_how_many_labels_a_line_has(text, names, labels, tmp_path):
    path = tmp_path / "list.txt"
    path.write_text(text)
    read, numbers = read_label_rows(path)
    assert read == names
    np.testing.assert_array_equal(numbers, labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg 1 2\nb.jpg 1\n", r'list.txt:2: expected a path and 2 labels as on the first line, got "b.jpg 1"'),
        ("a.jpg 1 2\nb.jpg 1 x\n", r"list.txt:2: expected a path and 2 labels"),
        ("a.jpg 1 2\n7\n", r"list.txt:2: expected a path and 2 labels"),
        ("", r"list.txt: is empty"),
    ],
)
def test_lines_that_do_not_fit(text, message, tmp_path):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_label_rows(tmp_path / "list.txt")
