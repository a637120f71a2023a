"""Real Caffe as a backend of the check: the net's forward pass in a process of its own, every top of every layer.

Caffe ends the process when something does not suit it, pycaffe may be built for another Python, and its protobuf
must not meet the one of onnx. So ``_pycaffe_forward.py`` runs in the interpreter that pycaffe needs, files in a
temporary folder go in and come out, and what Caffe printed last becomes the error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import CaffeportError
from ..graph.layer import Layer
from ..graph.net import Net
from ..operators import builtin
from .job import Job, prepare

LOG_END = 4 << 20
"""Bytes of Caffe's output that are searched for its reasons."""


@dataclass(frozen=True)
class PyCaffe:
    """The place of real Caffe. ``path`` is what PYTHONPATH needs: the folder that holds the package ``caffe``."""

    path: str
    interpreter: str = sys.executable
    timeout: float = 600.0

    def __post_init__(self) -> None:
        folders = [Path(folder) for folder in self.path.split(os.pathsep) if folder]
        if any(map(_holds_caffe, folders)):
            return
        around = (folder / near for folder in folders for near in ("python", "caffe/python", ".."))
        near = next((folder.resolve() for folder in around if _holds_caffe(folder)), None)
        missing = next((folder for folder in folders if not folder.is_dir()), None)
        raise CaffeportError(
            f"--caffe-python {self.path}: "
            + (f"there is no folder {missing}" if missing else "holds no package caffe")
            + (f"; did you mean {near}?" if near else "; expected the folder python/ of a Caffe that is built with it")
        )


def wanted_caffe(
    asked: bool, path: str | Path | None, interpreter: str | Path = sys.executable, timeout: float = 600.0
) -> PyCaffe | None:
    """The Caffe to run, from check's options; None where it was not asked for."""
    if not asked:
        if path:
            raise CaffeportError(
                f"caffe_python ({path}) is given, but caffe is not among the backends: "
                'backends=("torch", "onnx", "caffe"), --backends torch,onnx,caffe'
            )
        return None
    path = path or os.environ.get("CAFFE_PYTHON")
    if not path:
        raise CaffeportError(
            'the backend "caffe" is a Caffe of your own: caffe_python="CAFFE_ROOT/python" (--caffe-python, or the '
            "environment's CAFFE_PYTHON) is the folder with its package caffe"
        )
    if not timeout > 0:
        raise CaffeportError(f"caffe_timeout is more than 0 seconds, got {timeout}")
    return PyCaffe(str(path), str(interpreter), timeout)


def _holds_caffe(folder: Path) -> bool:
    return (folder / "caffe" / "__init__.py").is_file()


@dataclass
class CaffeRun:
    """``blobs``: {Value key: array}, read from the disk when asked for. ``about``: what was run, for people.

    ``unlike``: (layer, blob index) of weights that Caffe reads otherwise from the user's file than from caffeport's.
    """

    blobs: Mapping[str, np.ndarray]
    about: str
    unlike: list[tuple[Layer, int]]


class _Stored(Mapping[str, np.ndarray]):
    def __init__(self, arrays: Any, keys: Mapping[str, str]) -> None:
        self._arrays, self._keys = arrays, keys

    def __getitem__(self, key: str) -> np.ndarray:
        return self._arrays[self._keys[key]]

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


@contextlib.contextmanager
def forward(
    net: Net, inputs: Mapping[str, np.ndarray], pycaffe: PyCaffe, *, training: bool = False
) -> Iterator[CaffeRun]:
    """Run the net in real Caffe, as in the TEST phase or, with ``training``, the TRAIN phase.

    Caffe gets the user's own files as long as they say what ``net`` does; else what caffeport would write. In
    either case it also loads the .caffemodel that caffeport writes. The result holds until the block ends.

    Raises CaffeportError, with Caffe's own words, where Caffe cannot be started or refuses the net.
    """
    with tempfile.TemporaryDirectory(prefix="caffeport-") as name:
        folder = Path(name)
        job = prepare(net, inputs, folder, training)
        result = _Process(net, pycaffe, folder, job).result()
        unlike = [(job.layers[layer], index) for layer, index in result["differ"]]
        about = f"Caffe {result['version']} ran ".replace("  ", " ") + f"{job.text_name} with {job.weights_name}"
        if job.users_weights:
            about += f", {'but reads other' if unlike else 'and reads the same'} weights from caffeport's .caffemodel"
        with np.load(folder / "tops.npz", allow_pickle=False) as arrays:
            yield CaffeRun(_Stored(arrays, job.keys), about, unlike)


@dataclass
class _Process:
    """One run of the script, and the words for whatever ends it."""

    net: Net
    pycaffe: PyCaffe
    folder: Path
    job: Job
    log: str = field(default="", init=False)

    def result(self) -> dict[str, Any]:
        code = self._run()
        result = None
        with contextlib.suppress(OSError, ValueError):  # not written, or not to its end
            result = json.loads((self.folder / "result.json").read_text())
        if result is None:
            self._died(code)
        if "error" in result:
            self._refused(result)
        return result

    def _run(self) -> int:
        old = os.environ.get("PYTHONPATH")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([self.pycaffe.path, *([old] if old else [])]),
            "PYTHONDONTWRITEBYTECODE": "1",
            # All of it, into our file: its notes tell which layer was being set up when an error came.
            "GLOG_minloglevel": "0",
            "GLOG_logtostderr": "1",
        }
        command = [self.pycaffe.interpreter, str(self.folder / "forward.py"), str(self.folder)]
        with open(self.folder / "log", "w+b") as log:
            try:
                process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise CaffeportError(
                    f"{self.pycaffe.interpreter}: cannot be started: {error.strerror or error}; --caffe-interpreter "
                    "expects the Python that pycaffe was built for"
                ) from error
            code = None
            try:
                code = process.wait(self.pycaffe.timeout)
            except subprocess.TimeoutExpired:
                pass
            finally:  # Ctrl-C passes here too
                _end(process)
            if code is not None and code > 128:  # as a shell script tells of a signal
                code = 128 - code
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_END))
            self.log = log.read().decode("utf-8", "replace")
        if code is None:
            raise CaffeportError(
                f"Caffe did not end within {self.pycaffe.timeout:g} s, {self._when() or 'before it began'}; "
                "--caffe-timeout sets another limit"
            )
        return code

    def _stage(self) -> tuple[str, int]:
        marks = re.findall(r"^@caffeport (\w+) (-?\d+)$", self.log, re.MULTILINE)
        return (marks[-1][0], int(marks[-1][1])) if marks else ("start", 0)

    def _when(self) -> str:
        """Return what was going on, with the layer if it is known."""
        stage, number = self._stage()
        if stage == "net":
            created = re.findall(r"\] Creating Layer (.*)$", self.log, re.MULTILINE)
            return f"when setting up {self._title(created[-1])}" if created else "when building the net"
        if stage == "weights":
            return f"when loading {Path(self.job.content['weights'][number]).name}"
        if stage == "layer":
            return f"when running {self.job.layers[number].title}" if number >= 0 else "when running a split"
        return {"reshape": "when setting the shapes of the inputs", "import": "when importing caffe"}.get(stage, "")

    def _title(self, name: str) -> str:
        return next((layer.title for layer in self.net.layers if layer.name == name), f'layer "{name}"')

    def _died(self, code: int) -> NoReturn:
        reason = fatal_message(self.log)
        unknown = re.search(r"Unknown layer type: (\S+)", reason)
        if unknown:
            self._lacks_type(unknown.group(1))
        if "Error parsing text-format" in self.log:
            self._cannot_parse(re.findall(r"Error parsing text-format \S+: (.*)", self.log)[-1])
        if "bad_alloc" in self.log or _how(code) == "by SIGKILL":  # the kernel's, where memory is short
            raise CaffeportError(f"Caffe ran out of memory {self._when()}; check with a smaller batch or input")
        if reason:
            raise CaffeportError(
                f"Caffe refuses this net {self._when()}: {reason}; use the fork that the net was made for, or leave "
                "caffe out of the backends"
            )
        way_out = {
            "start": "; --caffe-interpreter expects Python 3.6 or newer",
            "import": "; --caffe-interpreter names the Python that pycaffe was built for",
        }.get(self._stage()[0], "")
        what = (
            f"Caffe ended {_how(code)} {self._when()}"
            if self._when()
            else f"{self.pycaffe.interpreter} ended {_how(code)}"
        )
        raise CaffeportError(f"{what}{_last_words(self.log)}{way_out}")

    def _lacks_type(self, kind: str) -> NoReturn:
        layer = next((layer for layer in self.net.layers if layer.type == kind), None)
        ours = kind in builtin() and builtin()[kind].__module__.startswith("caffeport.operators.face")
        way_out = (
            "caffe_layers/transplant.py puts the face layers into a Caffe tree, which is then built again"
            if ours
            else "use the fork that has it, or leave caffe out of the backends"
        )
        raise CaffeportError(f'{layer.title if layer else kind}: this Caffe has no layer type "{kind}"; {way_out}')

    def _cannot_parse(self, reason: str) -> NoReturn:
        way_out = ""
        if "no field named" in reason:
            way_out = (
                "; its caffe.proto lacks that: use the fork that has it, or, for the face layers' fields, put them in "
                "with caffe_layers/transplant.py"
            )
        raise CaffeportError(f"Caffe cannot parse {self.job.text_name}: {reason.rstrip('.')}{way_out}")

    def _refused(self, result: dict[str, Any]) -> NoReturn:
        error = result["error"]
        if result["kind"] == "memory":
            raise CaffeportError(f"Caffe ran out of memory {self._when()}; check with a smaller batch or input")
        if result["kind"] == "import" and self._stage()[0] in ("start", "import"):
            self._not_imported(error, result["module"], result["python"])
        raise CaffeportError(f"Caffe failed {self._when()}: {error}")

    def _not_imported(self, error: str, module: str, python: str) -> NoReturn:
        who = f"{self.pycaffe.interpreter} (Python {python})"
        if module.partition(".")[0] in ("numpy", "google"):
            package = "protobuf" if module.startswith("google") else "numpy"
            way_out = f"install {package} for that Python, or name another with --caffe-interpreter"
        elif "_caffe" in error:
            way_out = "build it for that Python (make pycaffe), or name the Python it is built for: --caffe-interpreter"
        elif ".so" in error:
            way_out = "LD_LIBRARY_PATH has to hold the folders of the libraries that Caffe was built with"
        else:
            way_out = "--caffe-interpreter names the Python that pycaffe was built for"
        raise CaffeportError(f"{who} cannot import caffe from {self.pycaffe.path}: {error}; {way_out}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what still runs, whatever the interpreter may have started included."""
    if process.poll() is None:
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()


_FATAL = re.compile(r"^F\d{4,8} [\d:.]+ +\d+ [^\]]+\] (.*)")


def fatal_message(log: str) -> str:
    """Return what Caffe's LOG(FATAL) or CHECK said, in one line; "" if it said nothing."""
    said: list[str] = []
    for line in log.splitlines():
        start = _FATAL.match(line)
        if start and not said:
            said.append(start.group(1))
        elif said and (line.startswith(("***", "    @", "@caffeport")) or _FATAL.match(line)):
            break
        elif said:
            said.append(line)
    return " ".join(" ".join(said).split()).rstrip(".")


def _how(code: int) -> str:
    if code >= 0:
        return f"with exit code {code} and without a result"
    try:
        return f"by {signal.Signals(-code).name}"
    except ValueError:
        return f"by signal {-code}"


def _last_words(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    lines = [line for line in lines if not re.match(r"@|I\d{4,8} ", line)]  # marks, traces, Caffe's own notes
    return f": {lines[-1]}" if lines else ""
