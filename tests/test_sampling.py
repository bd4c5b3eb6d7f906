"""Which windows become crops: right by IoU, no background over faces, always in bounded time."""

import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.record_settings import LabelThresholds
from data_prep import sampling
from data_prep.annotations import Annotation
from data_prep.sampling import Targets, scale_weights
from tests.windows import RECORDS, Box, check, drawn, landmarks_in, targets_of


def test_what_of_an_annotation_is_trained_on() -> None:
    """Faces by their longer side; the ignored and the small only keep background away."""
    boxes = np.array([[0, 0, 10, 16], [0, 0, 15, 15], [50, 50, 90, 90], [5, 5, 50, 50]], np.float32)
    landmarks = np.arange(40, dtype=np.float32).reshape(4, 5, 2)
    ignored = np.array([False, False, True, False])
    annotation = Annotation(Path("a.jpg"), "s/a.jpg", boxes, ignored, landmarks, "list:1")
    targets = Targets.of(annotation, 16, np.array([1.0, 2.0, 3.0, 4.0]))
    assert targets.faces.tolist() == boxes[[0, 3]].tolist()
    assert targets.landmarks.tolist() == landmarks[[0, 3]].tolist()
    assert targets.weights.tolist() == [1, 4]
    assert targets.ignored.tolist() == boxes[[1, 2]].tolist()


def test_a_roomy_image_gives_what_the_settings_ask_for() -> None:
    faces = [[50, 60, 130, 150], [300, 200, 420, 330], [500, 30, 560, 100]]
    targets = targets_of(faces, [[200, 20, 210, 30]], [1, 1, 2], [landmarks_in(f) for f in faces])
    found = drawn(targets)
    check(found, targets)
    assert {kind: len(windows.places) for kind, windows in found.items()} == {
        "positive": 20 + 20 + 40,
        "part": 15 + 15 + 30,
        "negative": 30 + 10 + 10 + 20,
        "landmark": 10 + 10 + 20,
    }
    about = Counter(found["positive"].faces[:, 0].tolist())
    assert about == {50: 20, 300: 20, 500: 40}


def test_background_near_the_faces_is_shared_out_among_them() -> None:
    """The first face of a crowd must not take what is meant for all."""
    faces = [[x, y, x + 40, y + 40] for x in range(20, 620, 200) for y in range(20, 460, 200)]
    targets = targets_of(faces)
    records = replace(RECORDS, negatives_per_image=0)
    places = drawn(targets, records=records)["negative"].places
    centres = (places[:, None, :2] + places[:, None, 2:]) / 2
    middle = (targets.faces[:, :2] + targets.faces[:, 2:]) / 2
    nearest = np.linalg.norm(centres - middle, axis=2).argmin(axis=1)
    assert np.bincount(nearest, minlength=9).tolist() == [10] * 9


def test_offsets_are_continuous() -> None:
    """Peers' fault 6: a handful of fixed shifts teaches the box regression nothing."""
    windows = drawn(
        targets_of([[200, 150, 300, 250]]), records=replace(RECORDS, positives_per_face=300)
    )["positive"]
    places = windows.places
    assert len(places) == 300
    assert len(np.unique(places, axis=0)) > 290
    assert len(np.unique(places[:, 2] - places[:, 0])) > 30
    offsets = (places[:, :2] - 200) / (places[:, 2:3] - places[:, :1])
    assert offsets.min() < -0.1 < 0.1 < offsets.max()
    assert abs(offsets.mean(axis=0) - [0, -0.5]).max() < 0.03


def test_the_settings_bound_shift_and_scale() -> None:
    records = replace(RECORDS, positives_per_face=300, max_shift=0.05, max_scale=1.1)
    places = drawn(targets_of([[200, 150, 300, 250]]), records=records)["positive"].places
    sides = places[:, 2] - places[:, 0]
    assert 90 <= sides.min() < 93
    assert 108 < sides.max() <= 111
    shift = (places[:, :2] + places[:, 2:]) / 2 - [250, 200]
    assert 4 < abs(shift).max() <= 6


def test_an_ignored_or_tiny_face_gives_no_positive() -> None:
    found = drawn(targets_of([], [[100, 100, 300, 300], [400, 50, 406, 56]]))
    check(found, targets_of([], [[100, 100, 300, 300], [400, 50, 406, 56]]))
    assert [len(found[k].places) for k in ("positive", "part", "landmark")] == [0, 0, 0]
    assert len(found["negative"].places) == 30


@pytest.mark.parametrize(
    ("size", "face"),
    [
        ((8, 8), [1, 1, 7, 7]),
        ((13, 500), [100, 0, 112, 13]),
        ((500, 13), [0, 100, 13, 112]),
        ((200, 300), [0, 0, 300, 200]),
        ((12, 12), [-30, -30, 42, 42]),
    ],
)
def test_no_image_holds_us_up(size: tuple[int, int], face: list[float]) -> None:
    """Peers' fault 4: an endless search for free background."""
    targets = targets_of([face], landmarks=[landmarks_in(face)])
    began = time.process_time()
    found = drawn(targets, size)
    assert time.process_time() - began < 0.5
    check(found, targets)
    assert len(found["positive"].places) >= 10 or face[2] - face[0] > 2 * (face[3] - face[1])
    assert len(found["negative"].places) <= 40


def test_an_image_filled_by_an_ignored_face_gives_nothing() -> None:
    targets = targets_of([], [[-10, -10, 700, 500]])
    assert [len(windows.places) for windows in drawn(targets).values()] == [0, 0, 0, 0]


@pytest.mark.slow
def test_a_crowd_costs_neither_minutes_nor_gigabytes() -> None:
    """Windows times faces would be tens of millions of pairs, over a gigabyte at once."""
    faces = [[x, y, x + 16, y + 18] for x in range(0, 600, 40) for y in range(0, 300, 30)]
    crowd = [[x, y, x + 6, y + 6] for x in range(0, 640, 10) for y in range(320, 480, 10)]
    targets = targets_of(faces, crowd)
    began = time.process_time()
    tracked = _peak_of(lambda: drawn(targets))
    assert time.process_time() - began < 20
    assert tracked < 150e6


def _peak_of(work: Any) -> int:
    import tracemalloc

    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_same_seed_gives_the_same_windows() -> None:
    targets = targets_of([[50, 60, 130, 150]], landmarks=[landmarks_in([50, 60, 130, 150])])
    first, again, other = drawn(targets), drawn(targets), drawn(targets, seed=1)
    for kind in first:
        for one, two in zip(first[kind], again[kind], strict=True):
            np.testing.assert_array_equal(one, two)
        assert first[kind].places.tolist() != other[kind].places.tolist()


boxes = st.tuples(
    st.integers(-30, 180), st.integers(-30, 120), st.integers(1, 150), st.integers(1, 150)
).map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(boxes, max_size=4),
    st.lists(boxes, max_size=3),
    st.tuples(st.integers(2, 160), st.integers(2, 200)),
    st.integers(0, 9),
    st.booleans(),
)
def test_any_image(
    faces: list[Box], ignored: list[Box], size: tuple[int, int], seed: int, squared: bool
) -> None:
    labels = LabelThresholds(squared_faces=squared)
    landmarks = [landmarks_in(face) for face in faces]
    targets = targets_of(faces, ignored, landmarks=landmarks)
    records = replace(
        RECORDS, negatives_per_image=6, negatives_per_face=3, positives_per_face=5, parts_per_face=4
    )
    check(drawn(targets, size, seed, records, labels), targets, labels)


def test_weights_even_out_the_octaves() -> None:
    sides = np.array([16, 20, 31, 40], float)  # three of one octave, one of the next
    np.testing.assert_allclose(scale_weights(sides, 1), [2 / 3, 2 / 3, 2 / 3, 2], atol=1e-12)
    np.testing.assert_allclose(scale_weights(sides, 0), 1, atol=1e-12)
    half = scale_weights(sides, 0.5)
    np.testing.assert_allclose(half[3] / half[0], 3**0.5, atol=1e-12)
    np.testing.assert_allclose(half.mean(), 1, atol=1e-12)


def test_weights_stay_within_reason() -> None:
    weights = scale_weights(np.array([20.0] * 400 + [200.0]), 1)
    assert weights[-1] == 4
    assert weights.min() >= 0.25
    assert scale_weights(np.zeros(0), 0.5).shape == (0,)
    assert scale_weights(np.array([0.2, 0.0]), 1).tolist() == [1, 1], "less than a pixel"


def test_first_of_each() -> None:
    groups = np.array([2, 0, 2, 2, 0, 1, 2])
    usable = np.array([True, True, False, True, True, False, True])
    rows = sampling.first_of_each(groups, usable, np.array([1, 5, 2]))
    assert rows.tolist() == [1, 0, 3]
    assert sampling.first_of_each(groups, usable, np.zeros(3, int)).tolist() == []
    none = np.zeros(0, int)
    assert sampling.first_of_each(none, none.astype(bool), none).tolist() == []


def test_faces_grow_by_the_context_after_they_were_judged_by_their_size() -> None:
    boxes = np.array([[10, 20, 30, 60], [0, 0, 12, 12]], np.float32)
    landmarks = np.zeros((2, 5, 2), np.float32)
    annotation = Annotation(Path("a.jpg"), "s/a.jpg", boxes, np.zeros(2, bool), landmarks, "list:1")
    targets = Targets.of(annotation, 16, np.ones(2), context=1.5)
    assert targets.faces.tolist() == [[5, 10, 35, 70]]
    assert targets.ignored.tolist() == [[0, 0, 12, 12]], "12 * 1.5 would be 18"
