"""Alignment by the five landmarks: the transform, the result's pixels, what is refused."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtcnn_detector import align
from mtcnn_detector.align import TEMPLATE, similarity
from mtcnn_detector.detector import LANDMARKS

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]


def moved(points: Any, scale: float, degrees: float, x: float, y: float) -> Any:
    """Points after a similarity transform."""
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return scale * points @ rotation.T + (x, y)


@given(st.floats(0.1, 20), st.floats(-180, 180), st.floats(-1000, 1000), st.floats(-1000, 1000))
def test_the_transform_undoes_any_similarity(
    scale: float, degrees: float, x: float, y: float
) -> None:
    matrix = similarity(moved(TEMPLATE, scale, degrees, x, y), TEMPLATE)
    back = moved(TEMPLATE, scale, degrees, x, y) @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(back, TEMPLATE, atol=1e-6)


def test_the_transform_is_the_best_of_its_kind_and_never_mirrors() -> None:
    points = TEMPLATE + np.random.default_rng(0).normal(0, 4, (5, 2))
    matrix = similarity(points, TEMPLATE)
    (a, b), (c, d) = matrix[:, :2]
    assert a == pytest.approx(d) and b == pytest.approx(-c) and a * d - b * c > 0

    def error(matrix: Any) -> float:
        return float(((points @ matrix[:, :2].T + matrix[:, 2] - TEMPLATE) ** 2).sum())

    best = error(matrix)
    for change in np.random.default_rng(1).normal(0, 0.01, (50, 4)):
        turned = np.array([[a + change[0], b - change[1]], [c + change[1], d + change[0]]])
        assert error(np.column_stack([turned, matrix[:, 2] + change[2:]])) >= best
    mirrored = similarity(TEMPLATE * (-1, 1), TEMPLATE)
    assert np.linalg.det(mirrored[:, :2]) > 0


@pytest.mark.parametrize("size", [112, 160])
def test_landmarks_lie_on_the_template(size: int) -> None:
    landmarks = moved(TEMPLATE, 2.5, 30, 150, -20)
    image = np.zeros((500, 500, 3), np.uint8)
    for (x, y), colour in zip(landmarks, COLOURS, strict=True):
        cv2.circle(image, (round(x), round(y)), 8, colour, -1)
    names = dict(zip(LANDMARKS, map(tuple, landmarks), strict=True))
    aligned = align(image, {"keypoints": names}, size)
    assert aligned.shape == (size, size, 3) and aligned.dtype == np.uint8
    for (x, y), colour in zip(TEMPLATE * size / 112, COLOURS, strict=True):
        assert aligned[round(y), round(x)].tolist() == list(colour)
    np.testing.assert_array_equal(align(image, landmarks, size), aligned)


def test_pixels_outside_are_black_and_grey_images_are_taken() -> None:
    white = np.full((60, 60), 255, np.uint8)
    aligned = align(white, TEMPLATE)  # the image ends inside the template
    assert aligned[30, 30].tolist() == [255, 255, 255]
    assert aligned[100, 100].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "face",
    [{"keypoints": {}}, {"box": [1, 2, 3, 4]}, np.zeros((4, 2)), np.full((5, 2), np.nan)],
)
def test_a_face_without_landmarks_is_refused(face: Any) -> None:
    with pytest.raises(ValueError, match="five known landmarks"):
        align(np.zeros((20, 20, 3), np.uint8), face)


def test_impossible_arguments_are_refused() -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(ValueError, match="all lie at one point"):
        align(image, np.ones((5, 2)))
    for size in (0, -1, 1.5, True, "112"):
        with pytest.raises(ValueError, match="size must be a positive whole number"):
            align(image, TEMPLATE, size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no pixel to align: its shape is \(0, 20, 3\)"):
        align(image[:0], TEMPLATE)
    with pytest.raises(ValueError, match="expected"):
        align("face.jpg", TEMPLATE)  # type: ignore[arg-type]
