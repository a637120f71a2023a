"""Images changed at random: what each change does, that a draw is one image for good, and how a run shows it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from normface.cli.main import main
from normface.errors import TrainingError
from normface.finetune import augmentation
from normface.finetune.augmentation import CHANGES, Augmentation, parse
from normface.finetune.sampling import Sampler
from support.digit_images import flags, write_digits

SIZES = [(112, 96, 3), (112, 96, 1), (8, 8, 1), (3, 2, 3), (1, 1, 1)]


def picture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Smooth colours, as photographs have them."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 4, shape[2])).astype(np.uint8)
    return cv2.resize(noise, shape[1::-1], interpolation=cv2.INTER_CUBIC).reshape(shape)


class Fixed:
    """A generator whose uniform numbers are the middle of their range, or what is given."""

    def __init__(self, *values: object) -> None:
        self._values = list(values)

    def uniform(self, low: float, high: float, size: int | None = None) -> object:
        value = self._values.pop(0) if self._values else (low + high) / 2
        assert np.all((low <= np.asarray(value)) & (np.asarray(value) <= high))
        return np.broadcast_to(value, size).astype(float) if size else value

    def integers(self, low: int, high: int, size: int | None = None) -> object:
        value = self._values.pop(0) if self._values else low
        assert np.all((low <= np.asarray(value)) & (np.asarray(value) < high))
        return np.broadcast_to(value, size) if size else value

    def random(self) -> float:
        return self._values.pop(0)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_keeps_size_and_kind_and_leaves_its_image(name, shape):
    image = picture(shape)
    before = image.copy()
    for draw in range(20):
        changed = Augmentation(f"{name}:1")(image, draw)
        assert changed.shape == shape and changed.dtype == np.uint8
    assert np.array_equal(image, before)


def test_a_draw_is_one_image_for_good():
    image, face = picture((112, 96, 3)), Augmentation("face")
    first = [face(image, draw) for draw in range(64)]
    again = [Augmentation("face")(image, draw) for draw in reversed(range(64))][::-1]
    assert all(map(np.array_equal, first, again))
    assert len({one.tobytes() for one in first}) > 40  # a few stay as they are: (1 - p) of all changes is 0.16
    assert 2 <= sum(np.array_equal(one, image) for one in first) <= 24


def test_probabilities_are_kept():
    image = picture((12, 12, 3))
    changed = [not np.array_equal(Augmentation("grey:0.3")(image, draw), image) for draw in range(2000)]
    assert abs(np.mean(changed) - 0.3) < 4 * np.sqrt(0.21 / 2000)  # four standard deviations
    assert not any(not np.array_equal(Augmentation("grey:0")(image, draw), image) for draw in range(50))


def test_grey_is_opencvs():
    image = picture((40, 30, 3))
    expected = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(int)
    changed = augmentation.grey(image, Fixed()).astype(int)
    assert (changed == changed[..., :1]).all() and np.abs(changed[..., 0] - expected).max() <= 1  # it has 14 bits


def test_color_is_its_formula():
    image = picture((20, 20, 3)) // 2 + 40
    only = [augmentation.color(image, Fixed(values)) for values in ((1.2, 1, 1), (1, 0.8, 1), (1, 1, 0.7), (1, 1, 1))]
    pixels = image.astype(float)
    luma = (pixels * (0.114, 0.587, 0.299)).sum(axis=2, keepdims=True)
    expected = [1.2 * pixels, luma.mean() + 0.8 * (pixels - luma.mean()), luma + 0.7 * (pixels - luma), pixels]
    for found, wanted in zip(only, expected, strict=True):
        assert np.abs(found - np.clip(wanted, 0, 255)).max() <= 0.51  # rounded
    assert augmentation.color(np.full((4, 4, 1), 250, np.uint8), Fixed((1.3, 1, 1))).min() == 255  # not 325 - 256


def test_crop_moves_and_zooms():
    image = np.zeros((50, 40, 1), np.uint8)
    image[25, 20] = 255
    moved = augmentation.crop(image, Fixed(1.0, (0.05, -0.04))).reshape(50, 40)
    assert np.unravel_index(moved.argmax(), moved.shape) == (23, 22)  # 0.05 of 40 to the right, 0.04 of 50 up
    wide = np.zeros((41, 41, 1), np.uint8)
    wide[20, 10] = wide[20, 30] = 255
    zoomed = augmentation.crop(wide, Fixed(1.1, (0.0, 0.0))).reshape(41, 41)
    assert sorted(np.argsort(zoomed[20])[-2:]) == [9, 31]  # ten from the middle become eleven
    same = picture((30, 30, 3))
    assert np.array_equal(augmentation.crop(same, Fixed(1.0, (0.0, 0.0))), same)


def test_cutout_is_a_rectangle_of_the_mean():
    image = picture((60, 40, 3))
    changed = augmentation.cutout(image, Fixed((0.25, 0.4), 7, 3))
    other = (changed != image).any(axis=2)
    rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (7, 21, 3, 18)
    assert np.abs(changed[10, 10] - image.mean(axis=(0, 1))).max() <= 0.5


def test_compression_and_blur_are_of_the_strength_told():
    image = picture((112, 96, 3), 3)
    image[40:60, 30:50] = np.random.default_rng(0).integers(0, 256, (20, 20, 3))
    error = [np.abs(augmentation.jpeg(image, Fixed(q)).astype(int) - image).mean() for q in (20, 90)]
    assert error[0] > 1.2 * error[1] > 0
    flat = np.full((30, 30, 3), 90, np.uint8)
    for random in (Fixed(0.1, 0.5), Fixed(0.9, 1, 30.0)):  # a kernel's weights add up to 1
        assert np.abs(augmentation.blur(flat, random).astype(int) - 90).max() <= 1
    detail = [augmentation.low_resolution(image, Fixed(share, 2)).astype(float).std() for share in (0.25, 0.9)]
    assert detail[0] < detail[1]


def test_texts_are_read():
    assert parse("face") == {name: probability for name, (_, probability) in CHANGES.items()}
    assert parse("Crop, low_resolution:0.5") == {"crop": 0.4, "low-resolution": 0.5}
    assert parse("face,grey:0")["grey"] == 0 and len(parse("face,grey:0")) == len(CHANGES)
    for text, message in {
        "fase": r'"fase" is unknown \(did you mean "face"\?\); there are face, crop, color',
        "crop:2": r'"crop:2": expected a probability from 0 to 1, as in crop:0.5',
        "crop:x": "expected a probability",
        "crop:nan": "expected a probability",
        "": '"" is unknown',
        "face:0.5": '"face" is unknown',
    }.items():
        with pytest.raises(TrainingError, match=message):
            parse(text)


def test_every_image_of_every_batch_has_a_draw_of_its_own():
    labels = np.repeat(np.arange(3), 2)
    sampler = Sampler(labels, 12, seed=5, mirror=True, balanced=False, augment=True)
    draws = [sampler.batch(number).draws for number in range(8)]
    assert len(np.unique(np.concatenate(draws))) == 96  # though each image comes twice in a batch
    again = Sampler(labels, 12, seed=5, mirror=True, balanced=False, augment=True).batch(6)
    assert np.array_equal(again.draws, draws[6])
    plain = Sampler(labels, 12, seed=5, mirror=True, balanced=False).batch(6)
    assert plain.draws is None and np.array_equal(plain.places, again.places)
    assert np.array_equal(again.share(slice(1, None, 2)).draws, again.draws[1::2])


@pytest.fixture
def people(tmp_path) -> Path:
    return write_digits(tmp_path / "people", range(3), 4)


@pytest.mark.slow
def test_the_preview_writes_its_image_and_nothing_else(people, tmp_path, capsys):
    words = flags(people, tmp_path / "out", "--augment", "face", "--augment-preview", tmp_path / "p.png")
    words = [word for index, word in enumerate(words) if "--out" not in (word, words[index - 1])]
    assert main(words) == 0
    assert "8 images and what --augment makes of them" in capsys.readouterr().out
    sheet = cv2.imread(str(tmp_path / "p.png"))
    assert sheet.shape[0] > 1000 and sheet.std() > 20
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.png", "people"]
    for more, message in (
        (["--augment-preview", tmp_path / "p.jpg", "--augment", "face"], "expected the name of a .png to write"),
        (["--augment-preview", tmp_path / "no" / "p.png", "--augment", "face"], "/no does not exist"),
        (["--augment-preview", tmp_path / "p.png"], "give --augment face, or a list of changes"),
        (["--augment", "blurr"], '--augment: "blurr" is unknown (did you mean "blur"?)'),
        (["--augment", "face", "--freeze-backbone"], "--freeze-steps freezes the net too, and goes with --augment"),
    ):
        assert main(flags(people, tmp_path / "out", *more)) == 2
        assert message in capsys.readouterr().err
