"""The transform onto the template: against other solutions of the same least squares, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from normface.alignment import similarity_transform, template
from normface.errors import DataError

ANISTON = np.array(
    [[105.8306, 109.8005], [147.9323, 112.5533], [121.3533, 139.1172], [106.1169, 155.6359], [144.3622, 156.3451]]
)
"""The landmarks that caffe-face publishes for its photo Jennifer_Aniston_0016.jpg."""
ANISTON_TO_112X96 = [[0.849414369, 0.0386974283, -63.4639395], [-0.0386974283, 0.849414369, -37.6653953]]
"""What skimage.transform.SimilarityTransform (0.26) gives for them."""


def test_the_published_face():
    found = similarity_transform(ANISTON, template())
    np.testing.assert_allclose(found, ANISTON_TO_112X96, rtol=0, atol=1e-6)  # as many digits as were written down


@pytest.mark.parametrize("size", [(112, 96), (112, 112)])
def test_scikit_image_gives_the_same(size):
    transform = pytest.importorskip("skimage.transform", reason="scikit-image is not installed")
    other = transform.SimilarityTransform.from_estimate(ANISTON, template(size))
    np.testing.assert_allclose(similarity_transform(ANISTON, template(size)), other.params[:2], rtol=0, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_the_linear_system_gives_the_same(seed):
    """x' = a x - c y + e, y' = c x + a y + f, as plain least squares in (a, c, e, f)."""
    random = np.random.default_rng(seed)
    source, target = random.normal(50, 30, (2, int(random.integers(2, 9)), 2))
    zero, one = np.zeros(len(source)), np.ones(len(source))
    system = np.concatenate(
        [np.stack([source[:, 0], -source[:, 1], one, zero], 1), np.stack([source[:, 1], source[:, 0], zero, one], 1)]
    )
    (a, c, e, f), *_ = np.linalg.lstsq(system, np.concatenate([target[:, 0], target[:, 1]]), rcond=None)
    np.testing.assert_allclose(similarity_transform(source, target), [[a, -c, e], [c, a, f]], rtol=1e-8, atol=1e-8)


def test_a_mirrored_face_is_not_mirrored_back():
    mirrored = template() * [-1, 1]
    matrix = similarity_transform(mirrored, template())
    assert np.linalg.det(matrix[:, :2]) > 0


def test_the_wider_template_has_eight_columns_more_on_each_side():
    np.testing.assert_allclose(template((112, 112)) - template((112, 96)), [[8, 0]] * 5, rtol=0, atol=1e-12)
    assert template()[0].tolist() == [30.2946, 51.6963]


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.full((5, 2), 7.0), r"landmarks lie all in one place, at \(7, 7\)"),
        (np.full((5, 2), 1e9) + np.arange(10).reshape(5, 2) * 1e-3, "all in one place"),
        (np.full((5, 2), np.nan), "not finite"),
        (np.full((5, 2), np.inf), "not finite"),
        (np.zeros((1, 2)), "2 or more points"),
        (np.zeros((5, 3)), "2 or more points"),
        # Its conjugate turned: sum conj(p) q = 0, and no rotation is better than any other.
        (np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1], [0, 0]]) * [1, -1], "shrinks them to a point"),
    ],
)
def test_points_that_fix_no_transform(points, message):
    target = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1], [0, 0]]) if "shrinks" in message else template()
    with pytest.raises(DataError, match=message):
        similarity_transform(points, target)


def test_the_size_is_one_of_two():
    with pytest.raises(DataError, match=r"112x96 or 112x112 \(height x width\), got \(96, 112\)"):
        template((96, 112))
