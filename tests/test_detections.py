"""What a detector's faces add to labels: ignored regions and landmarks, and nothing else."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import detections
from data_prep.annotations import Annotation
from mtcnn_detector.errors import UserError

ZIPPED = gzip.compress(b'{"event/a.jpg": [[1, 2, 3]]}' * 9)
LANDMARKS = [12, 14, 18, 14, 15, 17, 12, 20, 18, 20]


def labelled(key: str = "wider/event/a.jpg") -> Annotation:
    """One face with landmarks, one without, one ignored."""
    boxes = np.array([[10, 10, 20, 24], [50, 50, 60, 64], [80, 80, 90, 90]], np.float32)
    landmarks = np.full((3, 5, 2), np.nan, np.float32)
    landmarks[0] = np.reshape(LANDMARKS, (5, 2))
    return Annotation(Path("a.jpg"), key, boxes, np.array([False, False, True]), landmarks, "a:1")


def row(x: float, y: float, score: float, width: float = 10, height: float = 14) -> list[float]:
    return [x, y, x + width, y + height, score, *(float(n) + x for n in LANDMARKS)]


def written(path: Path, content: Any, zipped: bool = False) -> Path:
    text = json.dumps(content).encode()
    path.write_bytes(gzip.compress(text) if zipped else text)
    return path


@pytest.mark.parametrize("zipped", [False, True])
def test_what_detections_add(tmp_path: Path, zipped: bool) -> None:
    rows = [row(11, 10, 0.9), row(50, 51, 0.8), row(80, 78, 0.9), row(120, 30, 0.25)]
    file = written(tmp_path / "d", {"event/a.jpg": [*rows, row(150, 30, 0.1)]}, zipped)
    before, other = labelled(), labelled("wider/event/b.jpg")
    after, same = detections.add_detections([before, other], file)
    assert same is other
    # The new face is ignored, the one of a score under 0.2 is not there at all.
    assert after.ignored.tolist() == [False, False, True, True]
    np.testing.assert_array_equal(after.boxes[:3], before.boxes)
    np.testing.assert_array_equal(after.boxes[3], [120, 30, 130, 44])
    np.testing.assert_array_equal(after.landmarks[0], before.landmarks[0])
    np.testing.assert_array_equal(after.landmarks[1], np.reshape(LANDMARKS, (5, 2)) + 50)
    assert np.isnan(after.landmarks[3]).all()
    assert np.isnan(before.landmarks[1]).all()


def test_landmarks_of_unsure_detections_are_not_taken_over(tmp_path: Path) -> None:
    file = written(tmp_path / "d.json", {"event/a.jpg": [row(50, 50, 0.59)]})
    (after,) = detections.add_detections([labelled()], file)
    assert len(after.boxes) == 3
    assert np.isnan(after.landmarks[1]).all()


def test_of_two_detections_the_nearer_gives_the_landmarks(tmp_path: Path) -> None:
    file = written(tmp_path / "d.json", {"event/a.jpg": [row(52, 52, 0.99), row(50, 50, 0.7)]})
    (after,) = detections.add_detections([labelled()], file)
    np.testing.assert_array_equal(after.landmarks[1], np.reshape(LANDMARKS, (5, 2)) + 50)


@pytest.mark.parametrize(
    "content, told",
    [
        (b"{", "damaged"),
        (b"\x1f\x8bno gzip", "is damaged"),
        (ZIPPED[:12] + b"?" + ZIPPED[13:], "is damaged"),  # in its blocks
        (ZIPPED[:-8] + b"?" + ZIPPED[-7:], "is damaged"),  # in its checksum
        (ZIPPED[:20], "is damaged"),
        (b'{"event/a.jpg": [[1, 2, 3]]}', "damaged"),
        (b"[]", "damaged"),
        (b'{"other.jpg": []}', "none of the images"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, content: Any, told: Any) -> None:
    file = tmp_path / "d.json.gz"
    file.write_bytes(content)
    with pytest.raises(UserError, match=told) as refused:
        detections.add_detections([labelled()], file)
    assert str(file) in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        detections.add_detections([labelled()], tmp_path / "none.json")
