"""A net as PyTorch source: a fresh process without caffeport computes what the torch module does, and ruff agrees."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import caffeport
import numpy as np
import pytest
import safetensors.numpy
import torch
from caffeport.graph.walk import read_inputs
from support import nets, published_models, source_nets
from support.source_files import check_style, imported

RUN = """
import importlib, sys
import numpy as np
import torch

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("caffeport", "normface"):
            raise ImportError(f"{name} is not to be imported")

sys.meta_path.insert(0, Refused())
sys.path.insert(0, "")
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    stored = np.load(f"{name}_inputs.npz")
    model = module.load()
    assert not model.training
    with torch.no_grad():
        made = model(*(torch.tensor(stored[key]) for key in stored.files))
    made = made if isinstance(made, dict) else {"": made}
    np.savez(f"{name}_outputs.npz", **{key: value.numpy() for key, value in made.items()})
assert not any(name.partition(".")[0] == "caffeport" for name in sys.modules)
"""


def mtcnn(number: int) -> caffeport.Net:
    folder = published_models.MODELS / "mtcnn"
    if not folder.is_dir():
        pytest.skip("the published models (../shared/models) are not here")
    return caffeport.load(folder / f"det{number}.prototxt", folder / f"det{number}.caffemodel")


PUBLISHED = {
    "digits": published_models.digits_net,
    "det1": lambda: mtcnn(1),
    "det2": lambda: mtcnn(2),
    "det3": lambda: mtcnn(3),
    "mobilefacenet": published_models.mobilefacenet_net,
    "open_nsfw": published_models.open_nsfw_net,
}
MOST_LINES = {
    "digits": 35,
    "det1": 32,
    "det2": 36,
    "det3": 44,
    "mobilefacenet": 90,
    "open_nsfw": 90,
    "residual": 80,
    "inception": 68,
    "ssd": 220,  # of which 129 are default boxes and detections
    "lstm": 40,
    "odd_names": 32,
    "shared": 24,
}
"""Lines of code, without blank ones, comments and docstrings; the nets have 5 to 229 layers."""


def small_net(name: str, folder: Path) -> caffeport.Net:
    """A net of the tests' own, its statistics not those of an untrained net."""
    folder.mkdir(exist_ok=True)
    net = nets.load(folder, source_nets.SMALL[name]())
    random = np.random.default_rng(1)
    for param in net.params:
        if param.spec.name == "mean":
            param.data = np.float32(10 * random.standard_normal(param.shape))
        elif param.spec.name == "variance":
            param.data = np.float32(random.uniform(50, 200, param.shape))
        elif param.spec.name == "scale_factor":
            param.data = np.full(param.shape, 99.5, np.float32)
    return net


class Written:
    """The nets that are here, written to one folder, and what one process without caffeport makes of them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.nets, self.missing = folder, {}, {}
        for name in MOST_LINES:
            try:
                net = PUBLISHED[name]() if name in PUBLISHED else small_net(name, folder / "texts")
            except pytest.skip.Exception as reason:
                self.missing[name] = str(reason)
                continue
            self.nets[name] = net
            net.to_python(folder / f"{name}.py")
            inputs = net.sample_inputs()
            read = [value.name for value in read_inputs(net, net.output_values)]
            np.savez(folder / f"{name}_inputs.npz", **{key: inputs[key] for key in read})
        self.run(*self.nets)

    def run(self, *names: str) -> None:
        done = subprocess.run(
            [sys.executable, "-I", "-c", RUN, *names], cwd=self.folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    def net(self, name: str) -> caffeport.Net:
        if name in self.missing:
            pytest.skip(self.missing[name])
        return self.nets[name]

    def text(self, name: str) -> str:
        self.net(name)
        return (self.folder / f"{name}.py").read_text("utf-8")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Written:
    return Written(tmp_path_factory.mktemp("source"))


ON_EVERY_NET = pytest.mark.parametrize("name", MOST_LINES)


@pytest.mark.slow
@ON_EVERY_NET
def test_outputs(written, name):
    """1e-5 of the largest number: a batch normalisation with its scale rounds once where two layers round twice."""
    net = written.net(name)
    made = np.load(written.folder / f"{name}_outputs.npz")
    with torch.no_grad():
        expected = net.to_torch()(*map(torch.tensor, net.sample_inputs().values()))
    expected = expected if isinstance(expected, dict) else {"": expected}
    assert list(made.files) == list(expected)
    for key, value in expected.items():
        assert made[key].shape == tuple(value.shape)
        one, other = made[key], value.numpy()
        if name == "ssd":  # boxes of one score come in any order
            one, other = (rows[0, 0, np.lexsort(rows[0, 0].round(4).T)] for rows in (one, other))
        largest = float(np.nan_to_num(np.abs(other).max()))
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.slow
@ON_EVERY_NET
def test_ruff_has_nothing_to_say(written, name):
    written.net(name)
    check_style(written.folder / f"{name}.py", 88)


@ON_EVERY_NET
def test_lines_of_code(written, name):
    lines, layers = lines_of_code(written.text(name)), len(written.net(name).layers)
    assert lines <= MOST_LINES[name]
    if layers > 100 and name != "ssd":
        assert lines < layers / 2


def lines_of_code(text: str) -> int:
    """Lines that hold more than blanks, comments and docstrings."""
    documents = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    nothing = (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {n for t in tokens if t.type not in nothing for n in range(t.start[0], t.end[0] + 1)}
    return len(code - documents)


@ON_EVERY_NET
def test_the_weights_are_the_models(written, name):
    """Every key of the file is one of the module's, with its shape; none is left over but batch counters."""
    written.net(name)
    state = safetensors.numpy.load_file(written.folder / f"{name}.safetensors")
    model = imported(written.folder / f"{name}.py").Model()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items() if "num_batches" not in key}
    assert {key: array.shape for key, array in state.items()} == shapes


@ON_EVERY_NET
def test_nothing_is_imported_but_torch(written, name):
    text = written.text(name)
    assert "caffeport" not in text
    roots = {module.partition(".")[0] for module in modules_of(text)}
    assert roots <= {"__future__", "pathlib", "safetensors", "torch"}
    assert text.startswith('"""') and "# " not in text.partition('"""')[0]


def modules_of(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_the_docstrings_ways_to_load(written, monkeypatch):
    """Both, as they stand there."""
    text = written.text("digits")
    monkeypatch.chdir(written.folder)
    face = imported(Path("digits.py"))
    lines = [line.strip() for line in ast.get_docstring(ast.parse(text)).splitlines() if line.startswith("    ")]
    scope: dict = {"digits": face, "load_file": safetensors.torch.load_file}
    exec(lines[0], scope)
    one = scope.pop("model")
    exec("\n".join(lines[1:]), scope)
    x = torch.zeros(1, *written.net("digits").input_values[0].shape[1:])
    torch.testing.assert_close(one(x), scope["model"](x), rtol=0, atol=0)
    assert not scope["model"].training


def test_blocks_of_mobilefacenet(written):
    """Its three kinds of units, with the names that its layers have; equal blocks in a loop."""
    text = written.text("mobilefacenet")
    model = imported(written.folder / "mobilefacenet.py").Model()
    assert "self.res_4_block = nn.Sequential(*(ResidualBlock(128) for _ in range(6)))" in text
    assert [name for name, _ in model.res_4_block[0].named_children()] == ["sep", "dw", "proj"]
    assert [name for name, _ in model.conv_1.named_children()] == ["conv2d", "batchnorm", "relu"]
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(norms) == sum(layer.type == "BatchNorm" for layer in written.net("mobilefacenet").layers) - 1


def test_the_documentations_excerpt(written):
    """And its figures."""
    page = (published_models.ROOT / "docs/converting.md").read_text("utf-8")
    (excerpt,) = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert excerpt in written.text("mobilefacenet")
    for name in ("mobilefacenet", "open_nsfw"):
        layers, lines = len(written.net(name).layers) - 1, lines_of_code(written.text(name))
        assert re.search(rf"{layers}\s(layers\s)?are\s{lines}\b", page)


def test_blocks_of_open_nsfw(written):
    text = written.text("open_nsfw")
    assert "self.conv_stage2_block = nn.Sequential" in text and "class ProjectionBlock" in text
    assert text.count("nn.Conv2d(") == 2  # of the two kinds of units


def test_blocks_of_an_ssd(written):
    """A class with three outputs, and one for a depthwise convolution and what follows."""
    text = written.text("ssd")
    assert text.count(" = BoxHead(") == 6 and text.count(" = DepthwiseSeparable(") == 6
    assert "def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:" in text


def test_blocks_of_an_inception(written):
    model = imported(written.folder / "inception.py").Model()
    kinds = [type(module).__name__ for module in model.children()]
    assert kinds.count("Inception") == 5
    assert "conv3x3_reduce" in dict(model.inception_3a.named_children())


def test_names(written):
    """Safe attributes, Caffe's names in comments, arguments that are no keywords."""
    text = written.text("odd_names")
    for attribute, name in {"class_": "class", "conv_1": "conv/1", "conv_1_2": "conv-1", "conv7": "7"}.items():
        assert f"self.{attribute} = nn.Conv2d(4, 4, 1)  # {name}\n" in text or f"  # {name}\n" in text
    assert "def forward(self, import_: Tensor, self_2: Tensor) -> dict[str, Tensor]:" in text
    assert 'return {"x": x, "y": y}' in text


def test_names_that_could_end_the_text(tmp_path):
    """Quotes, backslashes, line ends and bytes that are no UTF-8 in names of the net, of layers and of blobs."""
    name = r"a\"\"\"\n\\\351import os" + 100 * "b"
    text = f'name: "{name}"\n' + nets.inputs(**{name: (1, 3, 4, 4)})
    text += nets.layer("Power", name.replace(" ", "_"), "y", "power_param { shift: 1 }").replace("_os", " os")
    for kind, top in (("Convolution", f"{name}1"), ("Convolution", f"{name}2")):
        window = f"convolution_param {{ num_output: 2 kernel_size: 1 {nets.GAUSS} }}"
        text += nets.layer(kind, "y", "TOP", window).replace("TOP", top)
    net = nets.load(tmp_path, text)
    net.to_python(tmp_path / "net.py")
    made, expected = (f(torch.ones(1, 3, 4, 4)) for f in (imported(tmp_path / "net.py").load(), net.to_torch()))
    assert list(made) == list(expected) == net.outputs
    for key, value in expected.items():
        torch.testing.assert_close(made[key], value)


def test_shared_weights_are_one_parameter(written):
    model = imported(written.folder / "shared.py").load()
    assert model.conv_left.weight is model.conv_right.weight
    assert len(list(model.parameters())) == 2


@pytest.mark.slow
def test_equal_runs_write_equal_bytes(written, tmp_path):
    first, second = small_net("ssd", tmp_path / "a"), small_net("ssd", tmp_path / "b")
    first.to_python(tmp_path / "a" / "net.py")
    second.to_python(tmp_path / "b" / "net.py")
    for ending in ("py", "safetensors"):
        assert (tmp_path / "a" / f"net.{ending}").read_bytes() == (tmp_path / "b" / f"net.{ending}").read_bytes()


@pytest.mark.slow
def test_it_trains(written):
    """The source is an ordinary module: gradients reach every parameter."""
    model = imported(written.folder / "residual.py").load().train()
    model(torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)))[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {"mean": 127.5, "scale": 0.0078125},
        {"mean": [104, 117, 123], "rgb": True},
        {"scale": 0.5, "rgb": True},
        {"mean": np.arange(3 * 12 * 10).reshape(3, 12, 10), "scale": 2.0},
        {"outputs": ["pool1"]},
        {"outputs": ["pool1", "fc"], "mean": 3},
    ],
    ids=["number", "channels", "rgb", "image", "output", "outputs"],
)
def test_options(tmp_path, options):
    """Preprocessing and outputs as ``to_torch`` has them."""
    net = nets.load(tmp_path, nets.SMALL)
    path, weights = net.to_python(tmp_path / "net.py", **options)
    x = torch.tensor(100 * net.sample_inputs()["data"])
    with torch.no_grad():
        made, expected = imported(path).load()(x), net.to_torch(**options)(x)
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-4)
    assert weights == tmp_path / "net.safetensors"
    check_style(path)


def test_a_net_without_weights(tmp_path):
    text = nets.inputs(data=(2, 3, 4, 5)) + nets.layer("Power", "data", "y", "power_param { shift: 1 }")
    net = nets.load(tmp_path, text)
    assert net.to_python(tmp_path / "net.py") == [tmp_path / "net.py"]
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(imported(tmp_path / "net.py").load()(x), x + 1)
    check_style(tmp_path / "net.py")


def test_weights_elsewhere(tmp_path):
    """The file is found from the source's folder, wherever the process runs."""
    net = nets.load(tmp_path, nets.SMALL)
    (tmp_path / "weights").mkdir()
    net.to_python(tmp_path / "net.py", weights=tmp_path / "weights" / "face.safetensors")
    assert 'Path(__file__).parent / "weights/face.safetensors"' in (tmp_path / "net.py").read_text()
    assert imported(tmp_path / "net.py").load().fc.weight.shape == (5, net.layer("fc").specs[0].shape[1])
    check_style(tmp_path / "net.py")


def test_a_loss_is_refused(tmp_path):
    text = nets.inputs(data=(2, 3), label=(2,)) + nets.inner_product("data", "fc", 4)
    net = nets.load(tmp_path, text + nets.layer("SoftmaxWithLoss", "fc label", "loss"))
    message = r'layer "loss" \(SoftmaxWithLoss\): a loss layer is for training'
    with pytest.raises(caffeport.CaffeportError, match=message):
        net.to_python(tmp_path / "net.py")
    assert not (tmp_path / "net.py").exists()
    path, _ = net.to_python(tmp_path / "net.py", outputs=["fc"])
    assert "label" not in path.read_text()  # what no output depends on


@pytest.mark.parametrize("name", ["face-net.py", "face.txt", "class.py", "1.py"])
def test_a_name_that_cannot_be_imported(tmp_path, name):
    with pytest.raises(caffeport.CaffeportError, match="imported by its name"):
        nets.load(tmp_path, nets.SMALL).to_python(tmp_path / name)


def test_a_layer_of_ones_own(tmp_path):
    """Its class is copied where its source is a file, and refused by name where it has none."""

    class Made(torch.nn.Module):
        def __init__(self, *anything):
            super().__init__()

        def forward(self, x):
            return x

    @caffeport.layer_type("Mine")
    class Mine(caffeport.Operator):
        def module(self, bottoms):
            return Made()

    text = nets.inputs(data=(2, 3)) + nets.layer("Mine", "data", "y")
    net = nets.load(tmp_path, text, custom_layers=[Mine])
    with pytest.raises(caffeport.CaffeportError, match=r'layer "y" \(Mine\): Made has no source form'):
        net.to_python(tmp_path / "net.py")
