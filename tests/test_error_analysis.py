"""Missed faces and false alarms by kind and size, on boxes worked out by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from data_prep.annotations import Annotation
from evaluation import error_analysis
from evaluation.detections import ImageDetections
from evaluation.metrics import BoxScore, recall_by_size, score_boxes
from mtcnn_detector.cascade import Faces

Box = tuple[float, float, float, float]


def labelled(key: str, *boxes: Box, ignored: Sequence[int] = ()) -> Annotation:
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    hidden = np.isin(np.arange(len(corners)), ignored)
    landmarks = np.full((len(corners), 5, 2), np.nan, np.float32)
    return Annotation(Path(key), key, corners, hidden, landmarks, "labels:1")


def detected(
    *faces: tuple[Box, float], pnet: Sequence[Box] = (), rnet: Sequence[Box] = ()
) -> ImageDetections:
    """Detections from rows of box, score; boxes after the nets before."""
    boxes = np.array([box for box, _ in faces], float).reshape(-1, 4)
    scores = np.array([score for _, score in faces], float)
    before = tuple(np.array(rows, float).reshape(-1, 4) for rows in (pnet, rnet))
    return ImageDetections("", 0.1, Faces(boxes, scores, np.zeros((len(faces), 5, 2))), before)


def scored(annotations: list[Annotation], detections: dict[str, ImageDetections]) -> BoxScore:
    return score_boxes(annotations, detections, {})


FACE: Box = (100, 100, 140, 140)
WIDE: Box = (300, 100, 400, 150)


@pytest.mark.parametrize(
    ("one", "kind", "score", "overlap"),
    [
        (detected(), "lost by pnet", 0, 0),
        (detected(pnet=[(500, 0, 540, 40)]), "lost by pnet", 0, 0),
        # The nets before the last report crops: half of the face's area is enough of it.
        (detected(pnet=[(101, 101, 140, 120)]), "lost by rnet", 0, 0),
        (detected(pnet=[FACE], rnet=[(101, 101, 140, 120)]), "lost by onet", 0, 0),
        (
            detected(((100, 100, 140, 110), 0.9), pnet=[FACE], rnet=[FACE]),
            "box too far off",
            0.9,
            0.25,
        ),
        (detected(((100, 100, 140, 107), 0.9), pnet=[FACE], rnet=[FACE]), "lost by onet", 0, 0.175),
        # R-Net brings back what P-Net's box had lost.
        (detected(pnet=[(101, 101, 140, 110)], rnet=[FACE]), "lost by onet", 0, 0),
        (detected()._replace(proposals=()), "nothing there", 0, 0),
    ],
)
def test_why_a_face_was_missed(
    one: ImageDetections, kind: str, score: float, overlap: float
) -> None:
    result = scored([labelled("a", FACE)], {"a": one})
    (miss,) = error_analysis.missed_faces(result)
    assert (miss.kind, miss.score, miss.side) == (kind, score, 40)
    assert miss.overlap == pytest.approx(overlap, abs=1e-6)
    assert miss.box.tolist() == list(FACE)


def test_square_crops_on_a_long_object_have_not_lost_it() -> None:
    plate, crop = (100, 180, 260, 220), (101, 121, 260, 280)
    one = detected(pnet=[crop], rnet=[crop])
    (miss,) = error_analysis.missed_faces(scored([labelled("a", plate)], {"a": one}))
    assert miss.kind == "lost by onet"


def test_a_box_that_went_to_a_neighbour() -> None:
    # It overlaps both at 0.5 or more, the first one better.
    faces = labelled("a", (0, 0, 100, 100), (30, 0, 130, 100))
    (miss,) = error_analysis.missed_faces(scored([faces], {"a": detected(((5, 0, 105, 100), 0.9))}))
    assert miss.box.tolist() == [30, 0, 130, 100]
    assert miss.kind == "its box went to a neighbour" and miss.overlap == pytest.approx(0.6)


def test_ignored_and_found_faces_are_no_misses() -> None:
    annotation = labelled("a", FACE, WIDE, ignored=[1])
    assert error_analysis.missed_faces(scored([annotation], {"a": detected((FACE, 0.9))})) == []


def test_what_the_other_weights_find_comes_first() -> None:
    annotations = [labelled(key, FACE) for key in "abc"]
    ours = scored(annotations, {key: detected() for key in "abc"})
    other = scored(
        annotations,
        {"a": detected(), "b": detected((FACE, 0.8)), "c": detected((FACE, 0.6), (FACE, 0.9))},
    )
    found = [(m.annotation.key, m.other_score) for m in error_analysis.missed_faces(ours, other)]
    assert found == [("c", 0.9), ("b", 0.8), ("a", 0.0)]


def test_false_alarms_by_kind_and_score() -> None:
    result = scored(
        [labelled("a", FACE), labelled("b")],
        {
            "a": detected((FACE, 0.7), (FACE, 0.6), ((100, 100, 140, 110), 0.8)),
            "b": detected(((0, 0, 20, 30), 0.9)),
        },
    )
    alarms = [(m.kind, m.score, m.side) for m in error_analysis.false_alarms(result)]
    assert alarms == [
        ("no labelled face there", 0.9, 30),
        ("box too far off", 0.8, 40),
        ("second box of a face", 0.6, 40),
    ]


def test_tables_by_size() -> None:
    sides = (10, 20, 31.5, 40, 300)
    faces = labelled("a", *((500 * i, 0, 500 * i + side, side) for i, side in enumerate(sides)))
    result = scored([faces], {"a": detected(((0, 0, 10, 10), 0.9), pnet=[(501, 1, 520, 20)])})
    assert error_analysis.count_kinds(error_analysis.missed_faces(result)) == (
        ["longer side, px", "lost by pnet", "lost by rnet", "all"],
        [
            ["20 to 32", "1", "1", "2"],
            ["32 to 64", "1", "0", "1"],
            ["256 and more", "1", "0", "1"],
            ["all", "3", "1", "4"],
        ],
    )
    assert [(row.label, row.faces, row.found) for row in recall_by_size(result)] == [
        ("0 to 20", 1, 1),
        ("20 to 32", 2, 0),
        ("32 to 64", 1, 0),
        ("256 and more", 1, 0),
    ]


def test_a_crowd_does_not_hide_the_rest() -> None:
    crowd = labelled("a", *((100 * i, 0, 100 * i + 40, 40) for i in range(6)))
    result = scored([crowd, labelled("b", FACE)], {"a": detected(), "b": detected()})
    shown = error_analysis.sample(error_analysis.missed_faces(result), 5, 3)
    assert sorted(m.annotation.key for m in shown) == ["a", "a", "a", "b"]
    assert len(error_analysis.sample(error_analysis.missed_faces(result), 2, 3)) == 2
