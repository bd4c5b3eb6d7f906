"""Which windows become crops: right by IoU, no background over faces, always in bounded time."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.settings import Kind, Labels, Records
from data_prep import sampling
from data_prep.annotations import Annotation
from data_prep.sampling import Targets, Windows, label, sample, scale_weights
from models import pixels

LABELS = Labels()
RECORDS = Records(
    negatives_per_image=30,
    negatives_per_face=10,
    positives_per_face=20,
    parts_per_face=15,
    landmarks_per_face=10,
)
Box = Sequence[float]


def targets_of(
    faces: Sequence[Box],
    ignored: Sequence[Box] = (),
    weights: Sequence[float] | None = None,
    points: Sequence[Any] | None = None,
) -> Targets:
    count = len(faces)
    return Targets(
        np.array(faces, float).reshape(-1, 4),
        np.full((count, 5, 2), np.nan) if points is None else np.array(points, float),
        np.ones(count) if weights is None else np.array(weights, float),
        np.array(ignored, float).reshape(-1, 4),
    )


def points_in(box: Box) -> list[list[float]]:
    """Five points of a face that fills its box."""
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
    records: Records = RECORDS,
    labels: Labels = LABELS,
) -> dict[Kind, Windows]:
    return sample(np.random.default_rng(seed), *size, targets, records, labels)


def check(found: dict[Kind, Windows], targets: Targets, labels: Labels = LABELS) -> None:
    """What must hold of any picture."""
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
        windows = found[kind]  # type: ignore[index]
        for window, face in zip(windows.places.tolist(), windows.faces.tolist(), strict=True):
            assert face in targets.faces.tolist(), "the target is the face, not its square"
            overlap = iou(window, judged(face))
            assert low - 1e-9 <= overlap < high + 1e-9
            assert overlap == pytest.approx(max(iou(window, other) for other in faces), abs=1e-9)
    assert np.isnan(found["negative"].faces).all()
    assert np.isnan(found["negative"].points).all()


@pytest.mark.parametrize(
    ("window", "kind"),
    [
        ([0, 0, 20, 20], "positive"),
        ([0, 0, 20, 13], "positive"),  # 260 / 400 = 0.65
        ([0, 0, 20, 12], "part"),  # 0.6
        ([5, 0, 25, 20], "part"),  # 300 / 500 = 0.6
        ([0, 0, 20, 8], "part"),  # 0.4
        ([0, 0, 20, 7], ""),  # 0.35: between the kinds
        ([0, 0, 20, 6], ""),  # 0.3
        ([0, 0, 20, 5], "negative"),  # 0.25
        ([10, 10, 30, 30], "negative"),  # 100 / 700
        ([-20, -20, 0, 0], "negative"),
        ([0, 0, 100, 100], "negative"),  # a small labelled face in a large window
    ],
)
def test_kinds_follow_from_iou(window: list[int], kind: str) -> None:
    kinds, nearest = label(np.array([window]), targets_of([[0, 0, 20, 20]]), LABELS)
    assert kinds.tolist() == [kind]
    assert nearest.tolist() == [0]


@pytest.mark.parametrize(
    ("window", "kind"),
    [
        ([0, 0, 200, 200], ""),  # a large window holds the tiny face whole (peers' fault 12)
        ([101, 101, 105, 105], ""),  # a small one lies inside the face
        ([103, 100, 113, 110], ""),  # 70 of 100 shared
        ([107, 100, 117, 110], ""),  # 30 of 100: the limit itself
        ([108, 100, 118, 110], "negative"),  # 20 of 100
        ([300, 300, 320, 320], "negative"),
    ],
)
def test_an_ignored_face_is_neither_face_nor_background(window: list[int], kind: str) -> None:
    kinds, _ = label(np.array([window]), targets_of([], [[100, 100, 110, 110]]), LABELS)
    assert kinds.tolist() == [kind]


def test_a_narrow_face_is_judged_by_the_square_about_it() -> None:
    targets = targets_of([[20, 0, 40, 60]])
    windows = np.array([[0, 0, 60, 60], [20, 0, 40, 60]])  # with the face 0.33 and 1
    assert label(windows, targets, Labels(squared_faces=True))[0].tolist() == ["positive", ""]
    assert label(windows, targets, Labels(squared_faces=False))[0].tolist() == ["", "positive"]


def test_a_window_belongs_to_the_nearest_of_its_faces() -> None:
    targets = targets_of([[0, 0, 20, 20], [6, 0, 26, 20]])
    kinds, nearest = label(np.array([[5, 0, 25, 20], [0, 0, 20, 20]]), targets, LABELS)
    assert kinds.tolist() == ["positive", "positive"]
    assert nearest.tolist() == [1, 0]


def test_labels_of_nothing() -> None:
    for targets in (targets_of([]), targets_of([[0, 0, 9, 9]])):
        kinds, nearest = label(np.zeros((0, 4), int), targets, LABELS)
        assert kinds.shape == nearest.shape == (0,)
    assert label(np.array([[0, 0, 9, 9]]), targets_of([]), LABELS)[0].tolist() == ["negative"]


def test_labels_do_not_depend_on_how_many_are_judged_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 80, (300, 2))
    places = np.hstack([first, first + rng.integers(5, 40, (300, 1))])
    targets = targets_of([[0, 0, 30, 30], [40, 40, 70, 75]], [[60, 0, 90, 30]])
    whole = label(places, targets, LABELS)
    assert len(set(whole[0])) == 4
    monkeypatch.setattr(sampling, "PAIRS", 20)
    for one, other in zip(whole, label(places, targets, LABELS), strict=True):
        assert (one == other).all()


def test_what_of_an_annotation_is_trained_on() -> None:
    """Faces by their longer side; the ignored and the small only keep background away."""
    boxes = np.array([[0, 0, 10, 16], [0, 0, 15, 15], [50, 50, 90, 90], [5, 5, 50, 50]], np.float32)
    points = np.arange(40, dtype=np.float32).reshape(4, 5, 2)
    ignored = np.array([False, False, True, False])
    annotation = Annotation(Path("a.jpg"), "s/a.jpg", boxes, ignored, points, "list:1")
    targets = Targets.of(annotation, 16, np.array([1.0, 2.0, 3.0, 4.0]))
    assert targets.faces.tolist() == boxes[[0, 3]].tolist()
    assert targets.points.tolist() == points[[0, 3]].tolist()
    assert targets.weights.tolist() == [1, 4]
    assert targets.ignored.tolist() == boxes[[1, 2]].tolist()


def test_a_roomy_picture_gives_what_the_settings_ask_for() -> None:
    faces = [[50, 60, 130, 150], [300, 200, 420, 330], [500, 30, 560, 100]]
    targets = targets_of(faces, [[200, 20, 210, 30]], [1, 1, 2], [points_in(f) for f in faces])
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
def test_no_picture_holds_us_up(size: tuple[int, int], face: list[float]) -> None:
    """Peers' fault 4: an endless search for free background."""
    targets = targets_of([face], points=[points_in(face)])
    began = time.process_time()
    found = drawn(targets, size)
    assert time.process_time() - began < 0.5
    check(found, targets)
    assert len(found["positive"].places) >= 10 or face[2] - face[0] > 2 * (face[3] - face[1])
    assert len(found["negative"].places) <= 40


def test_a_picture_filled_by_an_ignored_face_gives_nothing() -> None:
    targets = targets_of([], [[-10, -10, 700, 500]])
    assert [len(windows.places) for windows in drawn(targets).values()] == [0, 0, 0, 0]


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
    targets = targets_of([[50, 60, 130, 150]], points=[points_in([50, 60, 130, 150])])
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
def test_any_picture(
    faces: list[Box], ignored: list[Box], size: tuple[int, int], seed: int, squared: bool
) -> None:
    labels = Labels(squared_faces=squared)
    targets = targets_of(
        faces, ignored, points=[points_in(f) for f in faces] or np.zeros((0, 5, 2))
    )
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


def landmarks(degrees: float, seed: int = 0, face: Box = (100, 80, 180, 180)) -> Windows:
    targets = targets_of([face], points=[points_in(face)])
    records = replace(RECORDS, landmarks_per_face=60, max_rotation=degrees)
    return drawn(targets, records=records, seed=seed)["landmark"]


@pytest.mark.parametrize("degrees", [0.0, 15.0, 90.0])
def test_landmark_windows_hold_all_five_points(degrees: float) -> None:
    windows = landmarks(degrees)
    assert len(windows.places) == 60
    corners = windows.places[:, None].astype(float)
    assert (windows.points >= corners[..., :2]).all()
    assert (windows.points < corners[..., 2:]).all()
    assert abs(windows.degrees).max() <= degrees
    assert degrees == 0 or abs(windows.degrees).max() > 0.8 * degrees
    assert np.isnan(windows.faces).all()
    assert len(np.unique(windows.places, axis=0)) > 50


def test_points_turn_with_the_pixels() -> None:
    """A dot painted on a point is found in the turned crop where the target says."""
    face, size = (100, 80, 180, 180), 96
    points = np.array(points_in(face)).round()
    windows = landmarks(40.0)
    for i in range(5):
        image = np.zeros((480, 640, 3), np.uint8)
        x, y = points[i].astype(int)
        image[y - 2 : y + 2, x - 2 : x + 2] = 255  # its middle is the corner of four pixels
        for place, degrees in zip(windows.places[:12], windows.degrees[:12], strict=True):
            crop = pixels.cut_rotated(image, place, float(degrees), size)[..., 0].astype(float)
            rows, columns = np.indices(crop.shape) + 0.5
            seen = np.array([(columns * crop).sum(), (rows * crop).sum()]) / crop.sum()
            scale = size / (place[2] - place[0])
            told = (sampling._turned(points, place, float(degrees))[i] - place[:2]) * scale
            np.testing.assert_allclose(seen, told, atol=0.06 * scale)


def test_upright_points_do_not_move() -> None:
    points = np.array(points_in((100, 80, 180, 180)))
    np.testing.assert_allclose(
        sampling._turned(points, np.array([90, 80, 190, 180]), 0.0), points, atol=1e-9
    )


def test_faces_without_points_give_no_landmark_crop() -> None:
    face = [100, 80, 180, 180]
    points = np.array([points_in(face), points_in(face)])
    points[0, 3, 1] = np.nan
    moved = np.array([[[0, 0]], [[200, 0]]])
    targets = targets_of([face, [300, 80, 380, 180]], points=points + moved)
    found = drawn(targets)["landmark"]
    assert len(found.places) == 10
    assert (found.places[:, 0] > 200).all()


def test_first_of_each() -> None:
    groups = np.array([2, 0, 2, 2, 0, 1, 2])
    usable = np.array([True, True, False, True, True, False, True])
    rows = sampling.first_of_each(groups, usable, np.array([1, 5, 2]))
    assert rows.tolist() == [1, 0, 3]
    assert sampling.first_of_each(groups, usable, np.zeros(3, int)).tolist() == []
    none = np.zeros(0, int)
    assert sampling.first_of_each(none, none.astype(bool), none).tolist() == []
