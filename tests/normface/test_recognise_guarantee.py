"""Thresholds are told only of the model that they were measured with: its very weights, and the way it is run."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import caffeport
import cv2
import numpy as np
import onnx
import pytest
from normface.errors import DataError, NormfaceError, NormfaceWarning
from normface.features import Extractor, Features, load_features, save_features
from normface.features.own_preprocessing import note_in_onnx
from normface.preprocessing import Preprocessing
from normface.recognise import PhotoFace, Threshold, threshold_file, threshold_for
from normface.recognise.verdict import compare
from support import nets
from support.command_line import refused, said
from support.linear_faces import HEIGHT, WIDTH, linear_faces

MOBILEFACENET = Path(__file__).parents[3] / "shared" / "models" / "mobilefacenet"
NET, WEIGHTS = MOBILEFACENET / "mobilefacenet_deploy.prototxt", MOBILEFACENET / "mobilefacenet.caffemodel"
needs_model = pytest.mark.skipif(not MOBILEFACENET.is_dir(), reason="MobileFaceNet (../shared/models) is not here")
UNKNOWN = "no threshold is known for this model"
PRESET = {"preset": "mobilefacenet", "mirror": "sum", "threads": 1}


@pytest.fixture(scope="module")
def net():
    return caffeport.load(NET, WEIGHTS)


def far_of(extractor: Extractor) -> float | None:
    """The cosine that is told for a false accept in a thousand, None where none is known."""
    try:
        return threshold_for(1e-3, extractor=extractor).cosine
    except NormfaceError as error:
        assert str(error).startswith(UNKNOWN)
        assert "--threshold" in str(error) and "--threshold-out" in str(error)
        return None


def changed(net, change) -> caffeport.Net:
    """The net with ``change(layer, arrays)`` made to every layer's blobs."""
    blobs = {}
    for layer in net.layers:
        if layer.params:
            blobs[layer.name] = [np.array(param.data) for param in layer.params]
            change(layer, blobs[layer.name])
    return net.with_weights(blobs)


def one_weight(layer, arrays) -> None:
    if layer.type == "Convolution" and not one_weight.done:
        arrays[0].reshape(-1)[7] += 1e-3
        one_weight.done = True


def random_weights(layer, arrays) -> None:
    for array in arrays:
        array[...] = np.random.default_rng(array.size).normal(0, 0.1, array.shape) ** 2 + 0.01


@needs_model
class TestThePublishedModel:
    @pytest.mark.slow
    @pytest.mark.parametrize(("mirror", "cosine"), [("none", 0.3266), ("sum", 0.3273)])
    def test_as_caffe_files(self, mirror, cosine):
        found = threshold_for(1e-3, extractor=Extractor(NET, WEIGHTS, **(PRESET | {"mirror": mirror})))
        assert (found.cosine, found.far, found.face) == (cosine, 1e-3, (112, 96))
        assert found.source == f"measured with mobilefacenet on BLUFR, mirror {mirror}"

    @pytest.mark.slow
    def test_fewer_false_accepts_need_a_higher_threshold(self):
        extractor = Extractor(NET, WEIGHTS, **PRESET)
        cosines = [threshold_for(far, extractor=extractor).cosine for far in (1e-1, 1e-2, 1e-3, 1e-4)]
        assert cosines == sorted(cosines)
        with pytest.raises(NormfaceError, match=r"FAR 0\.02: .* has thresholds for 0\.0001, 0\.001, 0\.01, 0\.1"):
            threshold_for(0.02, extractor=extractor)

    @pytest.mark.slow
    @pytest.mark.parametrize("opset", [13, 17, 21])
    @pytest.mark.parametrize("fold", [True, False])
    def test_as_onnx(self, net, tmp_path, opset, fold):
        net.to_onnx(tmp_path / "f.onnx", opset=opset, fold=fold)
        assert far_of(Extractor(tmp_path / "f.onnx", **PRESET)) == 0.3273

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "inside", [{"mean": 127.5, "scale": 1 / 128}, {"mean": [127.5] * 3, "scale": 1 / 128, "rgb": True}]
    )
    @pytest.mark.parametrize("fold", [True, False])
    def test_with_its_preprocessing_inside(self, net, tmp_path, fold, inside):
        net.to_onnx(tmp_path / "f.onnx", fold=fold, **inside)
        assert far_of(Extractor(tmp_path / "f.onnx", **PRESET)) == 0.3273

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [{"external_data": True}, {"dynamic_batch": False}])
    def test_in_other_forms_of_the_file(self, net, tmp_path, options):
        net.to_onnx(tmp_path / "f.onnx", **options)
        assert far_of(Extractor(tmp_path / "f.onnx", **PRESET)) == 0.3273

    @pytest.mark.slow
    def test_with_its_preprocessing_noted_and_rewritten_by_another_tool(self, net, tmp_path):
        """Metadata, names and how the tensors are stored do not count: the values do."""
        net.to_onnx(tmp_path / "f.onnx")
        note_in_onnx(tmp_path / "f.onnx", Preprocessing((127.5,), 1 / 128, True, "pad", (112, 112)))
        model = onnx.load(tmp_path / "f.onnx")
        model.producer_name = "another"
        for tensor in model.graph.initializer:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
        onnx.save(model, tmp_path / "f.onnx")
        assert far_of(Extractor(tmp_path / "f.onnx", mirror="sum")) == 0.3273

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "option",
        [
            {"scale": 1},
            {"scale": 1 / 127},
            {"mean": 128},
            {"mean": [127.5, 127.5, 127.4]},
            {"rgb": False},
            {"fit": "resize"},
            {"fit": "exact"},
            {"mirror": "max"},
            {"mirror": "concat"},
            {"preset": "sphereface"},
        ],
        ids=str,
    )
    def test_run_in_another_way(self, option):
        extractor = Extractor(NET, WEIGHTS, **(PRESET | option))
        with pytest.raises(NormfaceError, match=f"{UNKNOWN} as it is run .one was measured .* there, .* here"):
            threshold_for(1e-3, extractor=extractor)

    @pytest.mark.slow
    @pytest.mark.parametrize("fold", [True, False])
    @pytest.mark.parametrize("change", [one_weight, random_weights])
    def test_with_other_weights(self, net, tmp_path, change, fold):
        one_weight.done = False
        other = changed(net, change)
        other.save(tmp_path / "other.caffemodel", prototxt=tmp_path / "other.prototxt")
        assert far_of(Extractor(tmp_path / "other.prototxt", tmp_path / "other.caffemodel", **PRESET)) is None
        other.to_onnx(tmp_path / "f.onnx", fold=fold)
        assert far_of(Extractor(tmp_path / "f.onnx", **PRESET)) is None

    @pytest.mark.slow
    def test_with_fillers_for_weights(self, tmp_path):
        caffeport.load(NET).to_onnx(tmp_path / "f.onnx")
        assert far_of(Extractor(tmp_path / "f.onnx", **PRESET)) is None

    @pytest.mark.slow
    @pytest.mark.parametrize("place", ["initializer", "attribute", "node", "mean"])
    def test_edited_by_another_tool(self, net, tmp_path, place):
        """Whatever the metadata still say."""
        net.to_onnx(tmp_path / "f.onnx", mean=127.5, scale=1 / 128)
        model = onnx.load(tmp_path / "f.onnx")
        if place == "initializer":
            tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
            numbers = onnx.numpy_helper.to_array(tensor).copy()
            numbers.reshape(-1)[0] = np.nextafter(numbers.reshape(-1)[0], np.float32(2))
            tensor.CopyFrom(onnx.numpy_helper.from_array(numbers, tensor.name))
        elif place == "mean":
            sub = next(node for node in model.graph.node if node.op_type == "Sub")
            tensor = next(one for one in model.graph.initializer if one.name == sub.input[1])
            shape = onnx.numpy_helper.to_array(tensor).shape
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(shape, 127.4, np.float32), tensor.name))
        elif place == "attribute":
            node = next(one for one in model.graph.node if one.op_type == "Conv")
            pads = next(one for one in node.attribute if one.name == "pads")
            pads.ints[:] = [0, 0, 2, 2]
        else:  # a residual that is taken off
            node = next(one for one in model.graph.node if one.op_type == "Add")
            node.op_type = "Sub"
        onnx.save(model, tmp_path / "f.onnx")
        assert far_of(Extractor(tmp_path / "f.onnx", **PRESET)) is None

    @pytest.mark.slow
    def test_with_another_text_around_the_weights(self, net, tmp_path):
        """A net of the same weights whose last residual takes the larger of the two."""
        head, operation, tail = NET.read_text().rpartition("operation: SUM")
        (tmp_path / "net.prototxt").write_text(f"{head}{operation.replace('SUM', 'MAX')}{tail}")
        assert far_of(Extractor(tmp_path / "net.prototxt", WEIGHTS, **PRESET)) is None

    @pytest.mark.slow
    def test_no_false_word_of_compare(self, tmp_path, capsys):
        """Whatever options are given, the words "measured" and "BLUFR" stand only with the measured ones."""
        photos = []
        for number in range(2):
            photos.append(tmp_path / f"{number}.png")
            pixels = np.random.default_rng(number).integers(0, 256, (112, 96, 3), np.uint8)
            cv2.imwrite(str(photos[-1]), pixels)
        model = ("--model", NET, "--weights", WEIGHTS, "--preset", "mobilefacenet", "--aligned", "--threads", "1")
        code, out, _ = said(capsys, "compare", *photos, *model)
        assert code == 0 and "(false accepts 0.001, measured with mobilefacenet on BLUFR, mirror sum)" in out
        for options in (["--scale", "1"], ["--no-rgb"], ["--mirror", "max"], ["--mean", "0"], ["--fit", "resize"]):
            code, out, _ = said(capsys, "compare", *photos, *model, *options)
            assert code == 0 and "BLUFR" not in out
            verdict, why = out.splitlines()
            assert verdict.startswith("no verdict: cosine ") and why.startswith(f"{UNKNOWN} as it is run")
            assert "--threshold-out MODEL.toml" in why
            code, out, _ = said(capsys, "compare", *photos, *model, *options, "--json")
            content = json.loads(out)
            assert code == 0 and content["no_threshold"] == why and -1 <= content["cosine"] <= 1
            assert [content[key] for key in ("same", "threshold", "far", "far_between", "threshold_source")] == [
                None
            ] * 5
            code, out, _ = said(capsys, "compare", *photos, *model, *options, "--threshold", "0.3", "--json")
            assert (code, json.loads(out)["far"], json.loads(out)["threshold_source"]) == (0, None, "given")
        cv2.imwrite(str(photos[0]), np.zeros((112, 112, 3), np.uint8))
        code, out, _ = said(capsys, "compare", *photos, *model)
        assert code == 0 and out.startswith("no verdict: cosine ") and "BLUFR" not in out
        assert "0.png: is an aligned face of 112x112 (HxW); no threshold is known for those" in out
        code, out, _ = said(capsys, "compare", *photos, *model, "--threshold", "0.9")
        assert code == 0 and out.endswith("< 0.900 (threshold given, not measured)\n")


@pytest.fixture
def linear(tmp_path):
    return linear_faces(tmp_path)


def measured_file(extractor: Extractor, path: Path, **changes) -> Path:
    measurement = threshold_file.Measurement("a set", extractor.identity, {0.1: 0.2, 0.01: 0.4})
    threshold_file.write(path, replace(measurement, **changes))
    return path


class TestThresholdFile:
    def test_it_comes_back(self, linear, tmp_path):
        identity = Extractor(linear.prototxt, linear.caffemodel, mean=[1, 2, 3.5], scale=1 / 3).identity
        known = {1e-5: 0.123456789012345, 0.1: -1.0}
        between = {1e-5: (0.0, 3.7e-05), 0.1: (0.1 / 3, 0.2)}
        made = threshold_file.Measurement(
            'a "set"\n\x7f\\', identity, known, (112, 96), between, (3, 4000), threshold_file.today()
        )
        threshold_file.write(tmp_path / "t.toml", made)
        assert threshold_file.read(tmp_path / "t.toml") == made

    @pytest.mark.parametrize("name", ["face.toml"])
    def test_beside_the_model(self, linear, tmp_path, name):
        extractor = Extractor(linear.prototxt, linear.caffemodel, mean=5)
        assert far_of(extractor) is None
        measured_file(extractor, tmp_path / name)
        found = threshold_for(0.01, extractor=extractor)
        assert found == Threshold(0.4, 0.01, f"measured on a set, {tmp_path / name}")
        (tmp_path / "other").mkdir()
        for fold in (True, False):  # the same model in another form, with the file beside it
            onnx_file = linear.onnx(tmp_path / "other" / "x.onnx", fold=fold)
            measured_file(extractor, tmp_path / "other" / "x.toml")
            assert threshold_for(0.01, extractor=Extractor(onnx_file, mean=5)).cosine == 0.4

    @pytest.mark.slow
    def test_of_other_weights_or_another_way_is_not_used(self, linear, tmp_path):
        measured_file(Extractor(linear.prototxt, linear.caffemodel, mean=5), tmp_path / "face.toml")
        with pytest.warns(
            NormfaceWarning,
            match=r"face\.toml: .*another model or in another way, and is not used: mean 5 there, 6 here",
        ):
            assert far_of(Extractor(linear.prototxt, linear.caffemodel, mean=6)) is None
        tuned = changed(caffeport.load(linear.prototxt, linear.caffemodel), lambda _, arrays: arrays[0].__iadd__(1e-7))
        tuned.save(linear.caffemodel)
        with pytest.warns(NormfaceWarning, match=r"face\.toml: .* not used: its weights are others"):
            assert far_of(Extractor(linear.prototxt, linear.caffemodel, mean=5)) is None

    @pytest.mark.slow
    def test_given_for_another_model_is_refused(self, linear, tmp_path):
        path = measured_file(Extractor(linear.prototxt, linear.caffemodel, mean=5), tmp_path / "t.toml")
        right, wrong = (Extractor(linear.prototxt, linear.caffemodel, mean=mean) for mean in (5, 6))
        assert threshold_for(0.1, calibration=path, extractor=right).cosine == 0.2
        for extractor in (wrong, None):
            with pytest.raises(NormfaceError, match=r"t\.toml: was measured with another model"):
                threshold_for(0.1, calibration=path, extractor=extractor)

    def test_a_toml_file_of_another_kind_is_passed_over(self, linear, tmp_path):
        (tmp_path / "face.toml").write_text("[settings]\nx = 1\n")
        assert far_of(Extractor(linear.prototxt, linear.caffemodel, mean=5)) is None

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (threshold_file.FORMAT, "normface thresholds 9", "its format is"),
            ('"0.1" = 0.2', '"0.1" = 3.0', "cosines between -1 and 1"),
            ('"0.1" = 0.2', '"x" = 0.2', "is no threshold file"),
            ("probe = [\n    [", "probe = [\n    [[", "is no threshold file"),
            ("weights = [", "weights = [3, [", "is no threshold file"),
            ("[preprocessing]", "[other]", "is no threshold file"),
            ("[thresholds]", "[intervals]\n0.1 = 3\n[thresholds]", "is no threshold file"),
            ("[thresholds]", '[intervals]\n"0.1" = [0.2, 0.1]\n[thresholds]', "two rates between 0 and 1"),
            ("[thresholds]", '[intervals]\n"0.1" = [0, nan]\n[thresholds]', "two rates between 0 and 1"),
            ("mirror =", "pairs = [1]\nmirror =", "is no threshold file"),
            ("size = [\n    4,\n    3,\n]", "size = []", "is no threshold file"),
            ('"0.1" = 0.2', f'"0.1" = {"9" * 5000}', "is no threshold file"),
            ('"0.1" = 0.2', f'"0.1" = {"[" * 50_000}', "is no threshold file"),
        ],
    )
    def test_damage(self, linear, tmp_path, old, new, message):
        path = measured_file(Extractor(linear.prototxt, linear.caffemodel, mean=5), tmp_path / "t.toml")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(DataError, match=rf"t\.toml: .*{message}") as caught:
            threshold_file.read(path)
        assert len(str(caught.value)) < 600

    def test_faces_of_another_size(self):
        face = PhotoFace("a.jpg", np.zeros((112, 112, 3), np.uint8), np.ones(2, np.float32), None, 0)
        verdict = compare(face, face, Threshold(0.3, 1e-3, "here", (112, 96)))
        assert (verdict.same, verdict.threshold, verdict.words) == (None, None, "no verdict: cosine 1.000")
        assert verdict.unknown.startswith("a.jpg: is an aligned face of 112x112 (HxW); no threshold is known")
        assert compare(face, face, Threshold(0.3, 1e-3, "here", (112, 112))).same


class TestEvaluate:
    @pytest.fixture
    def faces(self, tmp_path):
        """Six people with two images each, and LFW's list of 6 genuine and 6 impostor pairs."""
        lines = ["2 3"]
        for fold in range(2):
            people = range(3 * fold, 3 * fold + 3)
            lines += [f"P{p} 1 2" for p in people] + [f"P{p} 1 P{(p + 1) % 6} 2" for p in people]
        (tmp_path / "pairs.txt").write_text("\n".join(lines))
        for person in range(6):
            (tmp_path / "faces" / f"P{person}").mkdir(parents=True)
            for i in (1, 2):
                pixels = np.random.default_rng(10 * person + i).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
                cv2.imwrite(str(tmp_path / "faces" / f"P{person}" / f"P{person}_{i:04d}.png"), pixels)
        return tmp_path / "faces"

    def evaluated(self, capsys, tmp_path, *source):
        common = ("lfw", "--pairs", tmp_path / "pairs.txt", "--far", "0.5,0.01")
        return said(capsys, "evaluate", *common, *source, "--threshold-out", tmp_path / "face.toml")

    def model(self, linear):
        return ("--model", linear.prototxt, "--weights", linear.caffemodel, "--mean", "128", "--mirror", "sum")

    @pytest.mark.slow
    @pytest.mark.parametrize("way", ["model", "features"])
    def test_a_threshold_is_measured_and_found(self, linear, faces, tmp_path, capsys, way):
        source = (*self.model(linear), "--images", faces)
        if way == "features":
            call = (linear.prototxt, linear.caffemodel, "--mean", "128", "--mirror", "sum", "--data", faces)
            assert said(capsys, "extract", *call, "--out", tmp_path / "f.npz")[0] == 0
            source = ("--features", tmp_path / "f.npz")
        code, out, _ = self.evaluated(capsys, tmp_path, *source)
        assert code == 0 and f"wrote {tmp_path / 'face.toml'}: thresholds of this model" in out
        made = threshold_file.read(tmp_path / "face.toml")
        assert list(made.thresholds) == [0.5]  # a hundredth of six impostor pairs is none
        assert (made.pairs, made.face, made.date) == ((6, 6), (HEIGHT, WIDTH), threshold_file.today())
        low, high = made.intervals[0.5]
        # The true rate of the third of six draws: Beta(3, 4), whose distribution at x is P(3 or more of 6 below it).
        for bound, share in ((low, 0.025), (high, 0.975)):
            at_least = sum(math.comb(6, j) * bound**j * (1 - bound) ** (6 - j) for j in range(3, 7))
            assert at_least == pytest.approx(share, abs=1e-9)
        images = [faces / "P0" / f"P0_000{i}.png" for i in (1, 2)]
        call = ("compare", *images, *self.model(linear), "--aligned", "--far", "0.5")
        code, out, _ = said(capsys, *call)
        assert code == 0
        assert (
            f"(false accepts 0.5, 95 % sure between {low:.2g} and {high:.2g}, measured on LFW (12 pairs), "
            f"{tmp_path / 'face.toml'})" in out
        )
        code, out, error = said(capsys, *call, "--scale", "2")
        assert code == 0 and "face.toml: was measured with another model" in error
        assert out.startswith("no verdict: cosine ") and UNKNOWN in out and "LFW" not in out
        code, out, _ = said(capsys, *call[:-1], "0.01")
        assert code == 0 and out.startswith("no verdict: cosine ") and "FAR 0.01: " in out

    def test_what_names_no_model(self, linear, faces, tmp_path, capsys):
        call = (linear.prototxt, linear.caffemodel, "--mean", "128", "--data", faces, "--out", tmp_path / "f.npz")
        assert said(capsys, "extract", *call)[0] == 0
        stored = load_features(tmp_path / "f.npz")
        assert stored.settings["identity"]["weights"]
        for settings, message in (({}, "does not say which model"), ({"identity": [1]}, "its settings name no model")):
            save_features(tmp_path / "g.npz", Features(stored.features, stored.names, settings=settings))
            code, _, error = self.evaluated(capsys, tmp_path, "--features", tmp_path / "g.npz")
            assert code == 2 and message in error and not (tmp_path / "face.toml").exists()

    def test_refusals(self, linear, faces, tmp_path, capsys):
        source = ("lfw", "--pairs", tmp_path / "pairs.txt", *self.model(linear), "--images", faces)
        for more, message in (
            (("--threshold-out", tmp_path / "t.json"), "t.json: thresholds are written as .toml"),
            (("--threshold-out", tmp_path / "no" / "t.toml"), "does not exist"),
            (("--threshold-out", tmp_path / "t.toml", "--protocol", "normface"), "needs plain cosines"),
        ):
            assert message in refused(capsys, "evaluate", *source, *more)
        code, _, error = said(capsys, "evaluate", *source, "--threshold-out", tmp_path / "t.toml", "--fars", "0.01")
        assert code == 2 and "6 impostor pairs show no such rate; ask for higher ones (--fars)" in error
        assert not (tmp_path / "t.toml").exists()

    def test_a_net_to_which_all_faces_are_one_gets_none(self, linear, faces, tmp_path, capsys):
        constant = {"fc": [np.zeros_like(linear.weight, np.float32), np.ones(len(linear.bias), np.float32)]}
        caffeport.load(linear.prototxt, linear.caffemodel).with_weights(constant).save(linear.caffemodel)
        code, _, error = self.evaluated(capsys, tmp_path, *self.model(linear), "--images", faces)
        assert code == 2 and "too many of the impostor pairs have one and the same score" in error
        assert not (tmp_path / "face.toml").exists()


def test_an_own_network_of_two_outputs_is_known_by_the_one_that_is_asked_for(tmp_path):
    """What another output depends on does not count."""
    text = nets.inputs(data=(1, 3, HEIGHT, WIDTH)) + nets.inner_product("data", "fc", 5)
    one = linear_faces(tmp_path, text=text, name="one")
    net = caffeport.load(nets.write(tmp_path, text + nets.inner_product("data", "more", 7), "two.prototxt"))
    arrays = {"fc": [one.weight.astype(np.float32), one.bias.astype(np.float32)]}
    net.with_weights(arrays).to_onnx(tmp_path / "two.onnx")
    first = Extractor(one.prototxt, one.caffemodel, mean=0).identity
    second = Extractor(tmp_path / "two.onnx", output="fc", mean=0).identity
    other = Extractor(tmp_path / "two.onnx", output="more", mean=0).identity
    assert first.differences(second) == []
    assert first.differences(other) == ["its weights are others"]
