"""transplant.py puts the face layers into a tree: what it adds, what it keeps, and that it can be taken back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import transplant_trees as trees
from support.transplant_trees import FILLER, PROTO, Transplant, content, make, numbers, protoc
from transplanting.layers import Layers
from transplanting.two_types import HEADERS as TWO_TYPE_HEADERS

CONFIG = "include/caffe/face_layers_config.hpp"
KINDS = {"bvlc": trees.bvlc, "ssd": trees.ssd, "caffe_face": trees.caffe_face, "ms": trees.ms}


@pytest.fixture
def transplant(tmp_path, capsys, monkeypatch) -> Transplant:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and no machine fails here
    return Transplant(*trees.stub_layers(tmp_path / "layers"), capsys)


@pytest.fixture
def root(tmp_path) -> Path:
    return make(tmp_path / "a caffe tree", trees.bvlc())


def defines(root: Path) -> list[str]:
    return [line.split()[1] for line in (root / CONFIG).read_text().splitlines()[2:] if line.startswith("#define")]


@pytest.mark.slow
def test_bvlc_gets_every_layer(transplant, root, tmp_path):
    assert transplant(root) == 0
    layers = Layers(transplant.source, transplant.tests)
    for layer in layers.layers:
        beside = layer.type in ("Accuracy", "InnerProduct", "Parameter", "Scale")
        assert transplant.row(layer.type)[1] == ("added beside the tree's" if beside else "added")
        for path in [*layer.sources, *layer.tests]:
            assert (root / path).read_bytes() == layers.read(path)
    for path in layers.shared:
        assert (root / path).read_bytes() == layers.read(path)
    assert transplant.row("CenterLoss")[2:] == ["center_loss_param", "211"]
    assert transplant.row("Scale")[2:] == ["min_value, max_value", "6, 7"]
    assert "Notes" not in transplant.out
    assert "with make, `make clean` first" in transplant.out and "with CMake, run `cmake`" in transplant.out
    assert f"--revert '{root}'" in transplant.out


@pytest.mark.slow
def test_the_fields_have_their_numbers_and_comments(transplant, root, tmp_path):
    transplant(root)
    merged = protoc(root, tmp_path)
    for ours in Layers(transplant.source, transplant.tests).proto.messages:
        found = numbers(merged[ours.name])
        for field in ours.fields:
            assert found[field.name] == field.number
    text = (root / PROTO).read_text()
    assert "  // The smallest score is the best: for distances.\n  optional bool min_is_better = 4 [" in text
    assert '  optional string distance_type = 29 [default = "L2"];  // "L2" (squared) or "L1"\n' in text
    assert "  // From here on there is no published number" in text


def test_caffes_own_registrations_are_commented_out_and_nothing_else(transplant, root):
    before = (root / "src/caffe/layers/scale_layer.cpp").read_text()
    transplant(root)
    assert (root / "src/caffe/layers/scale_layer.cpp").read_text() == before.replace(
        "REGISTER_LAYER_CLASS(Scale);", "// REGISTER_LAYER_CLASS(Scale);  // chosen by face_scale_layer.cpp"
    )
    assert (root / "src/caffe/layer_factory.cpp").read_text() == trees.bvlc()["src/caffe/layer_factory.cpp"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bvlc", ["CAFFE_FACE_STOCK_PARAMETER", "CAFFE_FACE_HAS_TRANSPOSE"]),
        ("ssd", ["CAFFE_FACE_STOCK_NORMALIZE", "CAFFE_FACE_STOCK_PARAMETER", "CAFFE_FACE_HAS_TRANSPOSE"]),
    ],
)
def test_the_config_says_what_the_tree_has(transplant, tmp_path, kind, expected):
    root = make(tmp_path / "tree", KINDS[kind]())
    transplant(root)
    assert defines(root) == expected


def test_ssd_keeps_its_normalize_beside_ours(transplant, tmp_path):
    root = make(tmp_path / "tree", trees.ssd())
    assert transplant(root) == 0
    assert transplant.row("Normalize") == ["Normalize", "added beside the tree's", "normalize_param", "214"]
    assert "\n// REGISTER_LAYER_CLASS(Normalize);" in (root / "src/caffe/layers/normalize_layer.cpp").read_text()
    merged = protoc(root, tmp_path)
    assert list(numbers(merged["NormalizeParameter"])) == ["across_spatial"]
    assert "fix_gradient" in numbers(merged["FaceNormalizeParameter"])
    types = {field.name: field.type_name for field in merged["LayerParameter"].field}
    assert (types["norm_param"], types["normalize_param"]) == (
        ".caffe.NormalizeParameter",
        ".caffe.FaceNormalizeParameter",
    )


def test_a_normalize_that_is_not_ssds_is_kept(transplant, tmp_path):
    root = make(tmp_path / "tree", {**trees.bvlc(), **trees.layer_files("Normalize", "normalize")})
    assert transplant(root) == 0
    assert transplant.row("Normalize") == ["Normalize", "kept: the tree's own"]
    assert not (root / "include/caffe/layers/face_normalize_layer.hpp").exists()
    assert "normalize_param" not in (root / PROTO).read_text()
    assert defines(root) == ["CAFFE_FACE_STOCK_PARAMETER", "CAFFE_FACE_HAS_TRANSPOSE"]


def test_caffe_face_keeps_its_center_loss(transplant, tmp_path):
    files = trees.caffe_face()
    root = make(tmp_path / "tree", files)
    assert transplant(root) == 0
    assert transplant.row("CenterLoss") == ["CenterLoss", "kept: the tree's own", "center_loss_param", "147"]
    assert "center_loss_param has the number 147 here, the tree's own; elsewhere it is 211" in transplant.out
    assert (root / "src/caffe/layers/center_loss_layer.cpp").read_text() == files[
        "src/caffe/layers/center_loss_layer.cpp"
    ]
    assert not (root / "src/caffe/layers/center_loss_layer.cu").exists()
    assert not (root / "src/caffe/test/test_center_loss_layer.cpp").exists()
    assert "center_step" not in numbers(protoc(root, tmp_path)["CenterLossParameter"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "noted"),
    [("(Dtype)1. / (count_data[n] + (Dtype)1.)", True), ("(Dtype)1./(count + (Dtype)1.)", False)],
    ids=["NormFace's fork", "caffe-face"],
)
def test_a_kept_center_loss_that_steps_otherwise_is_named(transplant, tmp_path, step, noted):
    files = trees.caffe_face()
    path = "src/caffe/layers/center_loss_layer.cpp"
    files[path] = f"caffe_axpy(K_, {step}, sums + n * K_, diff + n * K_);\n" + files[path]
    root = make(tmp_path / "tree", files)
    assert transplant(root) == 0
    assert ("CenterLoss is kept, and steps as NormFace's fork does: n times as far" in transplant.out) == noted
    if noted:
        assert transplant(root, "--replace", "CenterLoss") == 0
        assert "steps as NormFace's fork" not in transplant.out


@pytest.mark.slow
def test_the_trees_center_loss_is_replaced_on_request(transplant, tmp_path):
    user = {"src/caffe/layers/other_layer.cpp": '#include "caffe/layers/center_loss_layer.hpp"\n'}
    root = make(tmp_path / "tree", {**trees.caffe_face(), **user})
    before = content(root)
    assert transplant(root, "--replace", "CenterLoss") == 0
    assert transplant.row("CenterLoss") == ["CenterLoss", "added in place of the tree's", "center_loss_param", "147"]
    assert (root / "src/caffe/layers/center_loss_layer.cpp").read_text() == "REGISTER_LAYER_CLASS(CenterLoss);\n"
    assert "src/caffe/layers/other_layer.cpp includes include/caffe/layers/center_loss_layer.hpp" in transplant.out
    merged = protoc(root, tmp_path)
    assert numbers(merged["CenterLossParameter"])["center_step"] == 100
    assert numbers(merged["LayerParameter"])["center_loss_param"] == 147
    assert transplant(root) == 0 and "already there" in transplant.out  # what was replaced once stays so
    assert transplant(root, "--revert") == 0
    assert content(root) == before


def test_in_normface_fork_nothing_is_left_to_do(transplant, tmp_path):
    root = make(tmp_path / "tree", trees.ms())
    before = content(root)
    assert transplant(root) == 0
    assert transplant.row("InnerProduct")[1] == transplant.row("Flip")[1] == "kept: the tree's own"
    assert transplant.out.endswith("nothing to do: the tree has it all\n")
    assert content(root) == before


@pytest.mark.slow
def test_replace_all_replaces_what_can_be_replaced(transplant, tmp_path):
    root = make(tmp_path / "tree", trees.ms())
    before = content(root)
    assert transplant(root, "--replace", "all") == 0
    assert transplant.row("Flip")[1] == "added in place of the tree's"
    assert transplant.row("Scale")[1] == "added beside the tree's"
    assert transplant(root, "--revert") == 0
    assert content(root) == before


def test_a_tree_from_before_the_parameter_layer(transplant, tmp_path):
    files = trees.bvlc()
    files = {path: text for path, text in files.items() if "parameter_layer" not in path}
    text = files[PROTO].replace("  optional ParameterParameter parameter_param = 145;\n", "")
    text = text[: text.index("message ParameterParameter")].replace(
        "ID: 149 (last added: clip", "ID: 145 (last added: crop"
    )
    files[PROTO] = text.replace("  optional bool transpose = 6 [default = false];\n", "")
    root = make(tmp_path / "tree", files)
    assert transplant(root) == 0
    assert transplant.row("Parameter") == ["Parameter", "added", "parameter_param, shape, blob_filler", "145, 1, 2"]
    assert defines(root) == []
    merged = protoc(root, tmp_path)
    assert numbers(merged["ParameterParameter"]) == {"shape": 1, "blob_filler": 2}
    assert "layer-specific ID: 146 (last added: parameter_param)" in (root / PROTO).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_revert_restores_the_tree_to_the_byte(transplant, tmp_path, kind, newline):
    root = make(tmp_path / "tree", KINDS[kind](), newline)
    os.chmod(root / FILLER, 0o600)
    os.chmod(root / PROTO, 0o755)
    before = content(root)
    assert transplant(root) == 0
    if kind == "ms":
        return
    assert content(root) != before
    assert oct((root / FILLER).stat().st_mode & 0o777) == "0o600"
    assert transplant(root, "--revert") == 0
    assert content(root) == before
    assert "it is as it was before" in transplant.out
    assert "with make, `make clean` first" in transplant.out and "with CMake, run `cmake`" in transplant.out


@pytest.mark.slow
@pytest.mark.parametrize("final", [True, False])
def test_line_endings_and_bytes_are_kept(transplant, tmp_path, final):
    files = trees.bvlc()
    root = make(tmp_path / "tree", files, "\r\n")
    data = (root / PROTO).read_bytes().replace(b"the layer name", b"\xb2\xe3\xc3\xfb \xe9\x5c")  # GBK
    (root / PROTO).write_bytes(data if final else data.rstrip(b"\r\n"))
    assert transplant(root) == 0
    for path in (PROTO, FILLER, "src/caffe/layers/scale_layer.cpp"):
        written = (root / path).read_bytes()
        assert written.count(b"\n") == written.count(b"\r\n") > 0
    written = (root / PROTO).read_bytes()
    assert b"// \xb2\xe3\xc3\xfb \xe9\x5c\r\n" in written
    assert written.endswith(b"}\r\n") is final and written.rstrip().endswith(b"}")
    protoc(root, tmp_path)


@pytest.mark.slow
def test_twice_changes_nothing(transplant, root):
    transplant(root)
    after = content(root)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    assert transplant(root) == 0
    assert transplant.out.endswith("already there: nothing to do\n")
    assert content(root) == after
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()} == times


def test_dry_run_says_the_same_and_writes_nothing(transplant, root):
    before = content(root)
    assert transplant(root, "--dry-run") == 0
    planned = transplant.out
    assert planned.endswith("nothing was written (--dry-run)\n")
    assert content(root) == before
    transplant(root)
    assert transplant.out.splitlines()[:-1] == planned.splitlines()[:-1]


@pytest.mark.slow
def test_without_tests(transplant, root):
    assert transplant(root, "--no-tests") == 0
    assert [path.name for path in (root / "src/caffe/test").iterdir()] == ["test_caffe_main.cpp"]
    assert transplant(root) == 0  # they come in later
    assert (root / "src/caffe/test/test_flip_layer.cpp").exists()
    assert transplant(root, "--no-tests") == 0
    # a test of each layer, and what two of them share
    assert f"{len(Layers(trees.SOURCE, trees.TESTS).layers) + 1} files removed" in transplant.out


def test_a_tree_without_tests_gets_none(transplant, root):
    (root / "src/caffe/test/test_caffe_main.cpp").unlink()
    assert transplant(root) == 0
    assert "the layers' tests are left out: the tree has no src/caffe/test/test_caffe_main.cpp" in transplant.out
    assert not list((root / "src/caffe/test").iterdir())


@pytest.mark.slow
def test_json_says_all_of_it(transplant, root):
    assert transplant(root, "--dry-run", "--json") == 0
    said = json.loads(transplant.out)
    assert (said["root"], said["did"]) == (str(root), "planned")
    layers = {layer["type"]: layer for layer in said["layers"]}
    assert layers["CenterLoss"]["fields"] == [
        {"message": "LayerParameter", "name": "center_loss_param", "number": 211, "wanted": 211, "added": True,
         "instead_of": ""}
    ]  # fmt: skip
    assert "include/caffe/filler.hpp" in said["files"]["changed"]
    assert transplant(root, "--json") == 0 and json.loads(transplant.out)["did"] == "transplanted"
    assert transplant(root, "--json") == 0 and json.loads(transplant.out)["did"] == "nothing"
    assert transplant(root, "--revert", "--json") == 0
    said = json.loads(transplant.out)
    assert said["did"] == "reverted" and "include/caffe/filler.hpp" in said["files"]["restored"]


def test_the_script_runs_by_itself_and_from_anywhere(root, tmp_path):
    script = trees.SOURCE / "transplant.py"
    command = [sys.executable, str(script), os.path.relpath(root, tmp_path), "--dry-run", "--no-tests"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "MarginInnerProduct       added" in result.stdout


def test_windows_projects_and_generated_files_are_pointed_out(transplant, root):
    project = "windows/libcaffe/libcaffe.vcxproj"
    make(root, {project: '<ClCompile Include="scale_layer.cpp" />', "include/caffe/proto/caffe.pb.h": ""})
    transplant(root)
    assert f"{project} lists its sources by name: add those above to it" in transplant.out
    assert "include/caffe/proto/caffe.pb.h is made from caffe.proto" in transplant.out


def test_the_real_layers_are_complete():
    """Every file of caffe_layers/ goes into a tree, and includes only what does or what Caffe has."""
    layers = Layers(trees.SOURCE, trees.TESTS)
    placed = {path for layer in layers.layers for path in layer.sources} | set(layers.shared)
    tests = {path for layer in layers.layers for path in layer.tests}
    for path in [*placed, *tests]:
        assert layers.read(path)
    assert {Path(path).name for path in tests} == {path.name for path in trees.TESTS.glob("*.?pp")}
    found = {
        path.relative_to(trees.SOURCE).as_posix()
        for folder in ("include", "src")
        for path in (trees.SOURCE / folder).rglob("*")
        if path.is_file()
    }
    assert found - set(layers.fillers.values()) == placed | set(TWO_TYPE_HEADERS)


def test_a_real_layer_needs_no_other_that_a_tree_may_keep():
    layers = Layers(trees.SOURCE, trees.TESTS)
    headers = {layer.header: layer.type for layer in layers.layers}
    fields = {layer.field: layer.type for layer in layers.layers if layer.field}
    for layer in layers.layers:
        for path in [*layer.sources, *layers.shared, *layer.tests]:
            text = layers.read(path).decode()
            needs = {headers.get(f"include/{name}") for name in re.findall(r'#include "(caffe/layers/.*)"', text)}
            needs |= {fields.get(name.replace("mutable_", "")) for name in re.findall(r"(\w+_param)\(\)", text)}
            assert needs <= {None, layer.type}, path


def test_the_readme_names_every_layer_with_its_fields():
    text = (trees.SOURCE / "README.md").read_text()
    layers = Layers(trees.SOURCE, trees.TESTS)
    rows = dict(re.findall(r"^\| `(\w+)` \| (`\w+ = \d+`.*?|) ?\|", text, re.MULTILINE))
    for layer in layers.layers:
        messages = [layers.proto.message(name) for name in layer.messages]
        fields = [field for message in messages if message for field in message.fields]
        if layer.field:
            (whole,) = [message for message in layers.proto.messages if message.name == "LayerParameter"]
            fields = [field for field in whole.fields if field.name == layer.field]
        assert rows.pop(layer.type) == ", ".join(f"`{field.name} = {field.number}`" for field in fields)
    assert not rows
