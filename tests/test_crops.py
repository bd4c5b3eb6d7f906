"""Crops and their targets: exact, in RGB, and pixel for pixel what the detector cuts."""

from pathlib import Path

import cv2
import numpy as np

from data_prep.crops import Crops, cut_crops
from data_prep.sampling import Windows
from mtcnn_detector import boxes, pixels

IMAGE = np.random.default_rng(0).integers(1, 256, (90, 120, 3), np.uint8)
PLACES = np.array([[10, 20, 34, 44], [3, 5, 40, 42], [-9, -7, 20, 22], [100, 70, 141, 111]])
FACES = np.array([[11.25, 21.5, 33, 47.125], [0, 0, 44, 50.3], [1, 2, 20, 23], [99, 71, 120, 90]])
LANDMARKS = np.random.default_rng(1).uniform(0, 90, (4, 5, 2))


def windows(degrees: float = 0.0) -> Windows:
    return Windows(PLACES, FACES, LANDMARKS, np.full(4, degrees))


def test_targets_are_exact() -> None:
    """Peers' fault 2: with two decimals half a pixel is lost at 48 pixels."""
    crops = cut_crops(IMAGE, windows(), 12)
    assert crops.boxes.dtype == crops.landmarks.dtype == crops.sides.dtype == np.float32
    assert (crops.boxes == boxes.encode_offsets(FACES, PLACES).astype(np.float32)).all()
    assert (crops.landmarks == boxes.encode_landmarks(LANDMARKS, PLACES).astype(np.float32)).all()
    assert crops.sides.tolist() == [[24], [37], [29], [41]]
    by_hand = [1.25 / 24, 1.5 / 24, -1 / 24, 3.125 / 24]
    np.testing.assert_allclose(crops.boxes[0], by_hand, atol=1e-8)
    x, y = (LANDMARKS[0] - [10, 20]).T / 24
    np.testing.assert_allclose(crops.landmarks[0], [*x, *y], atol=1e-7)


def test_targets_are_exact_far_from_the_corner() -> None:
    place, face = np.array([[4801, 13, 4842, 54]]), np.array([[4803.5, 20.25, 4840, 51]])
    far = Windows(place, face, LANDMARKS[:1] + np.array([4800, 0]), np.zeros(1))
    crops = cut_crops(np.zeros((60, 5000, 3), np.uint8), far, 48)
    by_hand = [2.5 / 41, 7.25 / 41, -2 / 41, -3 / 41]
    np.testing.assert_allclose(crops.boxes[0], by_hand, atol=1e-8)
    np.testing.assert_allclose(crops.landmarks[0, :5], (LANDMARKS[0, :, 0] - 1) / 41, atol=1e-7)


def test_targets_lead_back_to_the_face() -> None:
    crops = cut_crops(IMAGE, windows(), 48)
    places = PLACES.astype(float)
    back = boxes.decode_offsets(crops.boxes.astype(float), places, places[:, 2:] - places[:, :2])
    np.testing.assert_allclose(back, FACES, atol=1e-5)
    landmarks = boxes.decode_landmarks(crops.landmarks.astype(float), places)
    np.testing.assert_allclose(landmarks, LANDMARKS, atol=1e-4)


def test_pixels_are_what_the_detector_cuts() -> None:
    for size in (12, 24, 48):
        crops = cut_crops(IMAGE, windows(), size)
        assert (crops.images == pixels.cut(IMAGE, PLACES, size)).all()


def test_a_window_of_the_right_size_is_copied() -> None:
    crops = cut_crops(IMAGE, windows(), 24)
    assert (crops.images[0] == IMAGE[20:44, 10:34]).all()


def test_outside_the_image_is_black() -> None:
    corner = Windows(np.array([[-6, -9, 18, 15]]), FACES[:1], LANDMARKS[:1], np.zeros(1))
    crop = cut_crops(IMAGE, corner, 24).images[0]
    assert not crop[:9].any()
    assert not crop[:, :6].any()
    assert (crop[9:, 6:] == IMAGE[:15, :18]).all()


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    """Peers' fault 7: crops as OpenCV reads them, for a consumer that feeds RGB."""
    red = np.zeros((40, 60, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / "red.png"), red)
    image = pixels.read_image(tmp_path / "red.png")
    assert image is not None
    inside = Windows(np.array([[5, 5, 35, 35]]), FACES[:1], LANDMARKS[:1], np.zeros(1))
    for turned in (0.0, 10.0):
        crop = cut_crops(image, inside._replace(degrees=np.array([turned])), 12).images[0]
        assert crop[3:9, 3:9].reshape(-1, 3).tolist() == [[255, 0, 0]] * 36


def test_turned_windows_keep_their_places_among_upright_ones() -> None:
    mixed = windows()._replace(degrees=np.array([0.0, 30.0, 0.0, -30.0]))
    crops = cut_crops(IMAGE, mixed, 24)
    upright = pixels.cut(IMAGE, PLACES, 24)
    assert [(a == b).all() for a, b in zip(crops.images, upright, strict=True)] == [
        True,
        False,
        True,
        False,
    ]
    assert (crops.images[1] == pixels.cut_rotated(IMAGE, PLACES[1], 30.0, 24)).all()
    assert (crops.images[3] == pixels.cut_rotated(IMAGE, PLACES[3], -30.0, 24)).all()


def test_what_a_crop_lacks_is_nan() -> None:
    nothing = Windows(PLACES, np.full((4, 4), np.nan), np.full((4, 5, 2), np.nan), np.zeros(4))
    crops = cut_crops(IMAGE, nothing, 12)
    assert np.isnan(crops.boxes).all()
    assert np.isnan(crops.landmarks).all()
    assert np.isfinite(crops.sides).all()


def test_joining() -> None:
    crops = cut_crops(IMAGE, windows(), 12)
    twice = Crops.joined([crops, crops], 12)
    assert (twice.images[4:] == crops.images).all()
    assert (twice.sides[:4] == crops.sides).all()
    none = Crops.joined([], 12)
    assert [field.shape for field in none] == [(0, 12, 12, 3), (0, 4), (0, 10), (0, 1)]
    assert [field.dtype for field in none] == [field.dtype for field in crops]
    no_windows = Windows(PLACES[:0], FACES[:0], LANDMARKS[:0], np.zeros(0))
    assert [f.shape for f in cut_crops(IMAGE, no_windows, 12)] == [f.shape for f in none]
