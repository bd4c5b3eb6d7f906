"""Landmark errors on hand-worked faces."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.landmark_error import (
    LabelledFace,
    LandmarkErrors,
    evaluate,
    eye_distance,
    point_error,
)
from mtcnn_detector.cascade import Faces
from mtcnn_detector.errors import UserError

# eyes 40 px apart
LANDMARKS = np.array([(30, 40), (70, 40), (50, 60), (35, 80), (65, 80)], dtype=float)
BOX = np.array([0, 0, 100, 120], dtype=float)
FACE = LabelledFace(BOX, LANDMARKS)


def reported(*faces: tuple[Any, float, Any]) -> Faces:
    """Detections from rows of box, score, landmarks."""
    boxes, scores, landmarks = zip(*faces, strict=True)
    return Faces(np.array(boxes, float), np.array(scores), np.array(landmarks))


def nothing() -> Faces:
    return Faces(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))


def test_error_is_the_mean_distance_in_eye_distances() -> None:
    assert eye_distance(LANDMARKS) == 40
    moved = LANDMARKS.copy()
    moved[2] += (3, 4)  # 5 px
    moved[4] += (0, -15)  # 15 px
    assert point_error(moved, LANDMARKS) == pytest.approx((5 + 15) / 5 / 40)


def test_the_unit_is_the_labelled_eye_distance() -> None:
    wide = LANDMARKS * (2, 1)
    assert point_error(wide, LANDMARKS) == pytest.approx(2 * point_error(LANDMARKS, wide))


def test_the_highest_score_on_the_face_is_taken() -> None:
    detections = reported(
        (BOX, 0.8, LANDMARKS),  # best overlap, but a user would not see it first
        (BOX + 5, 0.9, LANDMARKS + np.array([4, 0])),  # counts: 4 px of 40
        (BOX + 200, 0.99, LANDMARKS + 200),  # somebody else
    )
    assert evaluate({"a": detections}, {"a": FACE}).errors == {"a": pytest.approx(0.1)}


def test_misses_stay_out_of_the_error_and_are_named() -> None:
    elsewhere = reported((BOX + 60, 0.9, LANDMARKS + 60))
    faces = dict.fromkeys("abcd", FACE)
    score = evaluate({"a": reported((BOX, 0.9, LANDMARKS)), "b": elsewhere, "c": nothing()}, faces)
    assert score.faces == 4
    assert score.missed == ("b", "c", "d")
    assert score.nme == 0.0 and score.failure_rate == 0.0


def test_overlap_limit_can_be_lowered() -> None:
    shifted = {"a": reported((BOX + np.array([40, 0, 40, 0]), 0.9, LANDMARKS))}  # IoU 60 of 140
    assert evaluate(shifted, {"a": FACE}).missed == ("a",)
    assert evaluate(shifted, {"a": FACE}, min_overlap=0.4).errors == {"a": 0.0}


def test_a_score_summarises_the_faces_found() -> None:
    score = LandmarkErrors({"a": 0.02, "b": 0.1, "c": 0.12, "d": 0.4}, missed=("e",))
    assert score.faces == 5
    assert score.nme == pytest.approx(0.16)
    assert score.failure_rate == pytest.approx(0.5)  # exactly a tenth is no failure yet
    assert score.cumulative(np.array([0, 0.02, 0.11, 1])).tolist() == [0, 0.25, 0.5, 1]


@pytest.mark.filterwarnings("error")
def test_no_face_found_has_no_error() -> None:
    score = evaluate({}, {"a": FACE})
    assert score.faces == 1 and score.missed == ("a",)
    assert math.isnan(score.nme) and math.isnan(score.failure_rate)
    assert np.isnan(score.cumulative(np.array([0.1, 0.2]))).all()


def test_unknown_landmarks_have_no_part_in_the_error() -> None:
    labelled, detected_points = LANDMARKS.copy(), LANDMARKS.copy()
    labelled[3:] = np.nan
    detected_points[2] += (3, 4)  # 5 px
    detected_points[4] += 1000
    assert point_error(detected_points, labelled) == pytest.approx(5 / 3 / 40)


def test_bad_labels_and_detections_of_unlabelled_images_are_refused() -> None:
    blind = LabelledFace(BOX, np.zeros((5, 2)))
    with pytest.raises(UserError, match="a: both eyes"):
        evaluate({}, {"a": blind})
    with pytest.raises(UserError, match="z has no labelled face"):
        evaluate({"z": nothing()}, {"a": FACE})


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10), st.floats(-1000, 1000))
def test_error_is_invariant_to_scale_and_translation(seed: int, scale: float, shift: float) -> None:
    landmarks = LANDMARKS + np.random.default_rng(seed).normal(0, 5, LANDMARKS.shape)
    error = point_error(landmarks, LANDMARKS)
    assert point_error(landmarks * scale + shift, LANDMARKS * scale + shift) == pytest.approx(error)
