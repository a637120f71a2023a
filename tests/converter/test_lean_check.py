"""The check compares blobs while they are made: the rows are those of a whole pass, and few blobs exist at once."""

from __future__ import annotations

import weakref
from pathlib import Path

import caffeport
import numpy as np
import onnx
import pytest
from caffeport.difference import PIECE, difference, root_mean_square
from caffeport.parity import parts, streamed
from caffeport.parity.inputs import Recorded
from caffeport.parity.onnx_run import run_parts
from caffeport.parity.streamed import Streamed
from caffeport.shelf import Shelf
from support import nets

RELU = nets.layer("ReLU", "a", "a", name="a_relu")
LSTM = (
    nets.inputs(x=(4, 2, 5), cont=(4, 2))
    + nets.layer("LSTM", "x cont", "h", f"recurrent_param {{ num_output: 3 {nets.GAUSS} }}")
    + nets.layer("Power", "h", "y", "power_param { scale: 2 }")
)
BRANCHES = (
    nets.inputs(data=(2, 3, 12, 10))
    + nets.conv("data", "a", 4)
    + RELU
    + nets.layer("Slice", "a", "b c", "slice_param { axis: 1 slice_point: 1 }")
    + nets.conv("c", "d", 5)
    + nets.layer("Concat", "b d a", "e")
    + nets.layer("Pooling", "e", "f", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }")
    + nets.inner_product("f", "g", 6)
    + nets.layer("Softmax", "g", "h")
    + nets.conv("e", "i", 2)
)


def plain(actual: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> tuple[float, float, bool]:
    """Compare whole arrays at once, by the formula of check's documentation."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    usual = np.abs(expected) < 1e30
    rms = np.sqrt(np.mean(expected[usual] ** 2)) if usual.any() else 0.0
    with np.errstate(all="ignore"):
        apart = np.where(same, 0, np.abs(actual - expected))
        apart = np.where(np.isnan(apart), np.inf, apart)
        scale = np.where(np.isfinite(expected), np.maximum(np.abs(expected), rms), 1)
        relative = np.where(apart == 0, 0, apart / scale)
    return apart.max(), relative.max(), bool((apart <= atol + rtol * scale).all())


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("count", [1, 7, 129, PIECE, PIECE + 1, 5 * PIECE + 12345, 33 * PIECE + 1])
@pytest.mark.parametrize("kind", ["noise", "equal", "zeros", "special", "strided", "half", "one off", "huge"])
def test_a_difference_piece_by_piece_is_that_of_the_whole_to_the_last_bit(count, kind, cores, monkeypatch):
    monkeypatch.setattr("caffeport.cores.usable_cores", lambda: cores)
    monkeypatch.setattr("caffeport.difference._THREADED", 2)
    random = np.random.default_rng(count)
    expected = (100 * random.standard_normal(count)).astype(np.float32)
    actual = (expected * (1 + 1e-6 * random.standard_normal(count))).astype(np.float32)
    if kind == "equal":
        actual = expected.copy()
    elif kind == "zeros":
        expected[:] = 0
    elif kind == "special":
        for number in (np.inf, -np.inf, np.nan, np.float32(3.4e38)):
            places = random.integers(0, count, 3)
            expected[places[:2]] = number
            actual[places[1:]] = number
    elif kind == "strided":
        actual, expected = (np.stack([array, array + 1], 1)[:, 0] for array in (actual, expected))
    elif kind == "half":
        actual = actual.astype(np.float16)
    elif kind == "one off":
        actual = expected.copy()
        actual[-1] += 0.5
    elif kind == "huge":  # the first number that stands for none, and the last that does not
        expected[-1] = -1e30
        expected[0] = np.nextafter(np.float32(1e30), np.float32(0))
    for tolerance in ((1e-4, 1e-5), (1e-7, 0), (0, 0)):
        assert difference(actual, expected, *tolerance) == plain(actual, expected, *tolerance)


def test_the_mean_leaves_out_what_is_no_number():
    numbers = np.ones(3 * PIECE, np.float32) * 2
    numbers[5::7] = np.nan
    assert root_mean_square(numbers) == 2
    assert root_mean_square(np.array([np.inf, np.nan, 3.4e38])) == 0


def test_each_blob_is_handed_out_once_and_made_no_sooner_than_asked_for():
    made: list[str] = []

    def passes():
        for name in "abcd":
            made.append(name)
            yield name, np.full(3, ord(name))

    blobs = Streamed("abd", passes())
    assert "c" not in blobs and list(blobs) == ["a", "b", "d"] and made == []
    assert blobs["b"][0] == ord("b") and made == ["a", "b"]
    assert blobs["a"][0] == ord("a") and made == ["a", "b"]
    assert blobs["d"][0] == ord("d")
    with pytest.raises(caffeport.CaffeportError, match='blob "a" was not made, or has been handed out before'):
        blobs["a"]
    with pytest.raises(KeyError):
        blobs["c"]


@pytest.fixture
def in_parts(monkeypatch):
    """Cut every graph wherever it can be; the fixture counts the parts."""
    counts: list[int] = []
    original = parts.cut

    def counted(*arguments):
        result = original(*arguments)
        counts.append(len(result))
        return result

    monkeypatch.setattr(parts, "SMALL", 0)
    monkeypatch.setattr("caffeport.parity.onnx_run.cut", counted)
    return counts


@pytest.mark.parametrize("text", [BRANCHES, nets.SMALL, LSTM], ids=["branches", "small", "lstm"])
def test_rows_in_parts_are_those_of_the_whole(tmp_path, text, monkeypatch, in_parts):
    net = nets.load(tmp_path, text)
    report = caffeport.check(net)
    assert in_parts and in_parts[0] >= 2
    monkeypatch.setattr(parts, "SMALL", 1 << 40)
    whole = caffeport.check(net)
    assert report.ok and whole.ok
    assert [(row.blob, row.layer, row.shape, list(row.errors)) for row in report.rows + report.exported] == [
        (row.blob, row.layer, row.shape, list(row.errors)) for row in whole.rows + whole.exported
    ]
    for row in report.rows:
        assert row.errors and row.max_rel < 1e-5


def reordered(path: Path, weights_inside_nodes: bool) -> None:
    """Write the file as another tool might: the branch to "i" first, weights as Constant nodes, metadata gone."""
    model = onnx.load(str(path))
    nodes = list(model.graph.node)
    early = [node for node in nodes if "i" in node.output]
    place = next(n for n, node in enumerate(nodes) if "e" in node.output) + 1
    rest = [node for node in nodes if node not in early]
    if weights_inside_nodes:
        constants = [onnx.helper.make_node("Constant", [], [one.name], value=one) for one in model.graph.initializer]
        del model.graph.initializer[:]
        rest, place = constants + rest, place + len(constants)
    del model.graph.node[:]
    model.graph.node.extend(rest[:place] + early + rest[place:])
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


@pytest.mark.parametrize("weights_inside_nodes", [False, True])
@pytest.mark.parametrize("broken", [False, True])
def test_a_written_file_in_parts(tmp_path, in_parts, weights_inside_nodes, broken):
    net = nets.load(tmp_path, BRANCHES)
    path = tmp_path / "net.onnx"
    net.to_onnx(path, fold=False)
    if broken:
        model = onnx.load(str(path))
        weight = next(one for one in model.graph.initializer if one.name.startswith("d."))
        array = onnx.numpy_helper.to_array(weight).copy()
        array.flat[0] += 1
        weight.raw_data = array.tobytes()
        onnx.save(model, str(path))
    reordered(path, weights_inside_nodes)
    report = caffeport.check(net, onnx=path)
    assert max(in_parts) >= 4
    assert all("net.onnx" in row.errors for row in report.rows if row.blob not in ("data", "a@a"))
    first = report.first_difference
    assert (first is None) is not broken
    if broken:
        assert first is not None and first.blob == "d"


def test_weights_beside_a_file_are_found_in_parts(tmp_path, in_parts):
    net = nets.load(tmp_path, BRANCHES)
    path = tmp_path / "net.onnx"
    net.to_onnx(path, external_data=True)
    assert path.with_name("net.onnx.data").is_file()
    assert caffeport.check(net, onnx=path).ok
    assert max(in_parts) >= 3


@pytest.mark.slow
def test_few_blobs_exist_at_once(tmp_path, monkeypatch, in_parts):
    text = nets.inputs(data=(1, 3, 8, 8)) + nets.conv("data", "c0", 3)
    for number in range(1, 20):
        text += nets.conv(f"c{number - 1}", f"c{number}", 3)
        text += nets.layer("ReLU", f"c{number}", f"c{number}", name=f"relu{number}")
    net = nets.load(tmp_path, text)
    references: list[weakref.ref] = []
    counts = []
    take = Streamed.__getitem__

    def counted(blobs: Streamed, key: str) -> np.ndarray:
        array = take(blobs, key)
        references.append(weakref.ref(array))
        counts.append(sum(reference() is not None for reference in references))
        return array

    monkeypatch.setattr(streamed.Streamed, "__getitem__", counted)
    report = caffeport.check(net)
    assert report.ok and len(report.rows) == 39 and len(counts) == 2 * 39
    assert max(counts) <= 3  # the pair that is compared, and what ONNX Runtime's next part reads


def test_a_pass_of_the_module_keeps_what_is_still_read(tmp_path):
    torch = pytest.importorskip("torch")
    net = nets.load(tmp_path, BRANCHES)
    model = net.to_torch()
    x = torch.from_numpy(net.sample_inputs()["data"])
    with torch.no_grad():
        whole = model.blobs(x)
        references = {}
        for key, tensor in model.stream(x):
            assert torch.equal(tensor, whole[key])
            references[key] = weakref.ref(tensor)
            del tensor
            present = {name for name, reference in references.items() if reference() is not None}
            assert present <= {"a", "b", "c", "d", "e", "f", "g", key}
            if key in ("g", "h", "i"):
                assert not present & {"a@a", "b", "c", "d"}
    assert list(references) == [value.key for value in net.values if value.key != "data"]


def test_a_recorded_file_is_read_blob_by_blob(tmp_path):
    path = tmp_path / "blobs.npz"
    np.savez(path, **{"data/a": np.arange(3), "words": np.array(["x"]), "b": np.ones(2)})
    recorded = Recorded(path)
    assert list(recorded) == ["data/a", "b"]
    path.write_bytes(b"")  # nothing of it was kept
    with pytest.raises(caffeport.CaffeportError, match=r"blobs\.npz: is broken"):
        recorded["b"]


def test_an_output_of_another_shape_than_was_thought_is_run_again(monkeypatch, capfd):
    """Where numbers decide on a shape, the place that was made for the output does not fit, and nothing is said."""
    helper = onnx.helper
    nodes = [helper.make_node("NonZero", ["x"], ["z"]), helper.make_node("Cast", ["z"], ["y"], to=1)]
    x, y = (helper.make_tensor_value_info(name, 1, [None, None]) for name in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    monkeypatch.setattr("caffeport.shelf.LEAST", 1)
    feed = {"x": np.array([[0, 5, 0], [1, 0, 2]], np.float32)}
    for shape in ((2, 3), (2, 2), (2, 9), (6,)):
        ((name, array),) = run_parts(model, {"y": shape}, feed, Path(), Shelf())
        assert name == "y"
        np.testing.assert_array_equal(array, [[0, 1, 1], [1, 0, 2]])
    assert capfd.readouterr() == ("", "")
    with pytest.raises(Exception, match="Unexpected input data type"):
        list(run_parts(model, {"y": (2, 3)}, {"x": np.zeros((2, 3))}, Path(), Shelf()))
