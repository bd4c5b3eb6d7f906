"""What is missed and falsely reported, by kind and size, on boxes worked by hand."""

from pathlib import Path

import numpy as np
import pytest

from data_prep.annotations import Annotation
from evaluation import error_analysis
from evaluation.detections import ImageDetections
from evaluation.metrics import by_size, judge_boxes
from mtcnn_detector.cascade import Faces


def labelled(key, *boxes, ignored=()):
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    hidden = np.isin(np.arange(len(corners)), ignored)
    landmarks = np.full((len(corners), 5, 2), np.nan, np.float32)
    return Annotation(Path(key), key, corners, hidden, landmarks, "labels:1")


def seen(*faces, pnet=(), rnet=()):
    """Faces as box, score; the boxes of the nets before as they are."""
    boxes = np.array([box for box, _ in faces], float).reshape(-1, 4)
    scores = np.array([score for _, score in faces], float)
    before = tuple(np.array(boxes, float).reshape(-1, 4) for boxes in (pnet, rnet))
    return ImageDetections("", 0.1, Faces(boxes, scores, np.zeros((len(faces), 5, 2))), before)


def judged(pictures, everything):
    return judge_boxes(pictures, everything, {})


FACE, WIDE = (100, 100, 140, 140), (300, 100, 400, 150)


@pytest.mark.parametrize(
    ("one", "kind", "score", "overlap"),
    [
        (seen(), "lost by pnet", 0, 0),
        (seen(pnet=[(500, 0, 540, 40)]), "lost by pnet", 0, 0),
        # The nets before the last report crops: half of the face's area is enough of it.
        (seen(pnet=[(101, 101, 140, 120)]), "lost by rnet", 0, 0),
        (seen(pnet=[FACE], rnet=[(101, 101, 140, 120)]), "lost by onet", 0, 0),
        (seen(((100, 100, 140, 110), 0.9), pnet=[FACE], rnet=[FACE]), "box too far off", 0.9, 0.25),
        (seen(((100, 100, 140, 107), 0.9), pnet=[FACE], rnet=[FACE]), "lost by onet", 0, 0.175),
        # R-Net brings back what P-Net's box had lost.
        (seen(pnet=[(101, 101, 140, 110)], rnet=[FACE]), "lost by onet", 0, 0),
        (seen()._replace(proposals=()), "nothing there", 0, 0),
    ],
)
def test_why_a_face_was_missed(one, kind, score, overlap):
    result = judged([labelled("a", FACE)], {"a": one})
    (miss,) = error_analysis.missed(result)
    assert (miss.kind, miss.score, miss.side) == (kind, score, 40)
    assert miss.overlap == pytest.approx(overlap, abs=1e-6)
    assert miss.box.tolist() == list(FACE)


def test_a_box_that_went_to_a_neighbour():
    # It overlaps both at 0.5 or more, the first one better.
    faces = labelled("a", (0, 0, 100, 100), (30, 0, 130, 100))
    (miss,) = error_analysis.missed(judged([faces], {"a": seen(((5, 0, 105, 100), 0.9))}))
    assert miss.box.tolist() == [30, 0, 130, 100]
    assert miss.kind == "its box went to a neighbour" and miss.overlap == pytest.approx(0.6)


def test_ignored_and_found_faces_are_no_misses():
    picture = labelled("a", FACE, WIDE, ignored=[1])
    assert error_analysis.missed(judged([picture], {"a": seen((FACE, 0.9))})) == []


def test_what_the_other_weights_find_comes_first():
    pictures = [labelled(key, FACE) for key in "abc"]
    ours = judged(pictures, {key: seen() for key in "abc"})
    other = judged(
        pictures, {"a": seen(), "b": seen((FACE, 0.8)), "c": seen((FACE, 0.6), (FACE, 0.9))}
    )
    found = [(m.picture.key, m.other) for m in error_analysis.missed(ours, other)]
    assert found == [("c", 0.9), ("b", 0.8), ("a", 0.0)]


def test_false_alarms_by_kind_and_score():
    result = judged(
        [labelled("a", FACE), labelled("b")],
        {
            "a": seen((FACE, 0.7), (FACE, 0.6), ((100, 100, 140, 110), 0.8)),
            "b": seen(((0, 0, 20, 30), 0.9)),
        },
    )
    told = [(m.kind, m.score, m.side) for m in error_analysis.false_alarms(result)]
    assert told == [
        ("no labelled face there", 0.9, 30),
        ("box too far off", 0.8, 40),
        ("second box of a face", 0.6, 40),
    ]


def test_tables_by_size():
    sides = (10, 20, 31.5, 40, 300)
    faces = labelled("a", *((500 * i, 0, 500 * i + side, side) for i, side in enumerate(sides)))
    result = judged([faces], {"a": seen(((0, 0, 10, 10), 0.9), pnet=[(501, 1, 520, 20)])})
    assert error_analysis.count_kinds(error_analysis.missed(result)) == (
        ["longer side, px", "lost by pnet", "lost by rnet", "all"],
        [
            ["20 to 32", "1", "1", "2"],
            ["32 to 64", "1", "0", "1"],
            ["256 and more", "1", "0", "1"],
            ["all", "3", "1", "4"],
        ],
    )
    assert [(row.label, row.faces, row.found) for row in by_size(result)] == [
        ("0 to 20", 1, 1),
        ("20 to 32", 2, 0),
        ("32 to 64", 1, 0),
        ("256 and more", 1, 0),
    ]


def test_a_crowd_does_not_hide_the_rest():
    crowd = labelled("a", *((100 * i, 0, 100 * i + 40, 40) for i in range(6)))
    result = judged([crowd, labelled("b", FACE)], {"a": seen(), "b": seen()})
    shown = error_analysis.some(error_analysis.missed(result), 5, 3)
    assert sorted(m.picture.key for m in shown) == ["a", "a", "a", "b"]
    assert len(error_analysis.some(error_analysis.missed(result), 2, 3)) == 2
