"""Exports of nets without a landmark head: the same faces everywhere, and no invented points."""

import importlib.util
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from app import playground
from evaluation import detections, figures, metrics
from evaluation.detections import ImageDetections
from export.formats import FORMATS
from export.inspect import inspect
from export.merge import merge
from mtcnn_detector import MTCNN, UserError
from mtcnn_detector.cascade import Cascade, Faces
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import LAYOUTS, TrainedNet
from pipeline import status
from tests.pictures import photographs
from tests.test_consumers import Called, detector_0_0, detector_1_0, found, home, imported
from tests.weights_files import assert_same, lively, without_landmarks

WEIGHTS = Path(__file__).parents[1] / "weights" / "mtcnn_weights.npy"
NETS_WITHOUT = {name: lively(name, 1) for name in NETS} | {"onet": without_landmarks(1)}
SETTINGS = DetectorSettings()


def shipped_without() -> dict[NetName, TrainedNet]:
    """Our own weights, O-Net's landmark head taken off."""
    nets = weight_files.read(WEIGHTS)
    net = nets["onet"]
    kept = {key: array for key, array in net.weights.items() if "landmarks/" not in key}
    bare = without_landmarks(1)._replace(weights=kept)
    return nets | {"onet": bare}


def photograph() -> np.ndarray:
    if not photographs():
        pytest.skip("needs scikit-image's photograph")
    return next(iter(photographs().values()))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Our layout's folder of the shipped nets without landmarks."""
    weight_files.write_own_folder(tmp_path / "own", shipped_without())
    return tmp_path / "own"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_packages_files_hold_zeros_that_are_read_as_no_head(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weight_files.write(layout, tmp_path / "weights", NETS_WITHOUT)
    for name, trained in weight_files.read(tmp_path / "weights").items():
        assert_same(trained, NETS_WITHOUT[name])
    assert inspect(tmp_path / "weights")
    lines = capsys.readouterr().out.splitlines()
    says = [line for line in lines if line.startswith("  no landmark head")]
    assert says == [
        "  no landmark head: a detector finds faces without landmarks; its arrays in the file are "
        "zeros"
    ]


def test_a_head_with_one_number_is_a_head(tmp_path: Path) -> None:
    nets = {name: lively(name, 1) for name in NETS}
    for key in ("landmarks/kernel", "landmarks/bias"):
        nets["onet"].weights[key][...] = 0
    nets["onet"].weights["landmarks/bias"][9] = 1e-3
    weight_files.write("ipazc", tmp_path / "w.npy", nets)
    assert weight_files.read(tmp_path / "w.npy")["onet"].net.landmarks


def test_the_export_says_what_the_package_makes_of_it(
    tmp_path: Path, own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    merge(tmp_path / "run", dict.fromkeys(NETS, own), force=False)
    out = capsys.readouterr().out
    assert "note: the last net has no landmark head: faces are found without landmarks; the" in out
    assert "puts all five points of a face at the corner of its box, where they mean" in out
    assert "no landmark head" in status.describe(tmp_path / "run")
    merge(tmp_path / "run", dict.fromkeys(NETS, own), force=False, format_name="own")
    assert "faces are found without landmarks.\n" in capsys.readouterr().out


def assert_faces_without_points(faces: list[dict[str, object]], ours: Faces) -> None:
    assert len(faces) == len(ours.scores) > 0
    for face, box, score in zip(faces, ours.boxes, ours.scores, strict=True):
        assert face["keypoints"] == {}
        assert abs(float(str(face["confidence"])) - score) < 1e-3
        x, y, width, height = np.array(face["box"], float)
        corners = np.array([x, y, x + width, y + height])
        assert np.abs(corners - np.maximum(box, [0, 0, -9, -9])).max() < 2
    json.dumps(faces, allow_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["savedmodel", "tflite", "onnx"])
def test_deployed_nets_give_faces_without_landmarks(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "onnx" and not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        pytest.skip("onnx and onnxruntime are not installed")
    image, nets = photograph(), shipped_without()
    FORMATS[kind].write(tmp_path, nets, {})
    ours = Cascade(nets, SETTINGS).detect(image)
    assert_faces_without_points(MTCNN(tmp_path).detect_faces(image), ours)
    standalone = runpy.run_path(str(tmp_path / "cascade.py"))["MTCNN"](tmp_path)
    assert_faces_without_points(standalone.detect_faces(image), ours)
    assert np.isnan(standalone.detect(image).landmarks).all()
    assert standalone.detect_faces(np.zeros((30, 30, 3), np.uint8)) == []
    readme = (tmp_path / "README.md").read_text()
    assert "trained without landmarks" in readme and "A landmark is" not in readme
    assert "| onet | `pixels` [N, 48, 48, 3] | landmarks |" not in readme
    assert inspect(tmp_path)
    assert "no landmark head" in capsys.readouterr().out


@pytest.mark.slow
def test_the_cascade_of_tensorflow_has_no_output_of_landmarks(tmp_path: Path, own: Path) -> None:
    tf = pytest.importorskip("tensorflow")
    merge(tmp_path / "run", dict.fromkeys(NETS, own), False, "savedmodel-cascade")
    folder = tmp_path / "run" / "savedmodel-cascade"
    found = tf.saved_model.load(str(folder)).signatures["detect"](image=tf.constant(photograph()))
    assert set(found) == {"boxes", "scores"} and len(found["scores"]) > 0
    readme = (folder / "README.md").read_text()
    assert "| `landmarks` |" not in readme and "trained without landmarks" in readme


def one_point_each(detected: list[dict[str, object]]) -> None:
    """The package's five points of each face are one, at or beside the corner of a window."""
    assert len(detected) > 0
    for _, _, points in found(detected):
        assert np.isfinite(points).all()
        assert np.ptp(np.reshape(points, (5, 2)), axis=0).max() <= 1


@pytest.mark.slow
def test_mtcnn_0_1_loads_it_and_our_report_takes_no_points_from_it(tmp_path: Path) -> None:
    pytest.importorskip("pkg_resources")
    image, path = photograph(), tmp_path / "w.npy"
    weight_files.write("ipazc", path, shipped_without())
    with imported("mtcnn-0.1.1") as package:
        detector = package.MTCNN(weights_file=str(path))
        for name in NETS:
            setattr(detector, f"_{name}", Called(getattr(detector, f"_{name}")))
        one_point_each(detector.detect_faces(image))
    faces = detections.load_package(path, SETTINGS, home("mtcnn-0.1.1"))(image)[-1]
    assert len(faces.scores) > 0 and np.isnan(faces.landmarks).all()


def test_mtcnn_1_0_loads_it(tmp_path: Path) -> None:
    image = photograph()
    weight_files.write("ipazc-1.0", tmp_path, shipped_without())
    with imported("mtcnn-1.0.0") as package:
        one_point_each(detector_1_0(package, tmp_path).detect_faces(image))


@pytest.mark.slow
def test_mtcnn_0_0_loads_it(tmp_path: Path) -> None:
    image = photograph()
    weight_files.write("ipazc-0.0", tmp_path / "w.npy", shipped_without())
    with detector_0_0(tmp_path / "w.npy") as detector:
        one_point_each(detector.detect_faces(image))


def test_align_is_refused_at_once(own: Path, tmp_path: Path) -> None:
    from evaluation.__main__ import _parser

    words = ["detect", "image.jpg", "--weights", str(own), "--crops", str(tmp_path / "c")]
    from evaluation.detect import _detector

    with pytest.raises(UserError, match=r"own gives no landmarks, .*: leave out ALIGN="):
        _detector(_parser().parse_args([*words, "--align", "112"]))
    assert _detector(_parser().parse_args(words))(photograph())[-1].scores.size


def test_the_app_says_so(own: Path) -> None:
    cascade = MTCNN(own).cascade
    results = playground.detect(cascade, photograph())
    assert "ms; these weights give no landmarks\n" in playground.summary("own", results)
    assert len(playground.drawings(photograph(), results)) == 4


def test_the_reports_table_says_so() -> None:
    faces = Faces(np.zeros((1, 4)), np.ones(1), np.full((1, 5, 2), np.nan))
    detected = {"a": ImageDetections("", 0.0, faces)}
    result = metrics.Score(single_faces={"lfw": metrics.SingleFaces(1, 1, 1, 0.3)})
    if metrics.without_landmarks(detected):
        result.without_landmarks.append("lfw")
    assert figures.figures(result)["lfw: landmarks"] == "none: no head for them"
    known = faces._replace(landmarks=np.zeros((1, 5, 2)))
    assert not metrics.without_landmarks({"a": ImageDetections("", 0.0, known)})
    assert not metrics.without_landmarks({})
