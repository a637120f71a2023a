"""Commands that are ended from outside: one line, the signal's exit code, nothing left behind, or removed later."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from caffeport import leftovers
from caffeport.files import replacing_path
from support import nets
from support.signals import as_from_a_terminal

ROOT = Path(__file__).parents[2]
SLOW = """
import os
import time

from caffeport import Operator, layer_type


@layer_type("Unused")
class Unused(Operator):
    pass


def wait(*names):
    print("writing", flush=True)
    time.sleep(60)


os.replace = wait
"""
"""A file of --layers that stops every writing before the rename."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sends signals and locks files as Linux does")


@pytest.fixture
def folder(tmp_path) -> Path:
    net = nets.load(tmp_path, nets.inputs(data=(1, 2, 5, 5)) + nets.conv("data", "c", 2))
    net.save(tmp_path / "net.caffemodel")
    (tmp_path / "slow.py").write_text(SLOW)
    return tmp_path


def converting(folder: Path, ignored: Sequence[str] = ()) -> subprocess.Popen:
    """Start a conversion, and wait until its file lies beside its target."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "converter"), str(ROOT / "python")])}
    arguments = ["net.prototxt", "net.caffemodel", "--onnx", "net.onnx", "--layers", "slow.py"]
    process = subprocess.Popen(
        as_from_a_terminal([sys.executable, "-m", "caffeport", "convert", *arguments], ignored),
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n", process.communicate(timeout=60)
    return process


def remains(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == leftovers.SUFFIX)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "the terminal is gone"),
    ],
)
def test_a_signal_ends_it_in_a_line_and_takes_its_file_along(folder, number, code, words):
    (folder / "net.onnx").write_bytes(b"old")
    process = converting(folder)
    assert len(remains(folder)) == 1
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == code
    assert told.splitlines()[-1] == f"caffeport: error: {words}" and "Traceback" not in told
    assert not remains(folder) and (folder / "net.onnx").read_bytes() == b"old"


@pytest.mark.slow
def test_a_hangup_that_is_ignored_goes_on_being_so(folder):
    process = converting(folder, ["SIGHUP"])
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143


@pytest.mark.slow
def test_what_a_kill_left_is_removed_by_the_next_run(folder, monkeypatch):
    process = converting(folder)
    (left,) = remains(folder)
    process.kill()
    process.communicate(timeout=60)
    assert remains(folder) == [left]
    monkeypatch.setattr(leftovers, "_cleaned", set())
    with replacing_path(folder / "other.txt"):
        assert left in remains(folder)  # it is young: its process might not have locked it yet
    monkeypatch.setattr(leftovers, "_cleaned", set())
    os.utime(folder / left, (time.time() - 60,) * 2)
    with replacing_path(folder / "other.txt"):
        assert left not in remains(folder)


@pytest.mark.slow
def test_files_that_are_written_or_are_none_of_ours_stay(folder, monkeypatch):
    old = (time.time() - 60,) * 2
    others = (".mine.abc.part", "mine.abcdefgh.part")
    for name in others:
        (folder / name).write_text("mine")
        os.utime(folder / name, old)
    (folder / ".link.abcdefgh.part").symlink_to("net.prototxt")
    process = converting(folder)
    (held,) = set(remains(folder)) - {*others, ".link.abcdefgh.part"}
    os.utime(folder / held, old)
    monkeypatch.setattr(leftovers, "_cleaned", set())
    with replacing_path(folder / "other.txt") as own:
        os.utime(own, old)
        monkeypatch.setattr(leftovers, "_cleaned", set())
        leftovers.remove_leftovers(folder)
        assert set(remains(folder)) == {*others, ".link.abcdefgh.part", held, own.name}
    process.kill()
    process.communicate(timeout=60)


def test_ctrl_c_while_a_command_is_loaded(tmp_path):
    (tmp_path / "numpy.py").write_text("raise KeyboardInterrupt\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "python")])}
    done = subprocess.run([sys.executable, "-m", "normface", "--help"], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "normface: error: interrupted\n")


@pytest.mark.parametrize("program", ["caffeport", "normface"])
def test_ctrl_c_while_the_package_is_imported(tmp_path, program):
    """A NumPy that interrupts its own import stands for a user who is quick."""
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(5)\nraise SystemExit(0)"
    )
    paths = [str(tmp_path), str(ROOT / "converter"), str(ROOT / "python")]
    done = subprocess.run(
        as_from_a_terminal([sys.executable, "-m", program, "train" if program == "normface" else "show", "x"]),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{program}: error: interrupted\n")


def test_other_programs_keep_their_ctrl_c(tmp_path):
    code = "import signal, caffeport; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "converter")}
    command = as_from_a_terminal([sys.executable, "-c", code])
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
