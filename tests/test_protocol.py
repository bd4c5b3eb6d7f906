"""WIDER's protocol against a hand-worked case, the official procedure, and the real lists."""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from evaluation import protocol, wider_ground_truth
from evaluation.protocol import (
    Detections,
    GroundTruth,
    PrecisionRecall,
    average_precision,
    evaluate,
    match,
)
from mtcnn_detector.errors import UserError

WIDER = Path(__file__).parents[1] / "../shared/data/wider"
real_data = pytest.mark.skipif(not WIDER.is_dir(), reason="WIDER FACE is not here")
Row = tuple[float, ...]
Scene = tuple[dict[str, Detections], dict[str, GroundTruth]]
Measure = Callable[[dict[str, Detections], dict[str, GroundTruth]], PrecisionRecall]

OFFICIAL_FACES = {"easy": 7211, "medium": 13319, "hard": 31958}


def detections(*rows: Row) -> Detections:
    """Rows of x1, y1, x2, y2, score."""
    table = np.array(rows, dtype=float).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4])


def truth(*boxes: Row, ignored: Sequence[int] = ()) -> GroundTruth:
    corners = np.array(boxes, dtype=float).reshape(-1, 4)
    return GroundTruth(corners, np.isin(np.arange(len(boxes)), ignored))


def hand_worked() -> Scene:
    found = {
        "a": detections(
            (0, 0, 100, 100, 1.0),  # finds the first face
            (0, 5, 100, 105, 0.9),  # duplicate of it: false alarm
            (400, 0, 500, 100, 0.8),  # on an ignored face: neither
            (600, 0, 700, 100, 0.7),  # on nothing: false alarm
            (200, 0, 300, 100, 0.0),  # finds the second face, with the least score of all
        ),
        "b": detections((20, 20, 70, 70, 0.6)),  # IoU 0.22: false alarm, and its face is missed
    }
    faces = {
        "a": truth((0, 0, 100, 100), (200, 0, 300, 100), (400, 0, 500, 100), ignored=[2]),
        "b": truth((0, 0, 50, 50)),
    }
    return found, faces


def test_hand_worked_case_of_every_kind_of_error() -> None:
    curve = evaluate(*hand_worked())
    # ranks: found, false, (ignored), false, false, found; three faces count
    assert curve.ap == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 5, abs=1e-12)
    at = {round(t, 3): i for i, t in enumerate(curve.thresholds)}
    for threshold, precision, recall in [
        (0.95, 1, 1 / 3),
        (0.85, 1 / 2, 1 / 3),
        (0.75, 1 / 2, 1 / 3),  # the ignored face changes nothing
        (0.65, 1 / 3, 1 / 3),
        (0.55, 1 / 4, 1 / 3),
        (0.0, 2 / 5, 2 / 3),
    ]:
        assert curve.precision[at[threshold]] == pytest.approx(precision)
        assert curve.recall[at[threshold]] == pytest.approx(recall)
    assert average_precision(*hand_worked()).ap == pytest.approx(curve.ap, abs=1e-12)


# Four faces found perfectly, and one kind of error at a time; AP worked out by hand.
FOUR = [(200 * i, 0, 200 * i + 100, 100) for i in range(4)]
PERFECT: list[Row] = [(*box, score) for box, score in zip(FOUR, (0.9, 0.8, 0.7, 0.0), strict=True)]
NOWHERE = (1000, 0, 1100, 100)


def with_error(position: int, row: Row | None) -> list[Row]:
    """The perfect detections with one replaced, or removed where row is None."""
    return [*PERFECT[:position], *([row] if row else []), *PERFECT[position + 1 :]]


@pytest.mark.parametrize("measure", [evaluate, average_precision])
@pytest.mark.parametrize(
    ("rows", "ignored", "ap"),
    [
        (PERFECT, (), 1),
        # A miss costs its face and nothing else.
        (with_error(1, None), (), 3 / 4),
        # A false alarm costs the precision of all that scores lower: here of everything ...
        ([*PERFECT, (*NOWHERE, 1.0)], (), 4 / 5),
        # ... here, between the third and the last face, only of that one ...
        ([*PERFECT, (*NOWHERE, 0.6)], (), 3 / 4 + 1 / 4 * 4 / 5),
        # ... and below all faces nothing.
        ([*PERFECT, (*NOWHERE, -0.1)], (), 1),
        # A second box on a face is a false alarm like any other.
        ([*PERFECT, (*FOUR[0], 0.6)], (), 3 / 4 + 1 / 4 * 4 / 5),
        # A box that is too far off (IoU 1/3) is two errors: a miss and a false alarm.
        (with_error(0, (50, 0, 150, 100, 0.9)), (), 3 / 4 * 3 / 4),
        # An ignored face counts neither when it is found nor when it is missed,
        (PERFECT, (0,), 1),
        (with_error(0, None), (0,), 1),
        # and a second box on it is no false alarm either.
        ([*PERFECT, (*FOUR[0], 1.0)], (0,), 1),
        # But one beside it is.
        ([*PERFECT, (50, 0, 150, 100, 1.0)], (0,), 3 / 4),
    ],
)
def test_cost_of_each_kind_of_error(
    measure: Measure, rows: list[Row], ignored: tuple[int, ...], ap: float
) -> None:
    curve = measure({"a": detections(*rows)}, {"a": truth(*FOUR, ignored=ignored)})
    assert curve.ap == pytest.approx(ap, abs=1e-12)


@pytest.mark.parametrize(
    ("threshold", "found", "false_alarms"), [(1.1, 0, 0), (1.0, 1, 0), (0.75, 1, 1), (0.0, 2, 3)]
)
def test_detections_at_a_threshold(threshold: float, found: int, false_alarms: int) -> None:
    reported, faces = hand_worked()
    every = {key: (d.scores >= threshold, d) for key, d in reported.items()}
    kept = {key: Detections(d.boxes[rows], d.scores[rows]) for key, (rows, d) in every.items()}
    matches = [match(kept[key], faces[key]) for key in kept]
    assert sum(match.found.sum() for match in matches) == found
    assert sum(match.false_alarm.sum() for match in matches) == false_alarms
    hit = [match.hit(len(faces[key].boxes)).sum() for key, match in zip(kept, matches, strict=True)]
    assert sum(hit) == found


def test_match_classifies_each_detection() -> None:
    found, faces = hand_worked()
    matched = match(found["a"], faces["a"])
    assert matched.face.tolist() == [0, 0, 2, -1, 1]
    assert matched.found.tolist() == [True, False, False, False, True]
    assert matched.false_alarm.tolist() == [False, True, False, True, False]


def test_the_better_score_takes_the_face_whatever_the_order() -> None:
    matched = match(detections((0, 0, 10, 10, 0.2), (0, 1, 10, 11, 0.9)), truth((0, 0, 10, 10)))
    assert matched.found.tolist() == [False, True]


def test_a_detection_has_no_second_choice() -> None:
    faces = truth((0, 0, 10, 10), (3, 0, 13, 10))
    # The second overlaps the first face by 9 of 11 and the other by 8 of 12.
    two = detections((0, 0, 10, 10, 0.9), (1, 0, 11, 10, 0.8))
    assert match(two, faces).found.tolist() == [True, False]
    half_ignored = truth((0, 0, 10, 10), (3, 0, 13, 10), ignored=[0])
    matched = match(detections((1, 0, 11, 10, 0.8)), half_ignored)
    assert not matched.found.any() and not matched.false_alarm.any()


def test_wider_measures_sides_one_pixel_longer() -> None:
    found, faces = {"a": detections((0, 3.5, 10, 13.5, 1))}, {"a": truth((0, 0, 10, 10))}
    # 6.5 * 10 of 135 are shared, 7.5 * 11 of 159.5 by the official measure
    assert protocol.overlaps(found["a"].boxes, faces["a"].boxes) == pytest.approx(65 / 135)
    assert protocol.overlaps(found["a"].boxes, faces["a"].boxes, 1) == pytest.approx(82.5 / 159.5)
    assert evaluate(found, faces).ap == 1 and average_precision(found, faces).ap == 0


@pytest.mark.filterwarnings("error")
def test_overlap_at_its_limits() -> None:
    assert match(detections((0, 0, 10, 5, 1)), truth((0, 0, 10, 10))).found.all()  # IoU 0.5
    assert match(detections((3, 3, 3, 3, 1)), truth((3, 3, 3, 3))).false_alarm.all()  # no area


def test_ap50_95_is_the_mean_over_ten_overlaps() -> None:
    assert protocol.OVERLAPS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    # IoU 1 and 0.72: the second is found at five of the ten overlaps, and is a false alarm, below
    # the first, at the others.
    faces = {"a": truth((0, 0, 10, 10), (50, 0, 60, 10))}
    found = {"a": detections((0, 0, 10, 10, 0.9), (50, 0, 60, 7.2, 0.8))}
    assert protocol.mean_average_precision(found, faces) == pytest.approx((5 * 1 + 5 * 0.5) / 10)
    assert average_precision(found, faces, 0.72).ap == 1
    assert average_precision(found, faces, 0.73).ap == 0.5


def test_best_f1_and_its_threshold() -> None:
    found, faces = hand_worked()
    # Of three faces: 1 of 1 found at 1.0, then false alarms, 2 of 5 at 0.0: F1 1/2 against 1/2; of
    # equal ones the highest threshold.
    assert average_precision(found, faces).best_f1() == (0.5, 1.0)
    face = {"a": truth((0, 0, 10, 10), (50, 0, 60, 10))}
    both = {"a": detections((0, 0, 10, 10, 0.9), (90, 0, 99, 9, 0.8), (50, 0, 60, 10, 0.7))}
    f1, threshold = average_precision(both, face).best_f1()
    assert f1 == pytest.approx(2 * (2 / 3) / (1 + 2 / 3))
    assert threshold == 0.7
    nothing = average_precision({"a": detections()}, face).best_f1()
    assert nothing[0] == 0 and np.isnan(nothing[1])


def test_a_thousand_thresholds_lump_close_scores() -> None:
    found = {
        "a": detections(
            (0, 0, 10, 10, 1.0), (90, 0, 99, 9, 0.9998), (20, 0, 30, 10, 0.9996), (50, 0, 60, 9, 0)
        )
    }
    faces = {"a": truth((0, 0, 10, 10), (20, 0, 30, 10))}
    assert evaluate(found, faces).ap == pytest.approx(2 / 3)
    assert average_precision(found, faces).ap == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("measure", [evaluate, average_precision])
def test_nothing_reported_scores_nothing(measure: Measure) -> None:
    faces = {"a": truth((0, 0, 9, 9)), "b": truth()}
    for found in (
        dict[str, Detections](),
        {"a": detections()},
        {"a": detections(), "b": detections()},
    ):
        assert measure(found, faces).ap == 0.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("measure", [evaluate, average_precision])
def test_perfect_detections_score_one(measure: Measure) -> None:
    faces = {"a": truth((0, 0, 9, 9), (50, 0, 70, 30)), "b": truth((3, 3, 40, 40))}
    same_score = {k: Detections(t.boxes, np.full(len(t.boxes), 0.7)) for k, t in faces.items()}
    assert measure(same_score, faces).ap == 1.0


@pytest.mark.parametrize("measure", [evaluate, average_precision])
def test_images_without_faces_or_without_an_entry_count(measure: Measure) -> None:
    face = truth((0, 0, 9, 9))
    on_face, alarm = detections((0, 0, 9, 9, 0.5)), detections((0, 0, 9, 9, 0.9))
    assert measure({"a": on_face, "b": alarm}, {"a": face, "b": truth()}).ap == 0.5
    assert measure({"a": on_face}, {"a": face, "b": face}).ap == 0.5


def test_impossible_evaluations_are_refused() -> None:
    with pytest.raises(UserError, match="stranger has no ground truth"):
        evaluate({"stranger": detections()}, {"a": truth((0, 0, 9, 9))})
    with pytest.raises(UserError, match="no face counts"):
        evaluate({}, {"a": truth((0, 0, 9, 9), ignored=[0])})
    with pytest.raises(UserError, match="x has no ground truth"):
        protocol.restrict({}, ["x"])
    with pytest.raises(ValueError, match=r"\(1, 4\), \(2,\)"):
        Detections(np.zeros((1, 4)), np.zeros(2))
    with pytest.raises(ValueError, match="finite"):
        Detections(np.zeros((1, 4)), np.array([np.nan]))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """A few images with crowded boxes, so that duplicates, ignored hits and equal scores occur."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    found: dict[str, Detections] = {}
    faces: dict[str, GroundTruth] = {}
    for key in "abcd"[: draw(st.integers(1, 4))]:
        count = int(rng.integers(1, 6))
        corners = rng.integers(0, 40, (count, 2)).astype(float)
        boxes = np.hstack([corners, corners + rng.integers(4, 20, (count, 2))]).astype(float)
        near = boxes[rng.integers(0, count, rng.integers(0, 9))]
        moved = near + rng.integers(-3, 4, near.shape).astype(float)
        found[key] = Detections(moved, rng.integers(0, 30, len(near)) / 32)
        faces[key] = GroundTruth(boxes, rng.random(count) < 0.3)
    faces["z"] = truth((0, 0, 8, 8))
    return found, faces


def official_iou(a: NDArray[Any], b: NDArray[Any]) -> float:
    width, height = (min(a[k + 2], b[k + 2]) - max(a[k], b[k]) + 1 for k in (0, 1))
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (a, b)]
    return float(width * height / (sum(areas) - width * height))


def official_ap(found: dict[str, Detections], faces: dict[str, GroundTruth]) -> float:
    """The official procedure step by step, slowly."""
    every = [score for image in found.values() for score in image.scores]
    low, span = min(every), (max(every) - min(every)) or 1
    total = sum(int((~t.ignored).sum()) for t in faces.values())
    reports = []
    for key, image in found.items():
        taken: set[int] = set()
        for i in np.argsort(-image.scores, kind="stable"):
            ious = [official_iou(image.boxes[i], face) for face in faces[key].boxes]
            owner = ious.index(max(ious))
            on_face = ious[owner] >= 0.5
            if not (on_face and faces[key].ignored[owner]):
                reports.append(((image.scores[i] - low) / span, on_face and owner not in taken))
                taken |= {owner} if on_face else set()
    curve = []
    for k in range(1, 1001):
        hits = [hit for score, hit in reports if score >= 1 - k / 1000]
        curve.append((sum(hits) / total, sum(hits) / max(len(hits), 1)))
    ap, last, envelope = 0.0, 0.0, np.maximum.accumulate([p for _, p in curve][::-1])[::-1]
    for (recall, _), precision in zip(curve, envelope, strict=True):
        ap, last = ap + (recall - last) * precision, recall
    return ap


@settings(max_examples=25, deadline=None)
@given(scenes())
def test_agrees_with_the_official_procedure(scene: Scene) -> None:
    found, faces = scene
    if any(len(d.scores) for d in found.values()):
        assert evaluate(found, faces).ap == pytest.approx(official_ap(found, faces), abs=1e-9)


@settings(deadline=None)
@given(scenes(), st.integers(-3, 3), st.integers(-50, 50))
def test_plain_ap_depends_on_the_order_of_scores_only_and_widers_not_on_their_scale(
    scene: Scene, exponent: int, shift: int
) -> None:
    found, faces = scene
    bent = {k: Detections(d.boxes, np.exp(3 * d.scores) - 7) for k, d in found.items()}
    assert average_precision(bent, faces).ap == average_precision(found, faces).ap
    moved = {k: Detections(d.boxes, d.scores * 2.0**exponent + shift) for k, d in found.items()}
    assert evaluate(moved, faces).ap == evaluate(found, faces).ap


@settings(deadline=None)
@given(scenes(), st.randoms(use_true_random=False))
def test_order_of_images_and_detections_does_not_matter(scene: Scene, random: Random) -> None:
    found, faces = scene
    keys = list(found)
    random.shuffle(keys)
    other = {}
    for key in keys:
        places = list(range(len(found[key].scores)))
        random.shuffle(places)
        other[key] = Detections(found[key].boxes[places], found[key].scores[places])
    for measure in (evaluate, average_precision):
        curve, again = measure(found, faces), measure(other, dict(reversed(faces.items())))
        assert 0 <= curve.ap <= 1
        assert again.ap == curve.ap
        assert np.all(np.diff(curve.recall) >= 0) and np.all(np.diff(curve.thresholds) < 0)


def test_mats_missing_or_damaged_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"wider_face_val.mat not found"):
        wider_ground_truth.read_wider_mats(tmp_path, "easy")
    (tmp_path / "wider_face_val.mat").write_bytes(b"not a mat file" * 20)
    with pytest.raises(UserError, match=r"wider_face_val.mat is damaged"):
        wider_ground_truth.read_wider_mats(tmp_path, "easy")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(UserError, match="pip install scipy"):
        wider_ground_truth.read_wider_mats(tmp_path, "easy")


def write_mats(folder: Path, counting: dict[str, list[int]]) -> None:
    """WIDER's four files for one image, event/image, of two faces: those that count, by level."""
    scipy_io = pytest.importorskip("scipy.io")

    def cells(value: object) -> np.ndarray:
        inner, outer = np.empty((1, 1), object), np.empty((1, 1), object)
        inner[0, 0] = value
        outer[0, 0] = inner
        return outer

    event = np.empty((1, 1), object)
    event[0, 0] = "event"
    boxes = np.array([[10, 20, 30, 40], [100, 20, 9, 11]])
    every = {
        "event_list": event,
        "file_list": cells("image"),
        "face_bbx_list": cells(boxes),
    }
    scipy_io.savemat(folder / "wider_face_val.mat", every)
    for level, places in counting.items():
        content = {"gt_list": cells(np.array(places).reshape(-1, 1))}
        scipy_io.savemat(folder / f"wider_{level}_val.mat", content)


def test_levels_of_which_no_image_at_hand_has_a_face_have_no_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mats(tmp_path, {"easy": [], "medium": [1], "hard": [1, 2]})
    found = {"wider/event/image.jpg": detections((10, 20, 40, 60, 0.9))}
    curves = wider_ground_truth.curves(tmp_path, found)
    assert {level: curve.ap for level, curve in curves.items()} == {"medium": 1.0, "hard": 0.5}
    assert not capsys.readouterr().err


def test_without_one_of_the_mats_there_are_no_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mats(tmp_path, {"easy": [1], "medium": [1], "hard": [1, 2]})
    (tmp_path / "wider_face_val.mat").unlink()
    assert wider_ground_truth.curves(tmp_path, {}) == {}
    assert "wider_face_val.mat is not there" in capsys.readouterr().err


@real_data
@pytest.mark.parametrize("level", wider_ground_truth.LEVELS)
def test_real_mats_hold_the_official_counts_and_score_one_themselves(
    level: wider_ground_truth.Level,
) -> None:
    truths = wider_ground_truth.read_wider_mats(WIDER / "wider_face_split", level)
    assert len(truths) == 3226
    assert sum(int((~t.ignored).sum()) for t in truths.values()) == OFFICIAL_FACES[level]
    at_hand = protocol.restrict(truths, wider_val_keys())
    text = (WIDER / "wider_face_split" / "wider_face_val_bbx_gt.txt").read_text()
    faces_in_text = sum(int(line) for line in text.splitlines() if line.strip().isdigit())
    assert sum(len(t.boxes) for t in at_hand.values()) == faces_in_text
    labels = {k: Detections(t.boxes, np.linspace(0, 1, len(t.boxes))) for k, t in at_hand.items()}
    assert evaluate(labels, at_hand).ap == 1.0


@real_data
def test_each_level_counts_the_faces_of_the_easier_one() -> None:
    easy, medium, hard = (
        wider_ground_truth.read_wider_mats(WIDER / "wider_face_split", level)
        for level in wider_ground_truth.LEVELS
    )
    for key in wider_val_keys():
        assert not (~easy[key].ignored & medium[key].ignored).any()
        assert not (~medium[key].ignored & hard[key].ignored).any()


@real_data
def test_all_official_images_take_seconds() -> None:
    truths = wider_ground_truth.read_wider_mats(WIDER / "wider_face_split", "hard")
    shifted = {
        k: Detections(t.boxes + 1, np.arange(len(t.boxes), dtype=float)) for k, t in truths.items()
    }
    started = time.process_time()
    assert 0.5 < evaluate(shifted, truths).ap < 1
    assert time.process_time() - started < 10


def wider_val_keys() -> list[str]:
    images = sorted((WIDER / "WIDER_val" / "images").glob("*/*.jpg"))
    return [f"{image.parent.name}/{image.stem}" for image in images]
