"""Trees and arguments that transplant.py refuses: one line with the way out, and nothing written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import transplant_trees as trees
from support.transplant_trees import FACTORY, FILLER, PROTO, Transplant, content, make


@pytest.fixture
def transplant(tmp_path, capsys, monkeypatch) -> Transplant:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and no machine fails here
    return Transplant(*trees.stub_layers(tmp_path / "layers"), capsys)


def changed(path: str, old: str, new: str) -> dict[str, str]:
    files = trees.bvlc()
    assert old in files[path]
    return {**files, path: files[path].replace(old, new)}


def without(*parts: str) -> dict[str, str]:
    return {path: text for path, text in trees.bvlc().items() if not any(part in path for part in parts)}


def registered(path: str, text: str) -> dict[str, str]:
    return {**trees.bvlc(), path: text}


NVCAFFE = "template <typename Ftype, typename Btype>\nclass Layer : public LayerBase {\n};\n"

TREES = {
    "no proto": (without(PROTO), f"has no {PROTO}; is it the top folder of a Caffe tree?"),
    "no filler": (without(FILLER), f"has no {FILLER}; is it the top"),
    "no factory": (without(FACTORY), f"has no {FACTORY}; is it the top"),
    "no layer.hpp": (without("include/caffe/layer.hpp"), "has no include/caffe/layer.hpp; is it the top"),
    "unreadable proto": (changed(PROTO, "= 142;", "= ;"), f"{PROTO}:31: expected the number of a field, got ;"),
    "merge conflict": (changed(PROTO, "// NOTE", "<<<<<<< HEAD"), f"{PROTO}:20: expected a message, enum"),
    "proto3": (changed(PROTO, "proto2", "proto3"), f'{PROTO} has the syntax proto3; the face layers are written for'),
    "edition": (changed(PROTO, 'syntax = "proto2"', 'edition = "2023"'), "has the syntax edition 2023; the"),
    "another package": (changed(PROTO, "package caffe", "package mini"), 'has the package "mini"; the face layers'),
    "V1 only": (
        changed(PROTO, "optional string type = 2;", "optional Operator type = 2;"),
        "LayerParameter has no field `optional string type`, as before October 2014; merge a later BVLC Caffe first",
    ),
    "no LayerParameter": (changed(PROTO, "message LayerParameter", "message Layer"), "LayerParameter has no field"),
    "no FillerParameter": (changed(PROTO, "optional string type = 1", "optional int32 type = 1"), "FillerParameter"),
    "two dtypes": (
        {**trees.bvlc(), "include/caffe/layer.hpp": NVCAFFE},
        f"{FACTORY} has no CreateLayerBase; with Layer<Ftype, Btype> expected it as in NVCaffe 0.16 and",
    ),
    "no macro": (changed(FACTORY, "#define REGISTER_LAYER_CLASS", "#define REGISTER"), "doesn't define REGISTER_"),
    "another macro": (
        changed(FACTORY, "creator<double>", "creator<float16>"), "REGISTER_LAYER_CREATOR has another shape than BVLC"
    ),
    "a macro of three": (changed(FACTORY, "CREATOR(type, creator) ", "CREATOR(type, creator, x) "), "has another"),
    "other creators": (changed(FACTORY, "(const LayerParameter&);", "(int);"), "expected creators shared_ptr<"),
    "no Scale": (without("scale_layer"), "has no layer of type Scale: it is older than BVLC"),
    "no InnerProduct": (without("inner_product"), "has no layer of type InnerProduct: it is older"),
    "a creator of its own": (
        changed("src/caffe/layers/scale_layer.cpp", "CLASS(Scale)", "CREATOR(Scale, GetScale)"),
        "src/caffe/layers/scale_layer.cpp registers Scale by a creator of its own; expected one",
    ),
    "registered twice": (
        changed("src/caffe/layers/scale_layer.cpp", "REGISTER_LAYER_CLASS(Scale);", "REGISTER_LAYER_CLASS(Scale);" * 2),
        "src/caffe/layers/scale_layer.cpp registers Scale more than once; expected one REGISTER_LAYER_CLASS(Scale)",
    ),
    "registered in two files": (
        registered("src/caffe/util/force_link.cpp", "REGISTER_LAYER_CLASS(Scale);"),
        "src/caffe/layers/scale_layer.cpp registers Scale, as does src/caffe/util/force_link.cpp; expected one",
    ),
    "no class": (
        changed("include/caffe/layers/scale_layer.hpp", "class ScaleLayer", "class MKLScaleLayer"),
        "include/caffe/layers/scale_layer.hpp does not declare a class ScaleLayer; the face layers build on that one",
    ),
    "no header": (without("include/caffe/layers/scale_layer.hpp"), "is missing, which declares a class ScaleLayer"),
    "a bracket that is never closed": (
        registered("src/caffe/x.cpp", "\nREGISTER_LAYER_CREATOR(Scale, Get(x)"), "src/caffe/x.cpp:2: the bracket of"
    ),
    "our file is there": (
        registered("src/caffe/layers/flip_layer.cpp", "int x;"),
        "src/caffe/layers/flip_layer.cpp is in the tree already, and is another file than the face layers'; rename it,"
        " or --replace Flip to overwrite it (--revert brings it back)",
    ),
    "our helper is there": (registered("include/caffe/util/unit_rows.hpp", "x"), "unit_rows.hpp is in the tree"),
    "our test is there": (registered("src/caffe/test/test_flip_layer.cpp", "x"), "rename it, or --no-tests, or"),
}  # fmt: skip


@pytest.mark.parametrize("case", TREES)
def test_a_tree_that_is_not_understood_is_refused_untouched(transplant, tmp_path, case):
    files, problem = TREES[case]
    root = make(tmp_path / "tree", files)
    before = content(root)
    assert problem in transplant.refusal(root)
    assert problem in transplant.refusal(root, "--dry-run")
    assert content(root) == before


@pytest.mark.parametrize("file", ["src/caffe/layers/flip_layer.cpp", "src/caffe/test/test_flip_layer.cpp"])
def test_a_file_of_our_name_may_be_overwritten(transplant, tmp_path, file):
    root = make(tmp_path / "tree", registered(file, "int x;"))
    before = content(root)
    assert transplant(root, "--replace", "Flip") == 0
    assert transplant(root, "--revert") == 0
    assert content(root) == before


def test_a_file_of_ours_that_is_there_is_no_problem(transplant, tmp_path):
    files = registered("include/caffe/util/unit_rows.hpp", "// include/caffe/util/unit_rows.hpp\n")
    root = make(tmp_path / "tree", files)
    before = content(root)
    assert transplant(root) == 0
    assert transplant(root, "--revert") == 0
    assert content(root) == before


def test_a_folder_in_the_place_of_a_file(transplant, tmp_path):
    root = make(tmp_path / "tree", without(FILLER))
    (root / FILLER).mkdir()
    assert transplant.refusal(root) == f"{root / FILLER} is a folder; expected a file"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with names")
def test_pipes_and_links_to_nowhere_do_not_stop_it(transplant, tmp_path):
    root = make(tmp_path / "tree", trees.bvlc())
    os.mkfifo(root / "src/caffe/pipe.cpp")
    (root / "src/caffe/nowhere.cpp").symlink_to("none")
    (root / "src/caffe/itself.cpp").symlink_to("itself.cpp")
    assert transplant(root) == 0
    (root / PROTO).unlink()
    os.mkfifo(root / PROTO)
    assert transplant(root, "--revert") == 2
    root = make(tmp_path / "another", without(PROTO))
    (root / "src/caffe/proto").mkdir()
    os.mkfifo(root / PROTO)
    assert transplant.refusal(root) == f"{root / PROTO} is no plain file; expected a file"


@pytest.mark.parametrize(
    ("source", "header", "problem"),
    [
        (
            "src/caffe/layers/center_loss_layer.cpp",
            "loss.hpp",
            "no header under include/ has the class CenterLossLayer of src/caffe/layers/center_loss_layer.cpp",
        ),
        (
            "more",
            "center_loss_layer.hpp",
            "src/caffe/layers/center_loss_layer.cpp registers More too; take the tree's own",
        ),
    ],
)
def test_what_can_not_be_replaced_is_refused(transplant, tmp_path, source, header, problem):
    text = "REGISTER_LAYER_CLASS(CenterLoss);\n" + ("REGISTER_LAYER_CLASS(More);\n" if source == "more" else "")
    source = source.replace("more", "src/caffe/layers/center_loss_layer.cpp")
    root = make(tmp_path / "tree", {**trees.bvlc(), source: text, f"include/caffe/layers/{header}": ""})
    before = content(root)
    refusal = transplant.refusal(root, "--replace", "CenterLoss")
    assert refusal.startswith("CenterLoss can't be replaced: ") and problem in refusal
    assert content(root) == before
    assert transplant(root, "--replace", "all") == 0
    assert transplant.row("CenterLoss")[1] == "kept: the tree's own"
    assert "CenterLoss is kept in spite of --replace all" in transplant.out


def test_the_arguments_are_checked(transplant, tmp_path):
    root = make(tmp_path / "tree", trees.bvlc())
    assert transplant.refusal() == "the following arguments are required: CAFFE_ROOT; see --help"
    assert transplant.refusal(root, "--dry-run", "--revert").endswith("not allowed with argument --dry-run; see --help")
    assert "argument CAFFE_ROOT: expected a folder, got an empty name" in transplant.refusal("")
    assert transplant.refusal(root, "--wrong") == "unrecognized arguments: --wrong; see --help"
    assert transplant.refusal(root, "--force") == "--force goes with --revert only; see --help"
    assert "--revert takes all out; --no-tests, --replace and --without don't go" in transplant.refusal(
        root, "--revert", "--no-tests"
    )
    assert "--replace centerloss: expected all or one of Accuracy, AdaCosAddmScale, Arc" in transplant.refusal(
        root, "--replace", "centerloss"
    )
    assert "--without all: expected one of Accuracy, AdaCosAddmScale, Arc" in transplant.refusal(
        root, "--without", "all"
    )
    assert "--without don't go with it" in transplant.refusal(root, "--revert", "--without", "Flip")
    assert transplant.refusal(tmp_path / "none") == f"{tmp_path / 'none'} is not there; expected a Caffe tree"
    assert "is not a folder; expected a Caffe tree" in transplant.refusal(root / "Makefile")
    assert transplant.refusal(tmp_path, "--revert") == f"{tmp_path} has no .face_layers: there is nothing to revert"


def test_layers_that_are_not_complete(transplant, tmp_path):
    root = make(tmp_path / "tree", trees.bvlc())
    before = content(root)
    missing = transplant.tests / "test_flip_layer.cpp"
    missing.unlink()
    assert transplant.refusal(root) == (
        f"caffe_layers is incomplete: {missing} is missing; --no-tests goes without the layers' tests"
    )
    assert transplant(root, "--no-tests", "--dry-run") == 0
    (transplant.source / "src/caffe/layers/flip_layer.cu").unlink()
    assert "flip_layer.cu is missing" in transplant.refusal(root, "--no-tests")
    manifest = transplant.source / "manifest.json"
    rows = json.loads(manifest.read_text())
    rows["layers"]["Flip"]["messages"] = ["Flop"]
    manifest.write_text(json.dumps(rows))
    assert "proto/face_layers.proto has no message Flop" in transplant.refusal(root)
    manifest.write_text("{")
    assert "manifest.json can't be read (" in transplant.refusal(root)
    manifest.unlink()
    assert transplant.refusal(root) == f"caffe_layers is incomplete: {manifest} is missing"
    assert content(root) == before


def test_debug_shows_the_traceback(tmp_path):
    script = trees.SOURCE / "transplant.py"
    command = [sys.executable, str(script), str(tmp_path), "--debug"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "Traceback" in result.stderr and "transplanting.errors.Refused" in result.stderr


def test_a_file_that_can_not_be_read(transplant, tmp_path, monkeypatch):
    root = make(tmp_path / "tree", trees.bvlc())
    read = Path.read_bytes

    def deny(path: Path) -> bytes:
        if path.name == "scale_layer.cpp":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", deny)
    path = root / "src/caffe/layers/scale_layer.cpp"
    assert transplant.refusal(root) == f"{path}: Permission denied; the tree is as it was"


def test_an_old_python_gets_a_clear_line(tmp_path):
    """The script itself is text that Python 2 reads up to that line."""
    import ast

    tree = ast.parse((trees.SOURCE / "transplant.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.JoinedStr, ast.AnnAssign))]
