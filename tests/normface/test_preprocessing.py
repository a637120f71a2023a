"""Pixels to a net's numbers: the formula, channel order, padding, resizing, presets."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from normface.errors import DataError, NormfaceError
from normface.preprocessing import PRESETS, Preprocessing, preset

PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 7


def test_the_formula_by_hand():
    found = Preprocessing((10.0, 20.0, 30.0), 0.5).batch([PIXELS, 255 - PIXELS])
    assert (found.shape, found.dtype) == ((2, 3, 2, 3), np.float32)
    for n, image in enumerate((PIXELS, 255 - PIXELS)):
        for c, mean in enumerate((10.0, 20.0, 30.0)):
            np.testing.assert_array_equal(found[n, c], (image[:, :, c].astype(float) - mean) * 0.5)


def test_the_mean_is_in_the_nets_order():
    """RGB: the first number belongs to red, the last of the stored channels."""
    found = Preprocessing((10.0, 20.0, 30.0), rgb=True).batch([PIXELS])[0]
    np.testing.assert_array_equal(found[0], PIXELS[:, :, 2].astype(float) - 10)
    np.testing.assert_array_equal(found[2], PIXELS[:, :, 0].astype(float) - 30)


def test_pixels_as_they_are():
    found = Preprocessing().batch([PIXELS[:, :, :1]])
    np.testing.assert_array_equal(found[0, 0], PIXELS[:, :, 0].astype(float))


def test_padding_is_centred_and_black():
    found = Preprocessing(fit="pad").fitted(PIXELS, (5, 6))
    expected = np.zeros((5, 6, 3), np.uint8)
    expected[1:3, 1:4] = PIXELS  # 3 rows and 3 columns are missing: one before, two after
    np.testing.assert_array_equal(found, expected)


def test_a_face_of_112x96_gets_eight_columns_each_side():
    face = np.full((112, 96, 3), 9, np.uint8)
    found = preset("mobilefacenet").fitted(face, (112, 112))
    assert (found[:, :8] == 0).all()
    assert (found[:, 8:104] == 9).all()
    assert (found[:, 104:] == 0).all()


def test_resizing_is_opencvs_bilinear():
    for image in (PIXELS, PIXELS[:, :, :1]):
        found = Preprocessing(fit="resize").fitted(image, (5, 4))
        expected = cv2.resize(image, (4, 5), interpolation=cv2.INTER_LINEAR).reshape(5, 4, -1)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("fit", ["exact", "pad", "resize"])
def test_an_image_of_the_right_size_stays(fit):
    assert Preprocessing(fit=fit).fitted(PIXELS, (2, 3)) is PIXELS


@pytest.mark.parametrize(
    ("fit", "size", "message"),
    [
        ("exact", (2, 4), r"^a\.png: is 2x3 \(HxW\), and the net takes 2x4; align .* or choose --fit pad .* or resize"),
        ("pad", (1, 9), r"^a\.png: is 2x3 \(HxW\), too large to be padded to 1x9; choose --fit resize"),
    ],
)
def test_an_image_that_does_not_fit_is_named(fit, size, message):
    with pytest.raises(DataError, match=message):
        Preprocessing(fit=fit).fitted(PIXELS, size, "a.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "padd"}, r'fit "padd" is unknown .did you mean "pad".*known: exact, pad, resize'),
        ({"scale": 0.0}, r"scale not 0"),
        ({"scale": float("nan")}, r"finite"),
        ({"mean": (1.0, float("inf"), 0.0)}, r"finite"),
        ({"size": (0, 3)}, r"size is height and width, 1 or more each; got \(0, 3\)"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(NormfaceError, match=message):
        Preprocessing(**options)


def test_options_replace_fields():
    start = preset("mobilefacenet")
    changed = start.with_options(scale=2.0, rgb=False, mean=None)
    assert (changed.scale, changed.rgb, changed.mean, changed.fit) == (2.0, False, start.mean, "pad")


def test_presets_are_the_published_numbers():
    """caffe-face and SphereFace: (x - 127.5) / 128; NormFace: (x - 128) * 0.0078125; MobileFaceNet as the first."""
    told = {name: (one.mean, one.scale, one.rgb, one.size) for name, one in PRESETS.items()}
    assert told == {
        "center-face": ((127.5,), 0.0078125, False, (112, 96)),
        "normface": ((128.0,), 0.0078125, False, (112, 96)),
        "sphereface": ((127.5,), 0.0078125, False, (112, 96)),
        "mobilefacenet": ((127.5,), 0.0078125, True, (112, 112)),
    }


def test_an_unknown_preset_lists_them():
    with pytest.raises(NormfaceError, match=r'preset "spherface" is unknown .did you mean "sphereface"'):
        preset("spherface")
