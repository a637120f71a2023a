"""The habits of the command line of normface: a model by place, checks before torch, help that is true."""

from __future__ import annotations

import shlex
import subprocess
import sys

import cv2
import numpy as np
import pytest
from normface.cli.main import COMMANDS, main, parser
from normface.finetune import Config
from normface.loss_names import NAMES
from normface.losses import LOSSES
from support.command_line import refused, said
from support.digit_images import NET, WEIGHTS, flags, write_digits
from support.linear_faces import HEIGHT, WIDTH, linear_faces

PROTOCOLS = ("lfw", "blufr", "ytf", "bin")


def parsed(line: str):
    words = shlex.split(line)
    return parser(words[:1]).parse_args(words)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("finetun", "argument COMMAND: invalid choice: 'finetun' (did you mean \"finetune\"?)"),
        ("finetune n w --embeding fc5", '--embeding (did you mean "--embedding"?); see normface finetune --help'),
        ("finetune n w --embed fc5", 'unrecognized arguments: --embed (did you mean "--embedding"?)'),
        ("finetune n w x", "unrecognized arguments: x; see normface finetune --help"),
        ("extract m.onnx --dta d", 'unrecognized arguments: --dta (did you mean "--data"?)'),
        ("extract --data d --out f.npz", "the following arguments are required: MODEL; see normface extract --help"),
        ("extract m --data d --out f.npz --preset normfac", "invalid choice: 'normfac' (did you mean \"normface\"?)"),
        ("extract m --data d --out f.npz --mean 1,nan", '--mean "1,nan": expected a number'),
        ("extract m --data d --out f.npz --mean=-inf", '--mean "-inf": expected a number'),
        ("extract m --data d --out f.npz --scale nan", "argument --scale: expected a finite number, got 'nan'"),
        ("extract m --data d --out f.npz --size 0x9", '--size "0x9": expected HxW, both 1 or more'),
        ("extract m --data d --out f.npz --device gpu", "invalid choice: 'gpu' (did you mean \"cpu\"?)"),
        ("compare a b m --far nan", "argument --far: expected a finite number"),
        ("compare a b m --threshold inf", "argument --threshold: expected a finite number"),
        ("search a m.onnx --gallery g --min-size inf", "argument --min-size: expected a finite number"),
        ("align a --out d --factor nan", "argument --factor: expected a finite number"),
        ("align a --out d --size 112", '--size "112": expected HxW, such as 112x96'),
        (
            "evaluate lfw --pair p",
            'unrecognized arguments: --pair (did you mean "--pairs"?); see normface evaluate lfw',
        ),
        ("evaluate lfv --pairs p", "argument PROTOCOL: invalid choice: 'lfv' (did you mean \"lfw\"?)"),
        ("evaluate ytf --splits s --svm-cost nan", "argument --svm-cost: expected a finite number"),
        ("experiment toy", "python -m experiments NAME, from a clone"),
        ("experiment --help", "python -m experiments NAME, from a clone"),
    ],
)
def test_one_line_of_the_right_command(capsys, line, problem):
    assert problem in refused(capsys, *shlex.split(line))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("finetune --preset bogus", "--preset: "),
        ("finetune --loss am-sofmax", 'did you mean "am-softmax"'),
        ("finetune n w --embedding fc5 --data d --out o", "--net n: no such file"),
        ("finetune w.caffemodel n --scale nan", "--scale: expected a number"),
        ("finetune --device gpu", '--device: "gpu" is unknown'),
        ("finetune --config none.toml", "none.toml: No such file"),
        ("train --solver none.prototxt", "none.prototxt: No such file"),
        ("train --solver /dev/null --device gpu", 'device "gpu" cannot be used'),
        ("extract m --data d --out f.npz --preset bogus", "invalid choice: 'bogus'"),
    ],
)
def test_wrong_arguments_are_told_before_torch_is_imported(line, problem):
    code = (
        "import sys\nfrom normface.cli.main import main\n"
        f"try: code = main({shlex.split(line)!r})\nexcept SystemExit as stop: code = stop.code\n"
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2 False"
    assert problem in done.stderr and done.stderr.count("\n") == 1


def test_the_names_of_losses_are_those_of_the_losses():
    assert tuple(LOSSES) == NAMES


@pytest.mark.parametrize("command", [*(name for name in COMMANDS), *(f"evaluate {protocol}" for protocol in PROTOCOLS)])
def test_the_examples_of_the_help_are_true(command, capsys):
    """Each is taken by the parser; what finetune reads itself makes settings."""
    code, out, _ = said(capsys, *command.split(), "--help")
    examples = out.partition("\nexamples:\n")[2].splitlines()
    assert code == 0 and len(examples) >= 3
    assert out.startswith(f"usage: normface {command} [-h]")
    for example in examples:
        assert example.strip().startswith(f"normface {command}")
        options = parsed(example.strip().removeprefix("normface "))
        if command == "finetune":
            given = {name: getattr(options, name) for name in Config.__dataclass_fields__}
            try:
                Config.from_settings({name: value for name, value in given.items() if value is not None})
            except Exception as error:  # its files are not here
                problems = str(error).partition("problems: ")[2].split("; ") or [str(error)]
                assert all("no such file" in one or "is needed" in one for one in problems)


def test_old_names_are_taken_and_not_shown(capsys):
    shown = said(capsys, "finetune", "--help")[1]
    assert "--on-bad-image" in shown and "[NET] [WEIGHTS]" in shown
    assert not any(f"{old} " in shown for old in ("--net", "--weights", "--on-bad-picture", "--loss-options"))
    earlier = "--net n --weights w --on-bad-picture skip --val-pictures 9 --loss-options margin=1 scale=2"
    options = parsed(f"finetune {earlier}")
    assert (str(options.net), str(options.weights)) == ("n", "w")
    assert (options.on_bad_image, options.val_images) == ("skip", "9")
    assert options.loss_options == ["margin=1", "scale=2"]
    for line in ("extract --model m --weights w --data d --out f.npz", "evaluate lfw --model m --weights w --pairs p"):
        options = parsed(line)
        assert (str(options.model), str(options.weights)) == ("m", "w")


@pytest.mark.parametrize(
    "line",
    [
        "finetune n w --mean 104 117 123 --loss-option margin=0.35 scale=30",
        "finetune --mean 104 117 123 --loss-option margin=0.35 scale=30 ./n ./w",
        "finetune n --mean 104,117,123 w --loss-option margin=0.35 --loss-option scale=30",
    ],
)
def test_finetune_takes_the_model_by_place(line):
    options = parsed(line)
    assert (str(options.net), str(options.weights)) == ("n", "w")
    config = Config.from_settings({"mean": options.mean, "loss_options": options.loss_options, **NEEDED})
    assert (config.mean, config.loss_options) == ((104, 117, 123), {"margin": 0.35, "scale": 30})


NEEDED = {"net": NET, "weights": WEIGHTS, "data": NET.parent, "embedding": "fc5", "out": "o", "loss": "am-softmax"}


@pytest.mark.slow
def test_a_run_by_place_with_a_config(tmp_path, capsys):
    """The model by place wins over the file's; the files that are written name it."""
    data = write_digits(tmp_path / "data", range(4), 4)
    (tmp_path / "c.toml").write_text('net = "no.prototxt"\nsteps = 1\nval-share = 0\n')
    words = flags(data, tmp_path / "out", "--config", str(tmp_path / "c.toml"), "--quiet")
    start = words.index("--net")
    words[start : start + 4] = [str(NET), str(WEIGHTS)]
    assert main(words) == 0
    assert capsys.readouterr().err == ""
    assert f'net = "{NET}"' in (tmp_path / "out" / "config.toml").read_text()


def test_a_net_and_weights_that_changed_places(capsys, tmp_path):
    advice = f"NET and WEIGHTS have changed places, so give {NET} {WEIGHTS}"
    assert advice in refused(capsys, "finetune", WEIGHTS, NET, "--data", tmp_path)
    assert advice in refused(capsys, "extract", WEIGHTS, NET, "--data", tmp_path, "--out", tmp_path / "f.npz")


class TestPhotosAndModels:
    @pytest.fixture
    def net(self, tmp_path):
        for number in range(2):
            face = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            (tmp_path / "known").mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / "known" / f"{number}.png"), face)
        return linear_faces(tmp_path)

    @pytest.mark.slow
    def test_the_same_answers_by_place_and_by_name(self, net, tmp_path, capsys):
        faces = [tmp_path / "known" / f"{number}.png" for number in range(2)]
        named = ("--model", net.prototxt, "--weights", net.caffemodel)
        placed = (net.prototxt, net.caffemodel)
        options = ("--mean", "128", "--aligned", "--json")
        verdicts = [said(capsys, "compare", *faces, *model, "--threshold", "0", *options) for model in (named, placed)]
        assert verdicts[0] == verdicts[1] and verdicts[0][0] == 0 and '"cosine"' in verdicts[0][1]
        gallery = ("--gallery", tmp_path / "g.npz")
        call = ("extract", *placed, "--data", tmp_path / "known", "--out", gallery[1], "--mean", "128", "--quiet")
        assert said(capsys, *call, "--mirror", "sum") == (0, "", "")
        answers = [
            said(capsys, "search", *words, *gallery, *options)
            for words in ((*faces, *named), (*faces, *placed), (*named, *faces))
        ]
        assert answers[0] == answers[1] == answers[2] and answers[0][0] == 0
        assert answers[0][1].count('"photo"') == 2

    def test_a_model_without_photos(self, net, tmp_path, capsys):
        np.savez(tmp_path / "g.npz", features=np.ones((1, 5), np.float32), names=np.array(["x"]))
        for words in ((net.prototxt, net.caffemodel), ("face.onnx",)):
            line = refused(capsys, "search", *words, "--gallery", tmp_path / "g.npz")
            assert f"{words[0]}: is a model; the photos to look for stand before it" in line


class TestCompletion:
    def test_without_the_library(self, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, "shtab", None)
        assert "pip install shtab" in refused(capsys, "--print-completion", "bash")

    @pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
    def test_every_command_is_completed(self, capsys, shell):
        pytest.importorskip("shtab", reason="shtab is not installed")
        code, out, _ = said(capsys, "--print-completion", shell)
        assert code == 0
        assert all(word in out for word in (*COMMANDS, *PROTOCOLS, "freeze-backbone"))
        assert "on-bad-picture" not in out


@pytest.mark.slow
@pytest.mark.parametrize("module", ["normface", "caffeport", "experiments"])
def test_each_runs_as_a_module_under_its_name(module):
    done = subprocess.run([sys.executable, "-m", module, "--bogus"], capture_output=True, text=True, cwd=NET.parents[2])
    assert done.returncode == 2
    assert done.stderr.startswith(f"{module}: error: unrecognized arguments: --bogus; see ")
