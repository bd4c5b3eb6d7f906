"""The sweep: the settings it visits, and its measurements of a detector with known detections."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from configs import recipe
from configs.record_settings import Source
from configs.settings import Settings
from data_prep.annotations import Annotation
from evaluation import detections, plots, sweep
from evaluation.detections import DetectFunction, ImageDetections
from evaluation.sweep import SweepResult
from mtcnn_detector.cascade import Faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.settings import DetectorSettings

ROOT = Path(__file__).parents[1]


def test_one_setting_is_varied_at_a_time_and_the_recipes_value_is_among_them() -> None:
    start = DetectorSettings(min_face_size=25, scale_factor=0.709, thresholds=(0.6, 0.65, 0.7))
    variants = sweep.variants(start)
    assert {name for name, _, _ in variants} == {
        "min_face_size",
        "threshold of pnet",
        "threshold of rnet",
        "threshold of onet",
        "scale_factor",
    }
    for name in sweep.PARAMETERS:
        values = [value for other, value, _ in variants if other == name]
        assert values == sorted(values) and len(values) >= 5
        assert [d for other, _, d in variants if other == name].count(start) == 1
    differing = [
        sum(getattr(d, key) != getattr(start, key) for key in ("min_face_size", "scale_factor"))
        + sum(np.not_equal(d.thresholds, start.thresholds))
        for _, _, d in variants
    ]
    assert sorted(set(differing)) == [0, 1]
    assert ("threshold of rnet", 0.9, start.at((0.6, 0.9, 0.7))) in variants
    assert all(isinstance(d.min_face_size, int) for _, _, d in variants)


def faces(*rows: tuple[float, ...]) -> Faces:
    table = np.array(rows, float).reshape(-1, 5)
    return Faces(table[:, :4], table[:, 4], np.zeros((len(table), 5, 2)))


def annotation(folder: Path, name: str, *boxes: tuple[float, ...]) -> Annotation:
    path = folder / f"{name}.png"
    cv2.imwrite(str(path), np.zeros((60, 60, 3), np.uint8))
    corners = np.array(boxes, np.float32).reshape(-1, 4)
    landmarks = np.full((len(corners), 5, 2), np.nan, np.float32)
    ignored = np.zeros(len(corners), bool)
    return Annotation(path, f"set/{name}.png", corners, ignored, landmarks, "l:1")


def test_measurements_by_hand(tmp_path: Path) -> None:
    annotations = [
        annotation(tmp_path, "a", (0, 0, 10, 10), (20, 0, 30, 10)),
        annotation(tmp_path, "1"),
    ]
    found = {
        "set/a.png": ImageDetections("", 0.4, faces((0, 0, 10, 10, 0.9), (0, 0, 10, 9, 0.8))),
        "set/1.png": ImageDetections("", 0.2, faces((5, 5, 50, 50, 0.7), (0, 0, 4, 4, 0.6))),
    }
    result = sweep.summary("scale_factor", 0.8, False, annotations, found)
    assert result[:3] == ("scale_factor", 0.8, False)
    assert result[3:] == pytest.approx((1 / 2, 3 / 2, 0.9, 0.3))
    nothing = {key: ImageDetections("", 0.1, faces()) for key in found}
    assert np.isnan(sweep.summary("scale_factor", 0.8, False, annotations, nothing).confidence)
    default = result._replace(default=True)
    assert sweep.table([result, default]).splitlines()[2:] == [
        "| scale_factor | 0.8 | 50.0 % | 1.50 | 0.900 | 300 |",
        "| scale_factor | **0.8** | 50.0 % | 1.50 | 0.900 | 300 |",
    ]


@pytest.mark.slow
def test_every_setting_is_run_and_resumed(tmp_path: Path) -> None:
    weights = tmp_path / "w.npy"
    weights.write_bytes(b"weights")
    annotations = [annotation(tmp_path, n, (0, 0, 20, 20)) for n in "ab"]
    started: list[DetectorSettings] = []

    def start(_: Path, detector: DetectorSettings) -> DetectFunction:
        # A detector that finds a face as long as every threshold is low enough.
        started.append(detector)
        hit = [(0, 0, 20, 20, 0.85)] if max(detector.thresholds) < 0.85 else []
        return lambda image: [faces(*hit)]

    def run() -> list[SweepResult]:
        runtime = detections.Runtime(start, "code")
        return sweep.measure(DetectorSettings(), runtime, weights, annotations, tmp_path / "logs")

    results = run()
    assert (
        len(started)
        == len(set(started))
        == len({d for _, _, d in sweep.variants(DetectorSettings())})
    )
    assert [p.recall for p in results if p.parameter == "threshold of onet"] == [1, 1, 1, 0, 0]
    assert [p.recall for p in results if p.parameter == "min_face_size"] == [1] * 5
    count = len(started)
    again = run()
    assert [p[:2] for p in again] == [p[:2] for p in results]
    np.testing.assert_array_equal([p[2:] for p in again], [p[2:] for p in results])
    assert len(started) == count, "all detections were in the logs"
    pytest.importorskip("matplotlib")
    plots.sweep(results, tmp_path / "sweep.png")
    image = cv2.imread(str(tmp_path / "sweep.png"))
    assert image is not None
    height, width = image.shape[:2]
    assert width > 1000 and height > 500


def own_recipe(folder: Path, count: int) -> Settings:
    """A recipe over black images in WIDER's layout."""
    (folder / "images").mkdir()
    for number in range(count):
        cv2.imwrite(str(folder / "images" / f"{number}.png"), np.zeros((20, 20, 3), np.uint8))
    lines = "".join(f"{n}.png\n1\n1 1 9 9 0 0 0 0 0 0\n" for n in range(count))
    (folder / "wider.txt").write_text(lines)
    (folder / "own.yaml").write_text(
        f"base: {ROOT / 'configs' / 'mtcnn.yaml'}\n"
        f"data:\n  folder: {folder}\n  validation:\n"
        "    scenes: {format: wider, labels: wider.txt, images: images}\n"
    )
    return recipe.load(folder / "own.yaml")


def test_images_are_evenly_spaced_and_only_those_with_boxes(tmp_path: Path) -> None:
    settings = own_recipe(tmp_path, count=10)
    keys = [annotation.key for annotation in sweep.choose(settings, 4)]
    assert keys == [f"scenes/{n}.png" for n in (0, 3, 6, 9)]
    assert len(sweep.choose(settings, 99)) == 10
    (tmp_path / "mtfl.txt").write_text("0.png 1 9 1 9" + " 5" * 10 + "\n")
    landmarks = {"lfw": Source("mtfl", "mtfl.txt", "images", sample_types=("landmark",))}
    only_landmarks = replace(settings, data=replace(settings.data, validation=landmarks))
    with pytest.raises(UserError, match="the sweep needs labelled boxes"):
        sweep.choose(only_landmarks, 4)
    absent = landmarks | {"wider": Source("wider", "absent.txt", "images", optional=True)}
    with pytest.raises(UserError, match="the sweep needs labelled boxes"):
        sweep.choose(replace(settings, data=replace(settings.data, validation=absent)), 4)
