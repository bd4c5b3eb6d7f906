"""The cascade as one SavedModel: faces, resizing and NMS equal those of the detector."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.merge import merge
from mtcnn_detector import boxes, pixels
from mtcnn_detector.cascade import Cascade
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files
from tests.pictures import clouds, photographs
from tests.test_deployment import WEIGHTS, images

pytestmark = pytest.mark.slow

tf = pytest.importorskip("tensorflow")

# Levels may differ by a grey level where a mean lies between two, and a crop then by a pixel.
MIN_IOU, MAX_SCORE_DIFFERENCE = 0.8, 0.06
SETTINGS = DetectorSettings()


@pytest.fixture(scope="module")
def cascade_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`make export-weights FORMAT=savedmodel-cascade` of our own weights."""
    run = tmp_path_factory.mktemp("cascade") / "run"
    sources = dict.fromkeys(NETS, WEIGHTS)
    merge(run, sources, force=False, format_name="savedmodel-cascade")
    return run / "savedmodel-cascade"


def test_the_same_faces_on_twenty_images(cascade_folder: Path) -> None:
    if not photographs():
        pytest.skip("needs scikit-image's photograph")
    from export.tensorflow_cascade import load_cascade

    detect, ours = load_cascade(cascade_folder), Cascade(weight_files.read(WEIGHTS), SETTINGS)
    total, missed, differences = 0, 0, []
    for image in images():
        expected, found = ours.detect(image), detect(image, SETTINGS)
        total += len(expected.scores)
        overlap = boxes.iou(
            boxes.windows_of(expected.boxes), boxes.windows_of(found.boxes.astype(np.float64))
        )
        for row, score in zip(overlap, expected.scores, strict=True):
            best = int(row.argmax()) if len(row) else -1
            if best < 0 or row[best] < MIN_IOU:
                missed += 1
            else:
                differences.append(abs(float(found.scores[best] - score)))
        assert abs(len(found.scores) - len(expected.scores)) <= 1
    assert total >= 20
    assert missed <= 0.03 * total
    assert max(differences) < MAX_SCORE_DIFFERENCE
    assert np.median(differences) < 1e-4


def test_both_signatures_and_an_image_without_faces(cascade_folder: Path) -> None:
    model = tf.saved_model.load(str(cascade_folder))
    assert sorted(model.signatures) == ["detect", "serving_default"]
    shapes = {"boxes": (0, 4), "scores": (0,), "landmarks": (0, 5, 2)}
    for image in (np.zeros((5, 8, 3), np.uint8), np.zeros((60, 90, 3), np.uint8)):
        outputs = model.signatures["detect"](image=tf.constant(image))
        assert {key: tuple(value.shape) for key, value in outputs.items()} == shapes
    text = (cascade_folder / "README.md").read_text()
    for key in (*shapes, "min_face_size", "scale_factor", "thresholds", "image"):
        assert f"`{key}`" in text


def test_settings_count(cascade_folder: Path) -> None:
    if not photographs():
        pytest.skip("needs scikit-image's photograph")
    from export.tensorflow_cascade import load_cascade

    detect, image = load_cascade(cascade_folder), next(iter(photographs().values()))
    counts = [
        len(detect(image, settings).scores)
        for settings in (
            DetectorSettings(20, 0.709, (0.1, 0.05, 0.01)),
            DetectorSettings(20, 0.709, (0.6, 0.7, 0.7)),
            DetectorSettings(400, 0.709, (0.6, 0.7, 0.7)),
        )
    ]
    assert counts[0] > counts[1] > counts[2] == 0


OF_ITS_OWN = """
import sys
import numpy as np
import tensorflow as tf
image = np.load(sys.argv[2])
outputs = tf.saved_model.load(sys.argv[1]).signatures["detect"](image=tf.constant(image))
np.savez(sys.argv[3], **{key: value.numpy() for key, value in outputs.items()})
ours = {"export", "models", "mtcnn_detector", "pipeline", "configs"}
assert not ours & {name.partition(".")[0] for name in sys.modules}
"""


def test_it_runs_without_this_project(cascade_folder: Path, tmp_path: Path) -> None:
    if not photographs():
        pytest.skip("needs scikit-image's photograph")
    from export.tensorflow_cascade import load_cascade

    image = next(iter(photographs().values()))
    np.save(tmp_path / "image.npy", image)
    paths = [str(path) for path in (cascade_folder, tmp_path / "image.npy", tmp_path / "out.npz")]
    command = [sys.executable, "-I", "-c", OF_ITS_OWN, *paths]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    expected, outputs = load_cascade(cascade_folder)(image, SETTINGS), np.load(paths[2])
    assert len(expected.scores) > 0
    np.testing.assert_array_equal(outputs["boxes"], expected.boxes)


@pytest.mark.parametrize("size", [(100, 140), (61, 85), (33, 50), (120, 168), (50, 70)])
def test_levels_are_those_of_opencv(size: tuple[int, int]) -> None:
    from export.tensorflow_resize import Resizer

    image = clouds(104, 140)[:100]
    level = Resizer(tf.constant(image, tf.float64)).level(tf.constant(size)).numpy()
    expected = pixels.resize(image.astype(np.float32), size[1], size[0])
    assert np.ptp(expected) > 100
    np.testing.assert_allclose(level, expected, atol=1e-3)


def test_crops_are_those_of_the_detector() -> None:
    from export.tensorflow_resize import Resizer

    image = clouds(104, 140)[:100]
    windows = np.array(
        [
            *([10, 10, 30, 30], [-5, -7, 30, 28], [20, 20, 90, 90], [80, 60, 150, 130]),
            *([0, 0, 48, 48], [0, 0, 47, 47], [-60, -60, -10, -10], [99, 70, 104, 75]),
        ]
    )
    crops = Resizer(tf.constant(image, tf.float64)).crops(tf.constant(windows, tf.int32), 48)
    expected = pixels.cut(image, windows, 48, np.float32)
    np.testing.assert_allclose(crops.numpy(), expected, atol=1e-3)


def test_nms_over_the_smaller_area_keeps_what_the_detector_keeps() -> None:
    from export.tensorflow_boxes import nms_over_smaller

    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (80, 2))
    windows = np.concatenate([corners, corners + rng.uniform(5, 40, (80, 2))], axis=1)
    scores = rng.choice([0.5, 0.7, 0.9], 80).astype(np.float32)  # with equal ones
    kept = nms_over_smaller(tf.constant(windows), tf.constant(scores), 0.4).numpy()
    expected = boxes.nms(windows, scores, 0.4, over_smaller=True)
    assert 5 < len(expected) < 60
    np.testing.assert_array_equal(kept, expected)


def test_a_cascade_with_other_faces_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export import tensorflow_boxes, tensorflow_cascade

    def strict_nms(windows: Any, scores: Any, _: float) -> Any:
        return tensorflow_boxes.nms(windows, scores, 0.01)

    monkeypatch.setattr(tensorflow_cascade, "nms", strict_nms)
    with pytest.raises(UserError, match=r"the written cascade finds .* boxes on a random image"):
        merge(tmp_path, dict.fromkeys(NETS, WEIGHTS), False, "savedmodel-cascade")
    assert not (tmp_path / "savedmodel-cascade").exists()
