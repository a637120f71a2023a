"""CRF-RNN's layer, against a lattice of points in a dictionary that follows its definition, and against Gaussians."""

from __future__ import annotations

import math

import caffeport
import numpy as np
import pytest
import torch
from caffeport.to_torch.modules.mean_field import Lattice
from support import nets
from support.backends import assert_gradients, numbers


def simplex(feature):
    """{vertex: share} of one point: the vertices' first d coordinates."""
    d = len(feature)
    deviation = math.sqrt(2 / 3) * (d + 1)
    scaled = [value * deviation / math.sqrt((i + 2) * (i + 1)) for i, value in enumerate(feature)]
    elevated = [sum(scaled)] + [sum(scaled[j:]) - j * scaled[j - 1] for j in range(1, d + 1)]
    base = [(d + 1) * round(value / (d + 1)) for value in elevated]
    excess = sum(base) // (d + 1)
    rank = [0] * (d + 1)
    for i in range(d + 1):
        for j in range(i + 1, d + 1):
            first = elevated[i] - base[i] < elevated[j] - base[j]
            rank[i if first else j] += 1
    for i in range(d + 1):
        rank[i] += excess
        turn = (rank[i] < 0) - (rank[i] > d)
        rank[i], base[i] = rank[i] + turn * (d + 1), base[i] + turn * (d + 1)
    shares = [0.0] * (d + 2)
    for i in range(d + 1):
        value = (elevated[i] - base[i]) / (d + 1)
        shares[d - rank[i]] += value
        shares[d - rank[i] + 1] -= value
    shares[0] += 1 + shares[d + 1]
    vertices = {}
    for remainder in range(d + 1):
        key = tuple(base[i] + (remainder if rank[i] <= d - remainder else remainder - (d + 1)) for i in range(d))
        vertices[key] = vertices.get(key, 0) + shares[remainder]
    return vertices


def lattice_filter(features, rows):
    """Rows (C, N) splat to the vertices, blurred along each axis, and read back."""
    d, points = features.shape[1], [simplex(feature) for feature in features]
    values = {}
    for n, point in enumerate(points):
        for key, share in point.items():
            values[key] = values.get(key, 0) + share * rows[:, n]
    for axis in range(d + 1):
        blurred = {}
        for key, value in values.items():
            sides = []
            for sign in (-1, 1):
                side = [k + sign for k in key]
                if axis < d:
                    side[axis] = key[axis] - sign * d
                sides.append(values.get(tuple(side), 0))
            blurred[key] = value + 0.5 * (sides[0] + sides[1])
        values = blurred
    top = [sum(share * values[key] for key, share in point.items()) for point in points]
    return np.stack(top, 1) / (1 + 2.0**-d)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_the_lattice(d):
    features = np.random.default_rng(d).uniform(-3, 3, (40, d)).astype(np.float32)
    rows = numbers(3, 40)
    made = Lattice(features).filter(torch.tensor(rows).double())
    np.testing.assert_allclose(made, lattice_filter(features.astype(np.float64), rows.astype(np.float64)), 1e-4, 1e-5)


def test_the_lattice_comes_near_to_a_gaussian():
    """What it is for, whatever its steps: exp(-|f - g|^2 / 2), normalised, within some hundredths."""
    places = np.stack(np.meshgrid(np.arange(20), np.arange(20)), -1).reshape(-1, 2) / 4
    smooth = np.sin(places @ [1.0, 0.5])[None]
    weights = np.exp(-((places[:, None] - places) ** 2).sum(-1) / 2)
    exact = smooth @ weights.T / weights.sum(1)
    lattice = Lattice(places.astype(np.float32))
    made = lattice.filter(torch.tensor(smooth)) / lattice.filter(torch.ones(1, 400).double())
    error = np.abs(made.numpy() - exact)
    assert error.mean() < 0.02 and error.max() < 0.1  # the most in the corners


PARAMETERS = "num_iterations: 3 theta_alpha: 8 theta_beta: 0.5 theta_gamma: 3 spatial_filter_weight: 2"


def crf(tmp_path, text=PARAMETERS, shape=(2, 3, 4, 5)):
    image = (shape[0], 3, *shape[2:])
    layers = nets.inputs(u=shape, q=shape, image=image)
    layers += nets.layer("MultiStageMeanfield", "u q image", "y", f"multi_stage_meanfield_param {{ {text} }}")
    return nets.load(tmp_path, layers)


def test_mean_field(tmp_path):
    net = crf(tmp_path)
    for param, value in zip(net.layers[-1].params, (2, 1, -1), strict=True):
        np.testing.assert_array_equal(param.data, value * np.eye(3)[None, None])
        param.data = param.data + 0.3 * numbers(1, 1, 3, 3, seed=abs(value) + (value < 0) * 5)
    spatial, bilateral, matrix = (blob.astype(np.float64)[0, 0] for blob in net.layers[-1].blobs)
    unary, start, image = numbers(2, 3, 4, 5), numbers(2, 3, 4, 5, seed=1), numbers(2, 3, 4, 5, seed=2)
    made = net.to_torch()(*map(torch.tensor, (unary, start, image))).detach().numpy()
    rows, columns = np.divmod(np.arange(20), 5)
    for n in range(2):
        place = np.stack([columns, rows], 1)
        colour = image[n].reshape(3, -1).T.astype(np.float64)
        features = [place / 3, np.concatenate([place / 8, colour / 0.5], 1)]
        norms = [lattice_filter(feature, np.ones((1, 20))) for feature in features]
        x = start[n].reshape(3, -1).astype(np.float64)
        for _ in range(3):
            q = np.exp(x) / np.exp(x).sum(0)
            s, b = (lattice_filter(feature, q) / norm for feature, norm in zip(features, norms, strict=True))
            x = unary[n].reshape(3, -1) - matrix @ (spatial @ s + bilateral @ b)
        np.testing.assert_allclose(made[n].reshape(3, -1), x, 1e-3, 1e-4)  # three rounds of float32 filters


@pytest.mark.slow
def test_mean_fields_gradient(tmp_path):
    net = crf(tmp_path, shape=(1, 2, 3, 3))
    assert_gradients(net, numbers(1, 2, 3, 3), numbers(1, 2, 3, 3, seed=1), numbers(1, 3, 3, 3, seed=2))


def test_no_onnx(tmp_path):
    with pytest.raises(caffeport.ExportError, match="a lattice that is built from the image's colours"):
        crf(tmp_path).to_onnx(tmp_path / "n.onnx")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("theta_alpha: 1 theta_beta: 1", "expected a theta_gamma above 0, got None"),
        (PARAMETERS.replace("3", "1", 1), "num_iterations from 2"),
    ],
)
def test_refusals(tmp_path, text, words):
    with pytest.raises(caffeport.NetError, match=words):
        crf(tmp_path, text)
