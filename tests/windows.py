"""Targets, and windows drawn about them and checked by plain arithmetic: for the tests."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from configs.record_settings import LabelThresholds, RecordSettings, SampleType
from data_prep.sampling import Targets, Windows, sample

LABELS = LabelThresholds()


RECORDS = RecordSettings(
    negatives_per_image=30,
    negatives_per_face=10,
    positives_per_face=20,
    parts_per_face=15,
    landmarks_per_face=10,
    mined_negatives_per_image=0,
    mined_per_face=0,
    context=1,
    max_rotation=15,
    margin=0,
)


Box = Sequence[float]


def targets_of(
    faces: Sequence[Box],
    ignored: Sequence[Box] = (),
    weights: Sequence[float] | None = None,
    landmarks: Sequence[Any] | np.ndarray | None = None,
) -> Targets:
    count = len(faces)
    return Targets(
        np.array(faces, float).reshape(-1, 4),
        np.full((count, 5, 2), np.nan)
        if landmarks is None
        else np.array(landmarks, float).reshape(-1, 5, 2),
        np.ones(count) if weights is None else np.array(weights, float),
        np.array(ignored, float).reshape(-1, 4),
    )


def landmarks_in(box: Box) -> list[list[float]]:
    """Five landmarks of a face that fills its box."""
    x1, y1, x2, y2 = box
    places = [(0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.33, 0.78), (0.67, 0.78)]
    return [[x1 + u * (x2 - x1), y1 + v * (y2 - y1)] for u, v in places]


def shared(a: Box, b: Box) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def area(a: Box) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


def square(a: Box) -> Box:
    side = max(a[2] - a[0], a[3] - a[1])
    x, y = (a[0] + a[2]) / 2, (a[1] + a[3]) / 2
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def iou(a: Box, b: Box) -> float:
    return shared(a, b) / (area(a) + area(b) - shared(a, b))


def drawn(
    targets: Targets,
    size: tuple[int, int] = (480, 640),
    seed: int = 0,
    records: RecordSettings = RECORDS,
    labels: LabelThresholds = LABELS,
) -> dict[SampleType, Windows]:
    return sample(np.random.default_rng(seed), *size, targets, records, labels)


def check(
    found: dict[SampleType, Windows], targets: Targets, labels: LabelThresholds = LABELS
) -> None:
    """What must hold of any image."""
    judged = square if labels.squared_faces else list
    faces, ignored = [judged(f) for f in targets.faces.tolist()], targets.ignored.tolist()
    for kind, windows in found.items():
        sides = windows.places[:, 2:] - windows.places[:, :2]
        assert windows.places.dtype.kind == "i"
        assert (sides >= 2).all()
        assert (sides[:, 0] == sides[:, 1]).all()
        assert {len(field) for field in windows} == {len(windows.places)}
        assert kind == "landmark" or not windows.degrees.any()
    for window in found["negative"].places.tolist():
        assert all(iou(window, face) < 0.3 + 1e-9 for face in faces)
        assert all(shared(window, face) / min(area(window), area(face)) < 0.3 for face in ignored)
    for kind, low, high in (("positive", 0.65, 1.01), ("part", 0.4, 0.65)):
        windows = found[kind]
        for window, face in zip(windows.places.tolist(), windows.faces.tolist(), strict=True):
            assert face in targets.faces.tolist(), "the target is the face, not its square"
            overlap = iou(window, judged(face))
            assert low - 1e-9 <= overlap < high + 1e-9
            assert overlap == pytest.approx(max(iou(window, other) for other in faces), abs=1e-9)
    assert np.isnan(found["negative"].faces).all()
    assert np.isnan(found["negative"].landmarks).all()
