"""The habits of the command line of caffeport: no abbreviations, "did you mean", examples, shared arguments."""

from __future__ import annotations

import argparse
import re
import shlex
import sys

import pytest
from caffeport.cli import arguments
from caffeport.cli.main import main, parser
from caffeport.cli.parser import OneLineParser
from support import nets

COMMANDS = ("show", "convert", "check", "zoo")


def said(capsys, line: str) -> tuple[int, str, str]:
    try:
        code = main(shlex.split(line))
    except SystemExit as stopped:
        code = stopped.code
    printed = capsys.readouterr()
    return code, printed.out, printed.err


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("sho net", "argument COMMAND: invalid choice: 'sho' (did you mean \"show\"?)"),
        ("show net --jsn", 'unrecognized arguments: --jsn (did you mean "--json"?); see caffeport show --help'),
        ("convert net --onx f.onnx", '--onx (did you mean "--onnx"?); see caffeport convert --help'),
        ("convert net w --opse 13", '--opse (did you mean "--opset"?)'),  # an abbreviation
        ("convert net w --opse=13", '--opse (did you mean "--opset"?)'),
        ("check net --phase tests", "--phase: invalid choice: 'tests' (did you mean \"test\"?)"),
        ("check net w more", "unrecognized arguments: more; see caffeport check --help"),
        ("check net -v", "unrecognized arguments: -v; see caffeport check --help"),
        ("--json show net", "unrecognized arguments: --json; see caffeport --help"),
        ("check net --rtol nan", "argument --rtol: expected a finite number, got 'nan'"),
        ("check net --atol inf", "argument --atol: expected a finite number, got 'inf'"),
        ("check net --caffe-timeout inf", "argument --caffe-timeout: expected a finite number"),
        ("convert net w --scale -inf", "argument --scale: expected one argument"),
        ("convert net w --scale=-inf", "argument --scale: expected a finite number, got '-inf'"),
        ("convert net w --mean nan", "--mean expects numbers or a .binaryproto/.npy file, got nan"),
        ("convert net w --mean 1 -inf 3", "got 1 -inf 3"),
        ("convert net w --mean", "argument --mean: expected one argument"),
    ],
)
def test_one_line_of_the_right_command(capsys, line, problem):
    code, out, err = said(capsys, line)
    assert (code, out) == (2, "")
    assert err.startswith("caffeport: error: ") and err.count("\n") == 1
    assert problem in err


def test_means_are_read_in_one_word_or_several():
    for words in (
        "--mean 104 117 123 net w",
        "net --mean 104 117,123 w",
        "net w --mean 104,117,123",
        "net --mean=104,117,123 w",
    ):
        options = parser().parse_args(["convert", *words.split()])
        assert (options.mean, str(options.net), str(options.weights)) == ([104, 117, 123], "net", "w")
    options = parser().parse_args(
        ["convert", "--mean", "104", "-117", "1e2", "net.prototxt", "w.caffemodel", "--onnx", "f.onnx"]
    )
    assert (options.mean, str(options.net), str(options.weights)) == ([104, -117, 100], "net.prototxt", "w.caffemodel")
    options = parser().parse_args(["convert", "n", "w", "--mean", "mean.npy", "--onnx", "f.onnx"])
    assert str(options.mean) == "mean.npy"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_examples_of_the_help_are_true(command, capsys):
    code, out, _ = said(capsys, f"{command} --help")
    examples = out.partition("\nexamples:\n")[2].splitlines()
    assert code == 0 and len(examples) >= 3
    for example in examples:
        program, *words = shlex.split(example)
        assert (program, words[0]) == ("caffeport", command)
        parser().parse_args(words)


def test_quiet_says_nothing_of_what_was_written(tmp_path, capsys):
    net = nets.load(tmp_path, nets.SMALL)
    net.save(tmp_path / "net.caffemodel")
    files = f"{tmp_path}/net.prototxt {tmp_path}/net.caffemodel"
    assert said(capsys, f"convert {files} --onnx {tmp_path}/n.onnx --quiet") == (0, "", "")
    assert (tmp_path / "n.onnx").is_file()
    assert "1,104 parameters" in said(capsys, f"show {files} --quiet")[1]
    text = (
        'layer { name: "mnist" type: "Data" top: "data" data_param { source: "mnist_lmdb" batch_size: 4 } }'
        + nets.conv("data", "c", 2)
    )
    guessed = nets.write(tmp_path, text, "train.prototxt")
    assert "caffeport: note" in said(capsys, f"show {guessed}")[2]
    assert said(capsys, f"show {guessed} --quiet")[2] == ""


def test_a_net_and_weights_that_changed_places(tmp_path, capsys):
    net = nets.load(tmp_path, nets.SMALL)
    net.save(tmp_path / "weights.bin")
    text, weights = tmp_path / "net.prototxt", tmp_path / "weights.bin"
    for line in (f"show {weights} {text}", f"convert {weights} {text} --onnx {tmp_path}/n.onnx"):
        code, _, err = said(capsys, line)
        assert code == 2
        assert f"NET and WEIGHTS have changed places, so give {text} {weights}" in err


class TestParser:
    def make(self) -> OneLineParser:
        made = OneLineParser(prog="tool")
        made.add_place("net", "--net", metavar="NET", help="")
        made.add_place("weights", "--weights", metavar="WEIGHTS", help="")
        made.add_argument("--set", action="append", metavar="K=V")
        made.add_argument("--number")
        made.add_argument("--bad-image", choices=("stop", "skip"))
        made.add_alias("--bad-picture", "--bad-image")
        made.take_tables("--set")
        made.take_numbers("--number")
        return made

    @pytest.mark.parametrize(
        "line",
        [
            "n w",
            "--net n --weights w",
            "--weights w n",
            "--weights=w --net=n",
            "n --bad-image stop w",
            "--bad-picture stop n w",
            "--net n w",
            "--set a=1 b=2 n.p w.c",
            "--number 1 2 n.p w.c",
        ],
    )
    def test_a_model_by_place_or_by_name(self, line):
        options = self.make().parse_args(line.split())
        assert [str(options.net)[0], str(options.weights)[0]] == ["n", "w"]

    def test_tables_and_aliases(self):
        options = self.make().parse_args(["n", "--set", "a=1", "b=x.y", "--bad-picture=skip", "--set", "c=3", "w"])
        assert (options.set, options.bad_image) == (["a=1", "b=x.y", "c=3"], "skip")
        assert (str(options.net), str(options.weights)) == ("n", "w")

    @pytest.mark.parametrize(
        ("line", "files"),
        [
            ("--files a.bin b.bin n.p w.c", ["a.bin", "b.bin"]),
            ("n.p --files a.bin w.c", ["a.bin"]),
            ("--files x/y n.p w.c", ["x/y"]),
            ("--files=a.bin --files b.bin n.p w.c", ["a.bin", "b.bin"]),
            ("n.p w.c --files a.bin b.bin --set a=1", ["a.bin", "b.bin"]),
        ],
    )
    def test_files_of_one_ending_in_several_words(self, line, files):
        made = self.make()
        made.add_argument("--files", action="append")
        made.take_files("--files", ".bin")
        options = made.parse_args(line.split())
        assert options.files == files and (str(options.net), str(options.weights)) == ("n.p", "w.c")

    def test_an_option_of_files_without_any(self, capsys):
        made = self.make()
        made.add_argument("--files", action="append")
        made.take_files("--files", ".bin")
        with pytest.raises(SystemExit):
            made.parse_args(["--files"])
        assert "--files: expected one argument" in capsys.readouterr().err

    def test_a_value_after_two_dashes(self):
        assert str(self.make().parse_args(["--", "--net"]).net) == "--net"

    def test_too_many(self, capsys):
        with pytest.raises(SystemExit):
            self.make().parse_args(["n", "w", "x"])
        assert capsys.readouterr().err == "tool: error: unrecognized arguments: x; see tool --help\n"

    def test_old_names_are_not_shown(self):
        shown = self.make().format_help()
        assert "--bad-image" in shown
        assert not re.search(r"--(bad-picture|net|weights)", shown)


@pytest.mark.parametrize(("text", "wanted"), [("112x96", (112, 96)), ("1X2", (1, 2))])
def test_sizes(text, wanted):
    assert arguments.size(text) == wanted


@pytest.mark.parametrize("text", ["", "112", "112x", "x96", "-1x2", "0x5", "1.5x2", "1x2x3", "\u0661x2", "nan"])
def test_no_sizes(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected HxW"):
        arguments.size(text)


@pytest.mark.parametrize("text", ["cpu", "cuda", "cuda:0", "cuda:12"])
def test_devices(text):
    assert arguments.device(text) == text


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:-1", "CPU", "cuda:x", ""])
def test_no_devices(text):
    with pytest.raises(argparse.ArgumentTypeError, match="cannot be used; expected cpu, cuda or cuda:N"):
        arguments.device(text)


class TestCompletion:
    def test_without_the_library(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "shtab", None)
        code, _, err = said(capsys, "--print-completion bash")
        assert code == 2 and "pip install shtab" in err and err.count("\n") == 1

    @pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
    def test_every_command_is_completed(self, capsys, shell):
        pytest.importorskip("shtab", reason="shtab is not installed")
        code, out, _ = said(capsys, f"--print-completion {shell}")
        assert code == 0
        assert all(command in out for command in COMMANDS) and "no-dynamic-batch" in out
