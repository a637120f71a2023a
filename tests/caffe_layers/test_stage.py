"""stage.py's copy of a tree compiles with libraries newer than the tree, and the tree itself stays as it is."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import transplant_trees as trees
from transplanting.todays_libraries import adapted, renamed

STAGE = trees.SOURCE / "stage.py"

IO = """\
#include <google/protobuf/io/coded_stream.h>
// CV_LOAD_IMAGE_COLOR as ever
bool Read(google::protobuf::io::CodedInputStream* coded_input, int* flag) {
  coded_input->SetTotalBytesLimit(kProtoReadBytesLimit, 536870912);
  *flag = is_color ? CV_LOAD_IMAGE_COLOR : CV_LOAD_IMAGE_GRAYSCALE;
  return true;
}
"""


def stage(root, copy, *options) -> str:
    command = [sys.executable, str(STAGE), str(root), str(copy), *options]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.mark.slow
def test_the_copy_is_adapted_and_the_tree_is_not_touched(tmp_path):
    files = trees.bvlc() | {"src/caffe/util/io.cpp": IO, "tools/show.cpp": "int flag = CV_BGR2GRAY;\n"}
    root = trees.make(tmp_path / "tree", files)
    before = trees.content(root)
    said = stage(root, tmp_path / "copy")
    assert trees.content(root) == before
    names = "CV_LOAD_IMAGE_COLOR, CV_LOAD_IMAGE_GRAYSCALE, SetTotalBytesLimit"
    assert f"adapted to newer libraries: src/caffe/util/io.cpp: {names}\n" in said
    assert "adapted to newer libraries: tools/show.cpp: CV_BGR2GRAY\n" in said
    copied = (tmp_path / "copy" / "src/caffe/util/io.cpp").read_text()
    assert "? cv::IMREAD_COLOR : cv::IMREAD_GRAYSCALE" in copied
    assert "// CV_LOAD_IMAGE_COLOR as ever" in copied
    assert (tmp_path / "copy" / "tools/show.cpp").read_text() == "int flag = cv::COLOR_BGR2GRAY;\n"
    assert ": 0 files written" in stage(root, tmp_path / "copy")


@pytest.mark.slow
def test_a_tree_for_todays_libraries_stays_as_it_is(tmp_path):
    text = "coded_input->SetTotalBytesLimit(kLimit);\nint type = CV_8UC3, flag = cv::IMREAD_COLOR;\nCV_Assert(flag);\n"
    root = trees.make(tmp_path / "tree", trees.bvlc() | {"src/caffe/util/io.cpp": text})
    assert "adapted" not in stage(root, tmp_path / "copy")
    assert (tmp_path / "copy" / "src/caffe/util/io.cpp").read_text() == text


@pytest.mark.slow
def test_layers_are_left_out_and_replaced_in_the_copy_on_request(tmp_path):
    root = trees.make(tmp_path / "tree", trees.bvlc())
    said = stage(root, tmp_path / "copy", "--without", "Flip", "--without", "RingLoss")
    assert not (tmp_path / "copy/src/caffe/layers/flip_layer.cpp").exists()
    assert said.count("left out") == 2
    stage(root, tmp_path / "copy")
    assert (tmp_path / "copy/src/caffe/layers/flip_layer.cpp").exists()


@pytest.mark.slow
def test_a_refusal_names_the_users_tree_and_leaves_the_copy_alone(tmp_path):
    root = trees.make(tmp_path / "tree", trees.bvlc())
    command = [sys.executable, str(STAGE), str(root), str(tmp_path / "copy"), "--replace", "Nothing"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("transplant.py: error: --replace Nothing: expected all or one of ")
    (root / "include/caffe/filler.hpp").unlink()
    result = subprocess.run(command[:-2], capture_output=True, text=True, check=False)
    assert f"{root} has no include/caffe/filler.hpp" in result.stderr
    assert list((tmp_path / "copy").iterdir()) == []


@pytest.mark.slow
def test_of_examples_the_copy_has_what_the_trees_own_build_looks_for(tmp_path):
    files = {"examples/CMakeLists.txt": "a", "examples/x/x.cpp": "int flag = CV_AA;\n", "examples/x/x.prototxt": "b"}
    root = trees.make(tmp_path / "tree", trees.bvlc() | files | {"data/x.txt": "c", "docs/CMakeLists.txt": "d"})
    stage(root, tmp_path / "copy")
    copied = [path for path, (kind, *_) in trees.content(tmp_path / "copy").items() if kind == "file"]
    found = [path for path in copied if path.startswith(("examples", "data", "docs"))]
    assert found == ["docs/CMakeLists.txt", "examples/CMakeLists.txt", "examples/x/x.cpp"]
    assert (tmp_path / "copy/examples/x/x.cpp").read_text() == "int flag = cv::LINE_AA;\n"


@pytest.mark.slow
def test_transplanting_says_where_the_trees_own_build_stops(tmp_path, capsys):
    root = trees.make(tmp_path / "tree", trees.bvlc() | {"src/caffe/util/io.cpp": IO})
    trees.cli.main([str(root), "--dry-run"])
    said = capsys.readouterr().out
    assert "with OpenCV from 4 on the tree's own build stops at src/caffe/util/io.cpp; caffe_layers/stage.py" in said
    assert "with protobuf from 3.21 on the tree's own build stops at src/caffe/util/io.cpp; caffe_layers" in said
    assert "own build stops" not in stage(root, tmp_path / "copy")


@pytest.mark.slow
def test_bytes_and_line_endings_stay(tmp_path):
    root = trees.make(tmp_path / "tree", trees.bvlc())
    (root / "tools/old.cpp").parent.mkdir(parents=True, exist_ok=True)
    (root / "tools/old.cpp").write_bytes(b"// \xe9t\xe9\r\nint flag = CV_AA;\r\n")
    stage(root, tmp_path / "copy")
    assert (tmp_path / "copy/tools/old.cpp").read_bytes() == b"// \xe9t\xe9\r\nint flag = cv::LINE_AA;\r\n"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("CV_LOAD_IMAGE_UNCHANGED", "cv::IMREAD_UNCHANGED"),
        ("CV_LOAD_IMAGE_ANYDEPTH", "cv::IMREAD_ANYDEPTH"),
        ("CV_IMWRITE_JPEG_QUALITY", "cv::IMWRITE_JPEG_QUALITY"),
        ("CV_BGR2GRAY", "cv::COLOR_BGR2GRAY"),
        ("CV_GRAY2BGR", "cv::COLOR_GRAY2BGR"),
        ("CV_BGRA2RGB", "cv::COLOR_BGRA2RGB"),
        ("CV_BGR2HSV_FULL", "cv::COLOR_BGR2HSV_FULL"),
        ("CV_BGR2YCrCb", "cv::COLOR_BGR2YCrCb"),
        ("CV_BGR5652BGRA", "cv::COLOR_BGR5652BGRA"),
        ("CV_BayerRG2BGR", "cv::COLOR_BayerRG2BGR"),
        ("CV_YUV2BGR_NV12", "cv::COLOR_YUV2BGR_NV12"),
        ("CV_LBGR2Lab", "cv::COLOR_LBGR2Lab"),
        ("CV_CAP_PROP_FRAME_COUNT", "cv::CAP_PROP_FRAME_COUNT"),
        ("CV_FILLED", "cv::FILLED"),
        ("CV_AA", "cv::LINE_AA"),
        ("CV_FONT_HERSHEY_SIMPLEX", "cv::FONT_HERSHEY_SIMPLEX"),
        ("CV_WINDOW_AUTOSIZE", "cv::WINDOW_AUTOSIZE"),
        ("CV_THRESH_OTSU", "cv::THRESH_OTSU"),
        ("CV_ADAPTIVE_THRESH_MEAN_C", "cv::ADAPTIVE_THRESH_MEAN_C"),
        ("CV_INTER_NN", "cv::INTER_NEAREST"),
        ("CV_INTER_LINEAR", "cv::INTER_LINEAR"),
        ("CV_WARP_INVERSE_MAP", "cv::WARP_INVERSE_MAP"),
        ("CV_RETR_EXTERNAL", "cv::RETR_EXTERNAL"),
        ("CV_CHAIN_APPROX_SIMPLE", "cv::CHAIN_APPROX_SIMPLE"),
        ("CV_SHAPE_ELLIPSE", "cv::MORPH_ELLIPSE"),
        ("CV_MOP_CLOSE", "cv::MORPH_CLOSE"),
        ("CV_COMP_CHISQR", "cv::HISTCMP_CHISQR"),
        ("CV_MINMAX", "cv::NORM_MINMAX"),
        ("CV_L2", "cv::NORM_L2"),
        ("CV_C", "cv::NORM_INF"),
        ("CV_TERMCRIT_ITER", "cv::TermCriteria::COUNT"),
        ("CV_TERMCRIT_EPS", "cv::TermCriteria::EPS"),
        ("CV_FOURCC", "cv::VideoWriter::fourcc"),
    ],
)
def test_names_of_opencvs_c_interface(old, new):
    assert renamed(old) == new
    assert adapted(f"use({old});") == (f"use({new});", [old])


@pytest.mark.parametrize(
    "name",
    ["CV_8UC3", "CV_32F", "CV_MAKETYPE", "CV_MAT_CN", "CV_VERSION_MAJOR", "CV_MAJOR_VERSION", "CV_PI", "CV_RGB",
     "CV_Assert", "CV_EXPORTS", "CV_LOAD_IMAGE_OF_MY_OWN", "XCV_AA"],
)  # fmt: skip
def test_names_that_opencv_4_still_has_and_those_of_others_stay(name):
    assert adapted(f"use({name});") == (f"use({name});", [])


@pytest.mark.parametrize(
    "text",
    [
        '// CV_AA\nlog("CV_AA"); /* CV_AA */\n#if 0\nint a = CV_AA;\n#endif\n',
        "#define CV_AA 16\nint a = CV_AA;\n",
        "#ifndef CV_AA\n#  define CV_AA (16)\n#endif\nint a = CV_AA;\n",
        "#undef CV_AA\n#ifdef CV_AA\n#error\n#endif\n#  define CV_AA\n",
        "#if defined(CV_AA) && 1\nint b;\n#endif\n",
        "enum { CV_AA = 16 };\nint a = CV_AA;\n",
        "static const int CV_AA = 16;\nint a = CV_AA;\n",
        "int a = mine::CV_AA;\n",
    ],
)
def test_what_is_no_use_of_opencvs_name_stays(text):
    assert adapted(text) == (text, [])


def test_a_name_in_a_macro_of_the_trees_own_is_adapted():
    text = "#define FLAG CV_AA\n#  define OTHER CV_AA\n"
    assert adapted(text)[0] == text.replace("CV_AA", "cv::LINE_AA")


def test_a_name_for_which_a_tree_has_a_macro_of_one_version_is_adapted():
    """As weiliu89's SSD has it. (With the macro for OpenCV 4, that version's own headers do not compile.)"""
    text = "#if CV_VERSION_MAJOR == 3\n#define CV_AA cv::LINE_AA\n#endif\nint a = CV_AA;\n"
    assert adapted(text) == (text.replace("= CV_AA", "= cv::LINE_AA"), ["CV_AA"])


def syntax(folder, text, *flags) -> subprocess.CompletedProcess[str]:
    (folder / "source.cpp").write_text(text)
    command = ["g++", "-std=c++14", "-fsyntax-only", *flags, str(folder / "source.cpp")]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


CALLS = """\
void Read(CodedInputStream* in, CodedInputStream& other) {
  in->SetTotalBytesLimit(kLimit, 536870912);
  other.SetTotalBytesLimit(pick(kLimit, 2),
                           -1);
  in -> SetTotalBytesLimit ( kLimit , pick(3, 4) );  // warns at, says the old one
}
"""


@pytest.mark.parametrize(("version", "arguments"), [(2006001, 2), (3006001, 2), (3012004, 1), (4025001, 1)])
def test_the_limit_of_bytes_suits_protobufs_of_one_and_of_two_arguments(tmp_path, version, arguments):
    """Stand-ins for protobuf 2.6, 3.6 (two arguments) and 3.12, 25.1 as if these had only the later form."""
    one_class = f"struct CodedInputStream {{ void SetTotalBytesLimit({', '.join(['int'] * arguments)}); }};\n"
    before = f"#define GOOGLE_PROTOBUF_VERSION {version}\n{one_class}const int kLimit = 7;\nint pick(int, int);\n"
    text, names = adapted(CALLS)
    assert names == ["SetTotalBytesLimit"] and adapted(text) == (text, [])
    result = syntax(tmp_path, before + text)
    assert result.returncode == 0, result.stdout
    assert (syntax(tmp_path, before + CALLS).returncode == 0) == (arguments == 2)


@pytest.mark.slow
def test_the_limit_of_bytes_compiles_with_the_protobuf_that_is_installed(tmp_path):
    if syntax(tmp_path, "#include <google/protobuf/io/coded_stream.h>\n").returncode:
        pytest.skip("g++ or protobuf's headers are not installed (Debian: g++ libprotobuf-dev)")
    before = "#include <google/protobuf/io/coded_stream.h>\nusing google::protobuf::io::CodedInputStream;\n"
    before += "const int kLimit = 7;\nint pick(int, int);\n"
    result = syntax(tmp_path, before + adapted(CALLS)[0])
    assert result.returncode == 0, result.stdout
