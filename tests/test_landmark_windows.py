"""Windows that teach landmarks: they hold all five landmarks, which turn with the pixels."""

from dataclasses import replace

import numpy as np
import pytest

from data_prep import sampling
from data_prep.sampling import Windows
from mtcnn_detector import pixels
from tests.windows import RECORDS, Box, drawn, landmarks_in, targets_of


def landmark_windows(degrees: float, seed: int = 0, face: Box = (100, 80, 180, 180)) -> Windows:
    targets = targets_of([face], landmarks=[landmarks_in(face)])
    records = replace(RECORDS, landmarks_per_face=60, max_rotation=degrees)
    return drawn(targets, records=records, seed=seed)["landmark"]


@pytest.mark.parametrize("degrees", [0.0, 15.0, 90.0])
def test_landmark_windows_hold_all_five_landmarks(degrees: float) -> None:
    windows = landmark_windows(degrees)
    assert len(windows.places) == 60
    corners = windows.places[:, None].astype(float)
    assert (windows.landmarks >= corners[..., :2]).all()
    assert (windows.landmarks < corners[..., 2:]).all()
    assert abs(windows.degrees).max() <= degrees
    assert degrees == 0 or abs(windows.degrees).max() > 0.8 * degrees
    assert np.isnan(windows.faces).all()
    assert len(np.unique(windows.places, axis=0)) > 50


def test_landmarks_turn_with_the_pixels() -> None:
    """A dot painted on a point is found in the turned crop where the target says."""
    face, size = (100, 80, 180, 180), 96
    landmarks = np.array(landmarks_in(face)).round()
    windows = landmark_windows(40.0)
    for i in range(5):
        image = np.zeros((480, 640, 3), np.uint8)
        x, y = landmarks[i].astype(int)
        image[y - 2 : y + 2, x - 2 : x + 2] = 255  # its middle is the corner of four pixels
        for place, degrees in zip(windows.places[:12], windows.degrees[:12], strict=True):
            crop = pixels.cut_rotated(image, place, float(degrees), size)[..., 0].astype(float)
            rows, columns = np.indices(crop.shape) + 0.5
            seen = np.array([(columns * crop).sum(), (rows * crop).sum()]) / crop.sum()
            scale = size / (place[2] - place[0])
            told = (sampling._rotated(landmarks, place, float(degrees))[i] - place[:2]) * scale
            np.testing.assert_allclose(seen, told, atol=0.06 * scale)


def test_upright_landmarks_do_not_move() -> None:
    landmarks = np.array(landmarks_in((100, 80, 180, 180)))
    np.testing.assert_allclose(
        sampling._rotated(landmarks, np.array([90, 80, 190, 180]), 0.0), landmarks, atol=1e-9
    )


def test_faces_without_landmarks_give_no_landmark_crop() -> None:
    face = [100, 80, 180, 180]
    landmarks = np.array([landmarks_in(face), landmarks_in(face)])
    landmarks[0, 3, 1] = np.nan
    moved = np.array([[[0, 0]], [[200, 0]]])
    targets = targets_of([face, [300, 80, 380, 180]], landmarks=landmarks + moved)
    found = drawn(targets)["landmark"]
    assert len(found.places) == 10
    assert (found.places[:, 0] > 200).all()
