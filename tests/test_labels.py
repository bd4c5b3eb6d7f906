"""What a window is of a face: right by IoU, ignored faces neither one thing nor the other."""

import numpy as np
import pytest

from configs.record_settings import LabelThresholds
from data_prep import sampling
from data_prep.sampling import label
from tests.windows import LABELS, targets_of


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
    assert label(windows, targets, LabelThresholds(squared_faces=True))[0].tolist() == [
        "positive",
        "",
    ]
    assert label(windows, targets, LabelThresholds(squared_faces=False))[0].tolist() == [
        "",
        "positive",
    ]


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
