"""What transplant.py keeps of a tree: runs that end in the middle, files that were edited since, newer layers."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from support import transplant_trees as trees
from support.transplant_trees import FILLER, PROTO, Transplant, content, make

SCALE = "src/caffe/layers/scale_layer.cpp"
FLIP = "src/caffe/layers/flip_layer.cpp"
RECORD = ".face_layers/record.json"


@pytest.fixture
def transplant(tmp_path, capsys, monkeypatch) -> Transplant:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # slow, and no machine fails here
    return Transplant(*trees.stub_layers(tmp_path / "layers"), capsys)


@pytest.fixture
def root(tmp_path) -> Path:
    return make(tmp_path / "tree", trees.ssd())


def edit(root: Path, path: str) -> None:
    with open(root / path, "a") as file:
        file.write("// mine\n")


def newer_layers(transplant: Transplant) -> None:
    """Another Flip, a field more, a layer less, and another place for the filler."""
    (transplant.source / FLIP).write_text("REGISTER_LAYER_CLASS(Flip);  // newer\n")
    proto = transplant.source / "proto/face_layers.proto"
    proto.write_text(trees.with_fields(proto.read_text(), "ScaleParameter", "optional bool more = 101;"))
    manifest = transplant.source / "manifest.json"
    rows = json.loads(manifest.read_text())
    del rows["layers"]["Accuracy"]
    manifest.write_text(json.dumps(rows))


# Edited files


@pytest.mark.slow
def test_revert_does_not_overwrite_an_edited_file(transplant, root):
    before = content(root)
    transplant(root)
    edit(root, PROTO)
    edit(root, FLIP)
    (root / "src/caffe/layers/flip_layer.cu").unlink()
    after = content(root)
    refusal = transplant.refusal(root, "--revert")
    assert refusal == (
        f"edited since the transplant: {root / PROTO}, {root / FLIP}; undo the edits, or use --revert --force, which"
        " keeps each edited file beside as FILE.edited"
    )
    assert content(root) == after
    (root / f"{FLIP}.edited").write_text("an earlier one\n")
    assert transplant(root, "--revert", "--force") == 0
    assert f"your edited {PROTO} is caffe.proto.edited now" in transplant.out
    assert (root / f"{PROTO}.edited").read_text().endswith("}\n// mine\n")
    assert (root / f"{FLIP}.edited2").read_text().endswith("// mine\n")
    for path in (f"{PROTO}.edited", f"{FLIP}.edited", f"{FLIP}.edited2"):
        (root / path).unlink()
    assert content(root) == before


def test_a_changed_file_that_is_gone_counts_as_edited(transplant, root):
    before = content(root)
    transplant(root)
    (root / SCALE).unlink()
    assert SCALE in transplant.refusal(root, "--revert")
    assert transplant(root, "--revert", "--force") == 0
    assert f"{SCALE}, which was gone, is there again" in transplant.out
    assert content(root) == before


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_something_else_in_the_place_of_our_file(transplant, root, kind):
    transplant(root)
    (root / FLIP).unlink()
    if kind == "folder":
        (root / FLIP).mkdir()
    else:
        (root / FLIP).symlink_to(root / SCALE)
    assert FLIP in transplant.refusal(root, "--revert")
    assert transplant(root, "--revert", "--force") == 0
    assert os.path.lexists(root / f"{FLIP}.edited") and not os.path.lexists(root / FLIP)


@pytest.mark.slow
def test_what_git_has_taken_back_is_no_edit(transplant, root):
    before = content(root)
    original = (root / SCALE).read_bytes()
    transplant(root)
    after = content(root)
    (root / SCALE).write_bytes(original)
    assert transplant(root) == 0
    assert "1 file renewed:\n  src/caffe/layers/scale_layer.cpp\n" in transplant.out
    assert content(root) == after
    (root / SCALE).write_bytes(original)
    (root / FLIP).unlink()
    assert transplant(root, "--revert") == 0
    assert content(root) == before


def test_an_edited_file_does_not_matter_where_nothing_new_comes(transplant, root):
    transplant(root)
    edit(root, PROTO)
    after = content(root)
    assert transplant(root) == 0
    assert f"{PROTO} was edited since the transplant; it is left as it is" in transplant.out
    assert "already there: nothing to do" in transplant.out
    assert content(root) == after


# Newer layers


@pytest.mark.slow
def test_newer_layers_replace_only_what_changed(transplant, root, tmp_path):
    before = content(root)
    transplant(root)
    times = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    newer_layers(transplant)
    assert transplant(root) == 0
    assert "2 files renewed:\n  src/caffe/layers/flip_layer.cpp\n  src/caffe/proto/caffe.proto\n" in transplant.out
    assert "4 files removed:\n  include/caffe/layers/face_accuracy_layer.hpp\n" in transplant.out
    assert "1 file restored:\n  src/caffe/layers/accuracy_layer.cpp\n" in transplant.out
    changed = {
        path.relative_to(root).as_posix()
        for path, time in times.items()
        if path.exists() and path.stat().st_mtime_ns != time
    }
    assert changed == {FLIP, PROTO, RECORD, "src/caffe/layers/accuracy_layer.cpp"}
    assert "optional bool more = 101;" in (root / PROTO).read_text()
    fresh = make(tmp_path / "fresh", trees.ssd())
    transplant(fresh)
    assert content(root) == content(fresh)  # as if the newer ones had been the first; the record too
    assert transplant(root, "--revert") == 0
    assert content(root) == before


def test_newer_layers_do_not_overwrite_an_edited_file(transplant, root):
    transplant(root)
    edit(root, FLIP)
    newer_layers(transplant)
    after = content(root)
    refusal = transplant.refusal(root)
    assert refusal.startswith(f"edited since the transplant: {root / FLIP}; undo the edits (originals are in")
    assert content(root) == after


def test_a_field_keeps_the_number_it_got_first(transplant, tmp_path):
    files = trees.bvlc()
    files[PROTO] = trees.with_fields(files[PROTO], "LayerParameter", "optional int32 mine = 212;")
    root = make(tmp_path / "tree", files)
    transplant(root)
    assert "flip_param = 307;" in (root / PROTO).read_text()
    proto = transplant.source / "proto/face_layers.proto"
    proto.write_text(proto.read_text().replace("label_specific_add_param = 241", "label_specific_add_param = 300"))
    assert transplant(root) == 0
    text = (root / PROTO).read_text()
    assert "flip_param = 307;" in text and "label_specific_add_param = 241;" in text


# Runs that end in the middle

OPERATIONS = [(os, name) for name in ("replace", "rename", "mkdir", "unlink", "rmdir")] + [(shutil, "rmtree")]


def ends_at(step: int, run) -> bool:
    """Run it in a process of its own that dies, without any clearing up, at the ``step``-th change of the disk."""
    child = os.fork()
    if not child:
        left = step

        def counted(function):
            def call(*arguments, **options):
                nonlocal left
                left -= 1
                if not left:
                    os._exit(9)
                return function(*arguments, **options)

            return call

        for module, name in OPERATIONS:
            setattr(module, name, counted(getattr(module, name)))
        try:
            os._exit(run())
        finally:
            os._exit(3)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


def fresh(root: Path, template: Path) -> None:
    shutil.rmtree(root)
    shutil.copytree(template, root, symlinks=True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("stage", ["transplant", "update", "revert"])
def test_a_killed_run_can_be_taken_back_and_finished(transplant, root, tmp_path, stage):
    before = content(root)
    if stage != "transplant":
        transplant(root)
    if stage == "update":
        newer_layers(transplant)
    template = tmp_path / "template"
    shutil.copytree(root, template)
    arguments = [str(root)] + (["--revert"] if stage == "revert" else [])

    def run() -> int:
        return trees.cli.main([*arguments, "--json"], transplant.source, transplant.tests)

    assert run() == 0
    done = content(root)
    step = 0
    while True:
        step += 1 if step < 12 else 12
        fresh(root, template)
        if not ends_at(step, run):
            break
        if stage != "revert" and step % 2:
            assert run() == 0
            assert content(root) == done, step
        nothing_left = not (root / ".face_layers").exists() and not (root / ".face_layers.tmp").exists()
        assert transplant(root, "--revert") == (2 if nothing_left else 0), transplant.error
        assert content(root) == before, step
    assert step > 10


class Breaks:
    """An os.replace that fails at a certain call."""

    def __init__(self, at: int, error: BaseException) -> None:
        self.left, self.error, self.replace = at, error, os.replace

    def __call__(self, source, target) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error
        self.replace(source, target)


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 9, 40])
@pytest.mark.parametrize(
    ("error", "code", "problem"),
    [
        (OSError(28, "No space left on device", "x"), 2, "x: No space left on device; the tree is as it was"),
        (KeyboardInterrupt(), 130, "interrupted; the tree is as it was"),
        (ValueError("bug"), 2, "unexpected ValueError: bug; --debug shows where"),
    ],
)
def test_a_failing_run_puts_the_tree_back(transplant, root, monkeypatch, at, error, code, problem):
    before = content(root)
    monkeypatch.setattr(os, "replace", Breaks(at, error))
    assert transplant(root) == code
    assert problem in transplant.error
    assert content(root) == before
    assert transplant(root) == 0
    after = content(root)
    newer_layers(transplant)
    monkeypatch.setattr(os, "replace", Breaks(min(at, 5), error))
    assert transplant(root) == code
    monkeypatch.undo()
    assert content(root) == after
    assert transplant(root, "--revert") == 0
    assert content(root) == before


def test_a_failing_revert_is_finished_by_the_next(transplant, root, monkeypatch):
    before = content(root)
    transplant(root)
    monkeypatch.setattr(os, "replace", Breaks(3, OSError(28, "No space left on device", "x")))
    assert transplant.refusal(root, "--revert") == (
        "x: No space left on device; run it again: it goes on where it stopped"
    )
    monkeypatch.undo()
    assert content(root) != before
    assert transplant(root, "--revert") == 0
    assert content(root) == before


def test_if_even_that_fails_the_way_out_is_named(transplant, root, monkeypatch):
    before = content(root)
    calls = 0
    replace = os.replace

    def full(source, target) -> None:
        nonlocal calls
        calls += 1
        if calls > 30:
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    refusal = transplant.refusal(root)
    assert "No space left on device" in refusal and refusal.endswith("free what is in the way and run --revert")
    monkeypatch.undo()
    assert transplant(root, "--revert") == 0
    assert content(root) == before


# Links, rights and records that are not what they were


@pytest.mark.parametrize("path", [PROTO, FILLER, SCALE])
def test_a_symbolic_link_is_not_written_through(transplant, root, tmp_path, path):
    outside = tmp_path / "outside"
    (root / path).rename(outside)
    (root / path).symlink_to(outside)
    before = content(root)
    assert transplant.refusal(root).startswith(f"{root / path} is a symbolic link; put the file itself there")
    assert content(root) == before


def test_a_folder_that_leads_out_of_the_tree_is_not_written_to(transplant, root, tmp_path):
    (root / "include/caffe/util").rename(tmp_path / "util")
    (root / "include/caffe/util").symlink_to(tmp_path / "util")
    assert "include/caffe/util leads out of its place by a symbolic link" in transplant.refusal(root)
    assert sorted(path.name for path in (tmp_path / "util").iterdir()) == ["math_functions.hpp"]


@pytest.mark.parametrize("path", ["src/caffe/layers", "include/caffe"])
def test_a_folder_of_sources_behind_a_link_is_named(transplant, root, tmp_path, path):
    """In the tree or out of it: nothing in it would be found."""
    (root / path).rename(root / "moved")
    (root / path).symlink_to(root / "moved")
    before = content(root)
    assert f"{root / path} is a symbolic link; put the folder itself there" in transplant.refusal(root)
    assert content(root) == before


def test_a_tree_behind_a_link_is_no_problem(transplant, root, tmp_path):
    link = tmp_path / "caffe"
    link.symlink_to(root)
    assert transplant(link) == 0
    assert transplant(f"{link}/", "--revert") == 0


def test_missing_folders_are_made_and_removed(transplant, root):
    for name in ("include/caffe/util", "src/caffe/util"):
        shutil.rmtree(root / name)
    before = content(root)
    assert transplant(root) == 0
    (root / "src/caffe/util/mine.cpp").write_text("")
    assert transplant(root, "--revert") == 0
    assert "the folder src/caffe/util stays: something else is in it" in transplant.out
    shutil.rmtree(root / "src/caffe/util")
    assert content(root) == before


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["", "include/caffe/layers"])
def test_a_tree_that_may_not_be_written_to(transplant, root, monkeypatch, folder):
    before = content(root)
    access = os.access
    denied = str(root / folder)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != denied and access(path, mode))
    assert transplant.refusal(root) == f"{denied} may not be written to; run this as its owner"
    assert transplant(root, "--dry-run") == 0
    assert content(root) == before
    monkeypatch.undo()
    assert transplant(root) == 0
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != denied)
    assert transplant.refusal(root, "--revert") == f"{denied} may not be written to; run this as its owner"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"path": "', '"path": "../', "is damaged (unexpected path '../"),
        ('"path": "', '"path": "/etc/', "is damaged (unexpected path '/etc/"),
        ('"path": "include', '"path": ".face_layers', "is damaged (unexpected path '.face_layers/"),
        ('"format": 1', '"format": 2', "has the format 2; use the transplant.py that wrote it"),
        ('"files"', '"other"', "is damaged ('files')"),
        ("{", "", "is damaged ("),
    ],
)
def test_a_damaged_record_is_refused(transplant, root, old, new, problem):
    transplant(root)
    text = (root / RECORD).read_text()
    (root / RECORD).write_text(text.replace(old, new))
    after = content(root)
    assert problem in transplant.refusal(root, "--revert")
    assert problem in transplant.refusal(root)
    assert content(root) == after


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["gone", "other"])
def test_a_damaged_copy_is_refused(transplant, root, damage):
    transplant(root)
    copy = root / ".face_layers/originals" / PROTO
    if damage == "gone":
        copy.unlink()
    else:
        copy.write_text("x")
    after = content(root)
    assert f"the copy of {PROTO} is missing or damaged" in transplant.refusal(root, "--revert")
    assert f"the copy of {PROTO} is missing or damaged" in transplant.refusal(root)
    assert content(root) == after


def test_a_folder_of_that_name_that_is_not_ours(transplant, root):
    (root / ".face_layers").mkdir()
    before = content(root)
    for arguments in ([], ["--revert"], ["--dry-run"]):
        assert "has no record.json: it is not transplant.py's or is damaged" in transplant.refusal(root, *arguments)
    assert content(root) == before


@pytest.mark.slow
def test_layers_without_their_record(transplant, root):
    transplant(root)
    shutil.rmtree(root / ".face_layers")
    after = content(root)
    assert transplant(root) == 0
    assert transplant.row("Flip")[1] == transplant.row("Scale")[1] == "kept: the tree's own"
    assert "what .face_layers knew of it is gone: --revert can't help" in transplant.out
    assert content(root) == after
    newer_layers(transplant)
    assert transplant(root, "--replace", "all") == 0
    assert transplant.row("Scale")[1] == "added in place of the tree's"
    assert "2 files changed:\n  src/caffe/layers/flip_layer.cpp\n  src/caffe/proto/caffe.proto\n" in transplant.out
    assert transplant(root, "--revert") == 0
    assert content(root) == after
