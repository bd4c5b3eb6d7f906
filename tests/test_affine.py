"""Geometric augmentation: pixels, boxes and landmarks move together, and kinds follow."""

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow as tf

from configs.record_settings import SAMPLE_TYPES, LabelThresholds
from configs.train_settings import AffineSettings
from data_prep.crops import Crops
from mtcnn_detector.errors import UserError
from tests.test_dataset import NOTHING, crop_set, settings
from train import affine, dataset
from train.affine import LANDMARK, NEGATIVE, PART, POSITIVE, UNLABELLED, Motion

SIZE, MARGIN = 48, 10
LABELS = LabelThresholds()


def motion(
    across: float = 0, down: float = 0, scale: float = 1, degrees: float = 0, count: int = 1
) -> Motion:
    values = (across, down, scale, np.radians(degrees))
    return Motion(*(tf.fill([count], tf.cast(value, tf.float32)) for value in values))


def face_crops(landmarks: Any, box: Any = (0.0, 0.0, 0.0, 0.0)) -> Any:
    """A crop with margin on which each landmark is a soft white spot."""
    side = SIZE + 2 * MARGIN
    down, across = np.mgrid[:side, :side] + 0.5
    image = np.zeros((side, side), float)
    for x, y in landmarks:
        squared = (across - MARGIN - SIZE * x) ** 2 + (down - MARGIN - SIZE * y) ** 2
        image += 250 * np.exp(-squared / 8)
    images = np.repeat(image.clip(0, 255).round().astype(np.uint8)[None, :, :, None], 3, axis=3)
    rows = np.array(landmarks, np.float32).T.reshape(1, 10)
    fields = (images, np.array([box], np.float32), rows, np.array([[100]], np.float32))
    return Crops(*map(tf.constant, fields))


FAR = [(0.2, 0.25), (0.8, 0.2), (0.5, 0.5), (0.25, 0.8), (0.75, 0.85)]


@pytest.mark.parametrize(
    "change",
    [
        {"across": 0.1, "down": -0.05},
        {"scale": 1.2},
        {"scale": 0.9, "across": -0.05},
        {"degrees": 30},
        {"degrees": -20, "scale": 1.1, "across": 0.08, "down": 0.08},
    ],
)
def test_landmarks_lie_where_the_pixels_have_gone(change: Any) -> None:
    crops: Any
    crops, _ = affine.apply_motion(
        face_crops(FAR), np.array([LANDMARK]), SIZE, motion(**change), LabelThresholds()
    )
    assert crops.images.shape == (1, SIZE, SIZE, 3)
    image = crops.images[0, :, :, 0].numpy().astype(float)
    for x, y in np.asarray(crops.landmarks).reshape(2, 5).T * SIZE:
        down, across = np.mgrid[:SIZE, :SIZE] + 0.5
        near = image * ((across - x) ** 2 + (down - y) ** 2 < 36)
        assert near.sum() > 1000
        assert (near * across).sum() / near.sum() == pytest.approx(x, abs=0.35)
        assert (near * down).sum() / near.sum() == pytest.approx(y, abs=0.35)


def test_a_window_that_stays_gives_the_middle_exactly() -> None:
    rng = np.random.default_rng(0)
    crops = face_crops(FAR)
    noise = rng.integers(0, 256, crops.images.shape).astype(np.uint8)
    crops = crops._replace(images=tf.constant(noise))
    same: Any
    same, kinds = affine.apply_motion(
        crops, np.array([NEGATIVE]), SIZE, motion(), LabelThresholds()
    )
    inside = slice(MARGIN, MARGIN + SIZE)
    assert (same.images.numpy() == noise[:, inside, inside]).all()
    np.testing.assert_allclose(same.landmarks, crops.landmarks, atol=1e-6)
    assert kinds.numpy().tolist() == [NEGATIVE]


def test_boxes_and_sides_by_hand() -> None:
    # The face is the window; the new window is as large again by a quarter, a fifth to the right.
    crops: Any
    crops, _ = affine.apply_motion(
        face_crops(FAR),
        np.array([POSITIVE]),
        SIZE,
        motion(across=0.2, scale=1.25),
        LabelThresholds(),
    )
    np.testing.assert_allclose(crops.sides, [[125]])
    np.testing.assert_allclose(crops.boxes, [[-0.06, 0.1, -0.26, -0.1]], atol=1e-6)


def test_boxes_keep_their_size_and_follow_the_turn() -> None:
    box = (0.25, 0.25, 0.0, -0.5)  # 0.75 x 0.25, its centre to the right of the middle
    crops: Any
    crops, _ = affine.apply_motion(
        face_crops(FAR, box), np.array([PART]), SIZE, motion(degrees=90), LabelThresholds()
    )
    first, last = np.asarray(crops.boxes)[0, :2], np.asarray(crops.boxes)[0, 2:] + 1
    np.testing.assert_allclose(last - first, [0.75, 0.25], atol=1e-6)
    # What lies to the right of the middle lies above it in a window that is turned clockwise.
    np.testing.assert_allclose((first + last) / 2, [0.375, 0.375], atol=1e-6)


@pytest.mark.parametrize(
    "kind, across, expected",
    [
        (POSITIVE, 0.1, POSITIVE),  # IoU 0.82
        (POSITIVE, 0.3, PART),  # 0.54
        (PART, 0.1, POSITIVE),
        (PART, 0.5, UNLABELLED),  # 0.33
        (NEGATIVE, 0.1, NEGATIVE),
        (LANDMARK, 0.5, LANDMARK),
    ],
)
def test_kinds_follow_from_the_new_iou(kind: Any, across: Any, expected: Any) -> None:
    box = (np.nan,) * 4 if kind in (NEGATIVE, LANDMARK) else (0.0,) * 4
    crops = face_crops(FAR, box)
    _, kinds = affine.apply_motion(
        crops, np.array([kind]), SIZE, motion(across=across), LabelThresholds()
    )
    assert kinds.numpy().tolist() == [expected]


def test_a_narrow_face_is_judged_by_the_square_about_it() -> None:
    crops = face_crops(FAR, (0.25, 0.0, -0.25, 0.0))  # half as wide as the window
    for squared, expected in ((True, POSITIVE), (False, PART)):
        labels = replace(LabelThresholds(), squared_faces=squared)
        _, kinds = affine.apply_motion(crops, np.array([POSITIVE]), SIZE, motion(), labels)
        assert kinds.numpy().tolist() == [expected]


def test_draws_keep_to_the_settings() -> None:
    kinds = np.tile(range(len(SAMPLE_TYPES)), 500)
    settings = AffineSettings(0.5, 30, rotation=10, shift=0.1, scale=1.2)
    drawn = affine.draw_motion(tf.constant([1, 2]), kinds, settings)
    across, down, scale, angle = (part.numpy() for part in drawn)
    still = (across == 0) & (down == 0) & (scale == 1) & (angle == 0)
    assert 0.45 < still.mean() < 0.55
    for shift in (np.abs(across), np.abs(down)):
        assert 0.045 < shift[kinds == NEGATIVE].max() <= 0.05 + 1e-6
        assert 0.09 < shift[kinds != NEGATIVE].max() <= 0.1 + 1e-6
    assert 1 / 1.2 - 1e-5 <= scale.min() < 0.85 and 1.18 < scale.max() <= 1.2 + 1e-5
    assert 9.5 < np.degrees(np.abs(angle[kinds != LANDMARK])).max() <= 10 + 1e-4
    assert 29 < np.degrees(np.abs(angle[kinds == LANDMARK])).max() <= 30 + 1e-4


def test_batches_of_crops_with_margin_are_drawn_anew_in_every_pass() -> None:
    held = crop_set(dict.fromkeys(SAMPLE_TYPES, 4), size=18)
    moving = AffineSettings(1, 0, rotation=5, shift=0.1, scale=1.1)
    train = replace(settings(batch=16, batch_fractions=(0.25,) * 4, steps=2), affine=moving)
    first, second = (
        b[0].numpy() for b in dataset.batches(held, "pnet", train, 1, view=dataset.View(12))
    )
    assert first.shape == second.shape == (16, 12, 12, 3)
    assert len({crop.tobytes() for crop in [*first, *second]}) == 32
    again = next(iter(dataset.batches(held, "pnet", train, 1, 1, view=dataset.View(12))))[0].numpy()
    assert (again == second).all()


def test_without_affine_a_margin_is_cut_off() -> None:
    held = crop_set(dict.fromkeys(SAMPLE_TYPES, 4), size=18)
    train = settings(NOTHING, batch=16, batch_fractions=(0.25,) * 4, steps=1)
    (batch,) = dataset.batches(held, "pnet", train, 1, view=dataset.View(12))
    (parts,) = dataset.validation_batches(held, "pnet", 16, view=dataset.View(12))
    middles = {crop[3:15, 3:15].tobytes() for crop in held.crops.images}
    for images in (batch[0], parts.images):
        pixels = (np.asarray(images) * 128 + 127.5).round().astype(np.uint8)
        assert {crop.tobytes() for crop in pixels} == middles


def test_impossible_settings_are_refused() -> None:
    for key, value in {"probability": 2, "shift": -1, "scale": 0.5, "rotation": 200}.items():
        with pytest.raises(UserError, match=key):
            AffineSettings(**{"probability": 1, "landmark_rotation": 0, key: value})


def test_margin_crops_show_the_window_in_their_middle() -> None:
    from data_prep.crops import cut_crops
    from data_prep.sampling import Targets, with_faces

    rng = np.random.default_rng(0)
    image: Any = cv2.resize(rng.integers(0, 256, (20, 20, 3)).astype(np.uint8), (200, 200))
    faces = np.array([[60.0, 70.0, 110.0, 120.0]])
    landmarks = np.array([[[70, 80], [100, 80], [85, 95], [72, 110], [98, 110]]], float)
    targets = Targets(faces, landmarks, np.ones(1), np.zeros((0, 4)))
    windows = with_faces(np.array([[57, 64, 113, 120]]), np.array([0]), targets)
    plain, wide = cut_crops(image, windows, 24), cut_crops(image, windows, 24, 6)
    assert wide.images.shape == (1, 36, 36, 3)
    difference = wide.images[:, 6:30, 6:30].astype(int) - plain.images
    assert np.abs(difference).mean() < 2
    # 14 px are a quarter of 56: here a margin is whole pixels, and the targets are the same.
    np.testing.assert_allclose(wide.boxes, plain.boxes, atol=1e-6)
    np.testing.assert_allclose(wide.landmarks, plain.landmarks, atol=1e-6)
    np.testing.assert_allclose(wide.sides, plain.sides)
    # 5 px of 24 are 11.67 of 56: the crop shows 80 px in 34, so its middle is 56.47 px wide.
    odd = cut_crops(image, windows, 24, 5)
    np.testing.assert_allclose(odd.sides, [[80 * 24 / 34]], rtol=1e-6)
    left = 57 - 12 + 80 * 5 / 34
    np.testing.assert_allclose(odd.boxes[0, 0], (60 - left) / odd.sides[0, 0], rtol=1e-4)
