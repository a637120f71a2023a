"""What a solver's text may say, what is refused, and the learning rates by their formulas."""

from __future__ import annotations

import math

import pytest
from caffeport import PrototxtError
from normface.errors import TrainingError
from normface.solver import parameters
from normface.solver.policies import current_step, learning_rate
from support import nets

GOOD = 'net: "net.prototxt"\nbase_lr: 0.1\nlr_policy: "fixed"\n'


def read(folder, text, **options):
    return parameters.read(nets.write(folder, text, "solver.prototxt"), **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD + "lr_polcy: 1",
            r'solver\.prototxt:4:1: a solver has no field "lr_polcy" \(did you mean "lr_policy"\?\)',
        ),
        (GOOD + 'max_iter: "ten"', r'solver\.prototxt:4:1: "max_iter" expects a number'),
        (GOOD + "max_iter: 1 max_iter: 2", r'"max_iter" is given twice'),
        (GOOD + 'layer { name: "a" }', r'"layer" belongs to a net; expected the text of a solver'),
        (GOOD + "net_param: 3", r'"net_param" expects a message'),
        ('lr_policy: "fixed"', r"expected one of net, net_param, train_net, train_net_param, got none"),
        (GOOD + 'train_net: "b"', r"expected one of .*, got net and train_net"),
        (GOOD + 'type: "Adm"', r'unknown solver type "Adm" \(did you mean "Adam"\?\); known: SGD, Nesterov'),
        (GOOD + 'type: "SGD" solver_type: SGD', r'give "type" or the old "solver_type", not both'),
        (GOOD + "solver_type: SDG", r"expects one of SGD, NESTEROV"),
        (GOOD.replace("fixed", "stpe"), r'unknown lr_policy "stpe" \(did you mean "step"\?\); known: fixed, step'),
        ('net: "n"', r'unknown lr_policy ""'),
        (GOOD.replace("fixed", "step"), r"a stepsize of 1 or more for lr_policy step, got 0"),
        (GOOD.replace("fixed", "sigmoid"), r"a stepsize of 1 or more for lr_policy sigmoid"),
        (GOOD.replace("fixed", "exp") + "gamma: -1", r"a gamma of 0 or more for lr_policy exp, got -1"),
        (GOOD.replace("fixed", "poly"), r"a max_iter of 1 or more for lr_policy poly"),
        (GOOD + 'type: "AdaGrad" momentum: 0.9', r"momentum 0 for type AdaGrad, which has none, got 0\.9"),
        (GOOD + 'type: "RMSProp" momentum: 0.9', r"momentum 0 for type RMSProp"),
        (GOOD + 'type: "RMSProp" rms_decay: 1', r"rms_decay in \[0, 1\), got 1"),
        (GOOD + 'weight_decay: 0.1 regularization_type: "L3"', r'regularization_type "L1" or "L2", got "L3"'),
        (GOOD + "iter_size: 0", r"iter_size of 1 or more, got 0"),
        (GOOD + "average_loss: 0", r"average_loss of 1 or more"),
        (GOOD + "display: -1", r"display of 0 or more"),
        (GOOD + "test_iter: 3", r"test_iter needs a test_interval of 1 or more, got 0"),
        (GOOD + 'test_net: "t"', r"expected a test_iter for every test net \(1 or more\), got 0"),
        (GOOD.replace("net:", "train_net:") + "test_iter: 1", r"every test net \(0\), got 1"),
        (GOOD + "test_iter: 1 test_interval: 1 test_state {} test_state {}", r"one for each of the 1 test nets, got 2"),
        (GOOD + "test_iter: -1 test_interval: 1", r"test_iter of 0 or more"),
        (GOOD.replace("fixed", "step") + "stepsize: 3 gamma: -1", r"a gamma of 0 or more for lr_policy step, got -1"),
        (GOOD.replace("fixed", "multistep") + "gamma: -0.1", r"a gamma of 0 or more for lr_policy multistep"),
    ],
)
def test_refused(text, message, tmp_path):
    with pytest.raises((TrainingError, PrototxtError), match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_solver_that_is_no_file(tmp_path):
    with pytest.raises(PrototxtError, match="No such file"):
        parameters.read(tmp_path / "none.prototxt")


def test_a_net_given_apart_needs_none_in_the_text(tmp_path):
    assert read(tmp_path, 'lr_policy: "fixed" test_iter: 2 test_interval: 1', own_net=True).fields.test_iter == [2]


def test_the_prefix_is_caffes(tmp_path):
    assert read(tmp_path, GOOD).fields.snapshot_prefix == str(tmp_path / "solver")
    assert read(tmp_path, GOOD + f'snapshot_prefix: "{tmp_path}"').fields.snapshot_prefix == str(tmp_path / "solver")
    assert read(tmp_path, GOOD + 'snapshot_prefix: "a/b"').fields.snapshot_prefix == "a/b"


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        ('lr_policy: "fixed"', lambda t: 0.5),
        ('lr_policy: "step" gamma: 0.3 stepsize: 7', lambda t: 0.5 * 0.3 ** (t // 7)),
        ('lr_policy: "exp" gamma: 0.97', lambda t: 0.5 * 0.97**t),
        ('lr_policy: "inv" gamma: 0.1 power: 0.75', lambda t: 0.5 * (1 + 0.1 * t) ** -0.75),
        (
            'lr_policy: "multistep" gamma: 0.1 stepvalue: 5 stepvalue: 11',
            lambda t: 0.5 * 0.1 ** ((t >= 5) + (t >= 11)),
        ),
        ('lr_policy: "poly" power: 2 max_iter: 30', lambda t: 0.5 * (1 - t / 30) ** 2),
        ('lr_policy: "sigmoid" gamma: 0.5 stepsize: 10', lambda t: 0.5 / (1 + math.exp(-0.5 * (t - 10)))),
        ('lr_policy: "sigmoid" gamma: -0.5 stepsize: 10', lambda t: 0.5 / (1 + math.exp(0.5 * (t - 10)))),
        ('lr_policy: "sigmoid" gamma: -0.5 stepsize: 0', lambda t: 0.5 / (1 + math.exp(0.5 * t))),
        ('lr_policy: "sigmoid" gamma: 0.5 stepsize: -10', lambda t: 0.5 / (1 + math.exp(-0.5 * (t + 10)))),
        ('lr_policy: "sigmoid" stepsize: 10', lambda t: 0.25),
        ('lr_policy: "inv" gamma: -0.02 power: 0.75', lambda t: 0.5 * (1 - 0.02 * t) ** -0.75),
        ('lr_policy: "inv" gamma: -0.02 power: -1', lambda t: 0.5 * (1 - 0.02 * t)),
        ('lr_policy: "poly" power: -0.5 max_iter: 30', lambda t: 0.5 / math.sqrt(1 - t / 30)),
        ('lr_policy: "step" stepsize: 7', lambda t: 0.5 * (t < 7)),
    ],
)
def test_policies_by_their_formulas(settings, formula, tmp_path):
    fields = read(tmp_path, f'net: "n" base_lr: 0.5 {settings}').fields
    step = 0
    for t in range(30):
        step = current_step(fields, t, step)
        assert learning_rate(fields, t, step) == pytest.approx(formula(t), rel=1e-12), t


def test_a_sigmoid_of_negative_gamma_falls(tmp_path):
    """As Caffe's text says of the policy, "sigmoid decay"; a positive gamma lets the rate rise."""
    rates = {}
    for gamma in ("-0.3", "0.3"):
        fields = read(
            tmp_path, f'net: "n" base_lr: 1 lr_policy: "sigmoid" gamma: {gamma} stepsize: 20 max_iter: 40'
        ).fields
        rates[gamma] = [learning_rate(fields, t, 0) for t in range(40)]
    assert rates["-0.3"] == sorted(rates["-0.3"], reverse=True) and rates["0.3"] == sorted(rates["0.3"])
    assert rates["-0.3"][20] == 0.5 and rates["-0.3"][0] > 0.99 and rates["-0.3"][-1] < 0.01


@pytest.mark.parametrize("gamma", [-1e6, 1e6])
@pytest.mark.parametrize("t", [0, 10, 100_000])
def test_no_sigmoid_overflows(tmp_path, gamma, t):
    fields = read(tmp_path, f'net: "n" base_lr: 1 lr_policy: "sigmoid" gamma: {gamma} stepsize: 10').fields
    expected = 0.5 if t == 10 else float((t > 10) == (gamma > 0))
    assert learning_rate(fields, t, 0) == pytest.approx(expected, abs=1e-300)


def test_inv_has_no_rate_where_its_base_is_negative(tmp_path):
    fields = read(tmp_path, 'net: "n" base_lr: 0.5 lr_policy: "inv" gamma: -0.1 power: 0.75').fields
    assert learning_rate(fields, 9, 0) == pytest.approx(0.5 * 0.1**-0.75)
    for t in (10, 11):
        with pytest.raises(TrainingError, match=rf"iteration {t}: lr_policy inv has no learning rate"):
            learning_rate(fields, t, 0)


@pytest.mark.parametrize(
    "more",
    [
        'lr_policy: "poly" max_iter: 0',  # nothing to train: a test and a snapshot
        'lr_policy: "fixed" test_iter: 0 test_interval: 1000000',  # a test net that only other programs run
        'lr_policy: "fixed" test_interval: -1',  # without a test net
        'lr_policy: "fixed" momentum: 1.5 base_lr: -1 clip_gradients: -3 delta: 0',
        'lr_policy: "multistep" gamma: 0.1 stepvalue: 9 stepvalue: 3',
        'lr_policy: "fixed" regularization_type: "none"',  # without a decay
        'lr_policy: "fixed" random_seed: -5 device_id: 3 solver_mode: GPU debug_info: true snapshot_diff: true',
    ],
)
def test_what_caffe_runs_with_is_taken(tmp_path, more):
    read(tmp_path, f'net: "n" {more}')


def test_no_rate_beyond_the_end(tmp_path):
    fields = read(tmp_path, 'net: "n" base_lr: 0.5 lr_policy: "poly" power: 0.5 max_iter: 10').fields
    assert learning_rate(fields, 10, 0) == 0
    with pytest.raises(TrainingError, match=r"iteration 11: lr_policy poly has no learning rate beyond max_iter"):
        learning_rate(fields, 11, 0)


def test_rates_at_the_edge_of_numbers(tmp_path):
    fields = read(tmp_path, 'net: "n" base_lr: 1 lr_policy: "sigmoid" gamma: 1e6 stepsize: 10').fields
    assert learning_rate(fields, 0, 0) == pytest.approx(0, abs=1e-300)
    fields = read(tmp_path, 'net: "n" base_lr: 1 lr_policy: "exp" gamma: 1e6').fields
    with pytest.raises(TrainingError, match=r"lr_policy exp has no learning rate"):
        learning_rate(fields, 100, 0)
