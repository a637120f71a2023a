"""What a finetuning run is made of: cut nets, batches, learning rates, pairs. Each against a bare formula."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from normface.errors import TrainingError
from normface.finetune import parts
from normface.finetune.backbone import Backbone, Trunk
from normface.finetune.config import Config
from normface.finetune.measure import Measured
from normface.finetune.sampling import Sampler, fewer, hold_out
from normface.finetune.schedule import factor
from normface.finetune.validation import score
from normface.preprocessing import preset
from support import nets
from support.digit_images import EXAMPLE, NET, WEIGHTS


@pytest.fixture(scope="module")
def digits() -> caffeport.Net:
    return caffeport.load(NET, WEIGHTS)


def run(net: caffeport.Net, x: torch.Tensor, **options) -> torch.Tensor:
    with torch.no_grad():
        return net.to_torch(**options).eval()(x)


def test_a_part_gives_the_blob_with_nothing_behind_it(digits):
    cut = parts.part(digits, "conv2")
    assert cut.outputs == ["conv2"]
    assert "fc5" not in cut.blobs and "relu2" in {layer.name for layer in cut.layers}
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(run(cut, x), run(digits, x, outputs=["conv2"]))


def test_two_parts_make_the_whole(digits):
    first, second = parts.part(digits, "pool1b"), parts.part(digits, "fc5", "pool1b")
    assert second.inputs == ["pool1b"]
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(run(second, run(first, x)), run(digits, x))


@pytest.mark.parametrize(
    ("blob", "words"), [("conv2_2", 'also reads "pool1b", which is made'), ("fc5", "is an input of the part")]
)
def test_a_net_is_parted_only_where_one_blob_crosses(digits, blob, words):
    with pytest.raises(TrainingError, match=words):
        parts.part(digits, "fc5", blob)


def test_a_training_net_becomes_a_deploy_net(tmp_path):
    """Heads, losses and phase rules go, data layers become inputs of one image; Caffe's parser reads the text."""
    text = (EXAMPLE / "train.prototxt").read_text()
    layers = text[text.index('layer {\n  name: "conv1a"') :]
    data = (
        'layer { name: "data" type: "MemoryData" top: "data" top: "label" include { phase: PHASE }\n'
        "  memory_data_param { batch_size: 64 channels: 1 height: 8 width: 8 } }\n"
    )
    path = tmp_path / "train_test.prototxt"
    path.write_text(data.replace("PHASE", "TRAIN") + data.replace("PHASE", "TEST") + layers)
    cut = parts.part(caffeport.load(path, WEIGHTS, allow_missing_weights=True), "fc5")
    cut.save(tmp_path / "cut.caffemodel", prototxt=tmp_path / "cut.prototxt")
    again = caffeport.load(tmp_path / "cut.prototxt", tmp_path / "cut.caffemodel")
    assert again.inputs == ["data"] and again.outputs == ["fc5"]
    assert again.blob_shapes["data"] == (1, 1, 8, 8)
    assert "include" not in (tmp_path / "cut.prototxt").read_text()
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    assert torch.equal(run(again, x), run(caffeport.load(NET, WEIGHTS), x))


def test_new_layers_take_names_that_are_free(digits):
    longer = parts.continued(digits, [parts.fully_connected("new", "fc5", "top", 3), parts.prelu("act", "top")])
    assert longer.blob_shapes["top"][1:] == (3,)
    assert parts.free_name(longer, "top") == "top2"
    np.testing.assert_array_equal(longer.layer("conv1a").blobs[0], digits.layer("conv1a").blobs[0])


def test_unit_length(digits):
    unit = parts.continued(digits, parts.unit_length("fc5", "unit"))
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    feature, made = run(digits, x), run(unit, x)
    assert made.shape == (4, 32)
    # eps 1e-6 under the root of lengths above 1: at most 5e-7 off
    torch.testing.assert_close(made, feature / feature.norm(dim=1, keepdim=True), rtol=1e-6, atol=1e-6)


LABELS = np.repeat(np.arange(7), [1, 2, 3, 9, 9, 9, 9])


def test_plain_batches_go_round_through_all_images():
    sampler = Sampler(LABELS, 8, seed=3, mirror=True, balanced=False)
    assert sampler.batches_per_epoch == math.ceil(42 / 8)
    stream = np.concatenate([sampler.batch(number).places for number in range(21)])  # four times all 42
    for start in range(0, 168, 42):
        assert sorted(stream[start : start + 42]) == list(range(42))
    assert not np.array_equal(stream[:42], stream[42:84])


def test_a_batch_is_a_function_of_seed_and_number():
    one, other = (Sampler(LABELS, 8, seed=3, mirror=True, balanced=True, per_identity=4) for _ in range(2))
    late = one.batch(17)
    for number in range(17):
        other.batch(number)
    again = other.batch(17)
    np.testing.assert_array_equal(again.places, late.places)
    np.testing.assert_array_equal(again.mirrored, late.mirrored)
    different = Sampler(LABELS, 8, seed=4, mirror=True, balanced=True, per_identity=4).batch(17)
    assert not np.array_equal(late.places, different.places)


def test_balanced_batches_have_k_images_of_each_identity():
    sampler = Sampler(LABELS, 12, seed=0, mirror=False, balanced=True, per_identity=3)
    seen = np.zeros(7, int)
    for number in range(7):  # 28 identities: each of the seven four times
        chosen = sampler.batch(number)
        places, mirrored = chosen.places, chosen.mirrored
        groups = LABELS[places].reshape(4, 3)
        assert (groups == groups[:, :1]).all() and not mirrored.any()
        for label, group in zip(groups[:, 0], places.reshape(4, 3), strict=True):
            assert len(set(group)) == min(3, (label == LABELS).sum())  # none twice where there are enough
            seen[label] += 1
    assert (seen == 4).all()


def test_half_of_the_images_are_mirrored():
    sampler = Sampler(LABELS, 42, seed=0, mirror=True, balanced=False)
    share = np.mean([sampler.batch(number).mirrored.mean() for number in range(100)])
    assert abs(share - 0.5) < 4 * 0.5 / math.sqrt(4200)  # four standard deviations


@pytest.mark.parametrize(("share", "number"), [(0.01, 2), (0.5, 4), (0.99, 5)])
def test_held_out_are_whole_identities_that_make_pairs(share, number):
    training, held = hold_out(LABELS, share, seed=1)
    assert sorted([*training, *held]) == list(range(42))
    people = set(LABELS[held])
    assert len(people) == number and not people & set(LABELS[training])
    assert all((label == LABELS).sum() > 1 for label in people)
    assert set(LABELS[hold_out(LABELS, share, seed=1)[1]]) == people


@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [0, 0, 1, 1], [0, 0, 1, 1, 2, 2]])
def test_nobody_is_held_out_where_too_few_are(labels):
    training, held = hold_out(np.array(labels), 0.5, seed=0)
    assert len(training) == len(labels) and not len(held)


def test_fewer_images_are_whole_identities():
    kept = fewer(LABELS, 20, seed=0)
    assert 2 <= len(kept) <= 20
    for label in set(LABELS[kept]):
        assert (LABELS[kept] == label).sum() == (label == LABELS).sum()
    assert len(fewer(LABELS, 42, seed=0)) == 42


def test_learning_rates():
    cosine = Config(schedule="cosine", warmup=0.1)
    rates = [factor(cosine, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10:] == pytest.approx([(1 + math.cos(math.pi * t / 90)) / 2 for t in range(90)])
    steps = Config(schedule="step", warmup=4, milestones=(0.5, 80), gamma=0.2)
    rates = [factor(steps, step, 100) for step in range(100)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0] + [1.0] * 46 + [0.2] * 30 + [0.04] * 20)
    assert [factor(Config(schedule="constant", warmup=0), step, 3) for step in range(3)] == [1, 1, 1]


def test_a_score_is_that_of_all_pairs():
    random = np.random.default_rng(0)
    features, labels = random.standard_normal((40, 5)).astype(np.float32), random.integers(0, 8, 40)
    genuine, impostor = [], []
    for i in range(40):
        for j in range(i):
            cosine = features[i] @ features[j] / np.sqrt((features[i] @ features[i]) * (features[j] @ features[j]))
            (genuine if labels[i] == labels[j] else impostor).append(cosine)
    threshold = sorted(impostor, reverse=True)[round(0.1 * len(impostor)) - 1]
    found = score(torch.from_numpy(features), labels, 0.1)
    assert found.tar == pytest.approx(np.mean(np.array(genuine) >= threshold - 1e-7))
    auc = np.mean([(g > np.array(impostor)).mean() for g in genuine])
    assert found.auc == pytest.approx(auc, abs=1e-5)  # cosines that differ by a rounding may swap


def test_the_better_model_has_more_true_accepts_then_the_larger_area():
    low, tied, high = Measured(1, tar=0.5, auc=0.9), Measured(2, tar=0.5, auc=0.95), Measured(3, tar=0.6, auc=0.1)
    assert tied.verifies_better_than(low) and high.verifies_better_than(tied) and low.verifies_better_than(None)
    assert not low.verifies_better_than(low)


def test_features_that_are_no_numbers_have_no_score():
    with pytest.raises(TrainingError, match="no numbers"):
        score(torch.tensor([[1.0], [float("nan")]]), np.array([0, 0]), 0.1)


def test_rates_of_layers_whose_names_are_torchs_own(tmp_path):
    """The trunk's parameters are known by Caffe's names, by which the text has its multipliers."""
    net = nets.load(tmp_path, nets.SMALL.replace('name: "fc"', 'name: "training"'))
    blobs = dict(Trunk(net, "frozen").named_blobs())
    keys = ["conv1.weight", "conv1.bias", "scale1.weight", "scale1.bias", "relu1.weight", "training.weight"]
    assert list(blobs) == [f"net.{key}" for key in [*keys, "training.bias"]]


def test_layers_of_one_name_that_share_their_blobs(tmp_path):
    """The trunk's keys, the text's multipliers and the tuned net's keys are the same names."""
    text = nets.inputs(data=(1, 4))
    for bottom, top, rate in (("data", "a", "lr_mult: 3"), ("a", "b", "")):
        blobs = f'param {{ name: "w" {rate} }} param {{ name: "b" }}'
        text += nets.layer("InnerProduct", bottom, top, f"inner_product_param {{ num_output: 4 }} {blobs}", "fc")
    net = nets.load(tmp_path, text)
    backbone = Backbone(net, "b", 4, net, None, frozenset(), (1, 1), 1, preset("mobilefacenet"))
    trunk = backbone.trunk("frozen")
    rates = backbone.multipliers()
    assert [(name, rates[name].lr_mult) for name, _ in trunk.named_blobs()] == [
        ("net.fc.weight", 3),
        ("net.fc.bias", 1),
    ]
    state = {name: 2 * blob for name, blob in trunk.state_dict().items()}
    tuned = backbone.tuned(state)
    for mine, old in zip(tuned.params, net.params, strict=True):
        np.testing.assert_array_equal(mine.data, 2 * old.data)
    parts.check_apart(net, "b")
    with pytest.raises(TrainingError, match=r'"fc".* shares blobs with layer "fc".*, which is frozen up to "a"'):
        parts.check_apart(net, "a")
