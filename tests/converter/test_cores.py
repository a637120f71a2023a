"""How many cores are used: those that the process may run on, not those of the machine; and work on all of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from caffeport import cores

REPOSITORY = Path(__file__).resolve().parents[2]
needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity (Linux)")


def pinned(code: str) -> str:
    """Return what ``code`` prints in a process that may use one core."""
    pin = "import os\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", pin + code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
@needs_affinity
def test_affinity_counts():
    assert cores.usable_cores() == len(os.sched_getaffinity(0))
    assert pinned("from caffeport.cores import usable_cores; print(usable_cores())") == "1"


@pytest.mark.slow
@needs_affinity
def test_runtime_starts_no_thread_beyond_them():
    """ONNX Runtime left alone starts a thread for every core of the machine, which shows where there are several."""
    code = """
import os, pathlib, tempfile
import caffeport, numpy, onnxruntime
from caffeport.parity.backends import run_onnx
text = 'name: "n" input: "x" input_shape { dim: 1 dim: 3 } layer { name: "r" type: "ReLU" bottom: "x" top: "y" }'
path = pathlib.Path(tempfile.mkdtemp()) / "n.prototxt"
path.write_text(text)
net = caffeport.load(path)
before = len(os.listdir("/proc/self/task"))
started = []
session = onnxruntime.InferenceSession
def counted(*arguments, **options):
    made = session(*arguments, **options)
    started.append(len(os.listdir("/proc/self/task")) - before)
    return made
onnxruntime.InferenceSession = counted
run_onnx(net, {"x": numpy.ones((1, 3), numpy.float32)}, list(net.output_values), False)
print(started)
"""
    assert pinned(code) == "[0]"


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"process_cpu_count": lambda: 3, "sched_getaffinity": lambda _: {0}}, 3),  # Python 3.13
        ({"process_cpu_count": lambda: None}, 1),
        ({"sched_getaffinity": lambda _: {4, 7}, "cpu_count": lambda: 64}, 2),
        ({"cpu_count": lambda: 5}, 5),  # macOS, Windows
        ({"cpu_count": lambda: None}, 1),
    ],
)
def test_by_what_the_system_has(monkeypatch, has, expected):
    for name in ("process_cpu_count", "sched_getaffinity", "cpu_count"):
        monkeypatch.delattr(os, name, raising=False)
    for name, function in has.items():
        monkeypatch.setattr(os, name, function, raising=False)
    assert cores.usable_cores() == expected


def test_nothing_counts_the_machines_cores():
    """One function knows how many threads to start; os.cpu_count() anywhere else ignores the affinity."""
    counting = re.compile(r"cpu_count\(")
    allowed = {REPOSITORY / "converter" / "caffeport" / "cores.py", Path(__file__).resolve()}
    listed = subprocess.run(["git", "ls-files", "-z", "*.py"], cwd=REPOSITORY, capture_output=True, check=True)
    sources = {REPOSITORY / os.fsdecode(name) for name in listed.stdout.split(b"\0") if name} - allowed
    assert sources
    assert [path for path in sources if path.is_file() and counting.search(path.read_text("utf-8"))] == []


def test_what_all_cores_make_comes_in_the_order_of_the_items(monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 3)
    threads = set()

    def late(item: int) -> int:
        threads.add(threading.current_thread())
        time.sleep(0.02 if item == 0 else 0)  # the others are done before
        return item * item

    with cores.on_all_cores(True) as each:
        assert list(each(late, range(100))) == [item * item for item in range(100)]
    assert threading.main_thread() not in threads and len(threads) > 1
    with cores.on_all_cores(False) as each:
        assert each is map
    monkeypatch.setattr(cores, "usable_cores", lambda: 1)
    with cores.on_all_cores(True) as each:
        assert each is map


def test_the_first_error_is_the_first_items_and_stops_the_threads(monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    before = threading.active_count()
    later = threading.Event()
    calls = []

    def failing(item: int) -> None:
        calls.append(item)
        if item == 40:
            later.set()
            raise ValueError("a later item")
        if item == 3:
            assert later.wait(10)  # the later one fails first, in the other thread
            raise ValueError("the first item")
        time.sleep(0.001)

    with pytest.raises(ValueError, match="the first item"), cores.on_all_cores(True) as each:
        list(each(failing, range(100_000)))
    assert threading.active_count() == before
    assert len(calls) < 10_000


def test_ctrl_c_leaves_no_thread_behind(monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    before = threading.active_count()
    calls = []
    with pytest.raises(KeyboardInterrupt), cores.on_all_cores(True) as each:
        for _ in each(lambda item: (calls.append(item), time.sleep(0.001)), range(100_000)):
            raise KeyboardInterrupt
    assert threading.active_count() == before
    assert len(calls) < 10_000
