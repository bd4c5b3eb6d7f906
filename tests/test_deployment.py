"""Folders of deployed nets: `cascade.py`, the README, and metadata in ONNX files."""

import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from export import deployment, standalone
from export.formats import FORMATS
from mtcnn_detector import pixels
from mtcnn_detector.architecture import PAPER_NETS, cell_map
from mtcnn_detector.cascade import Cascade
from mtcnn_detector.detector import MTCNN
from mtcnn_detector.net import NETS, Net
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files
from tests.pictures import crops, photographs, twenty
from tests.test_formats import OTHER, STRIDES
from tests.weights_files import lively

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "weights" / "mtcnn_weights.npy"
RUNTIMES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert", "savedmodel": "tensorflow"}


def images() -> list[pixels.Image]:
    """Twenty images with faces, of many sizes."""
    if found := twenty():
        return found
    variants: list[pixels.Image] = []
    for width in (160, 187, 213, 240, 271, 300, 341, 390, 427, 512):
        for image in photographs().values():
            resized = pixels.resize(image, width, width * image.shape[0] // image.shape[1])
            variants += [resized, np.ascontiguousarray(resized[:, ::-1])]
    return variants[:20]


@pytest.fixture(scope="module")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our own weights, exported to ONNX."""
    for package in ("onnx", "onnxruntime"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("deployed") / "onnx"
    FORMATS["onnx"].write(folder, weight_files.read(WEIGHTS), {})
    return folder


# Imports what the standard library and the allowed packages hold, and nothing else: none of the
# project's packages, and no other that happens to be installed.
ISOLATED = """
import importlib.machinery, json, runpy, sys
allowed = {"numpy", "cv2", sys.argv[1]}

class Guard:
    def find_spec(self, name, path=None, target=None):
        package = name.partition(".")[0]
        if path is None and package not in allowed | set(sys.stdlib_module_names):
            if package in {"mtcnn_detector", "export", "models", "pipeline", "configs"}:
                raise AssertionError(f"{name} was imported")
            if not RUNTIME_PARTS:
                raise ImportError(f"{name} is not in this environment")

RUNTIME_PARTS = sys.argv[1] == "tensorflow"  # which imports dozens of packages
sys.meta_path.insert(0, Guard())
sys.argv = ["cascade.py", *sys.argv[2:]]
runpy.run_path("cascade.py", run_name="__main__")
"""


def run_isolated(folder: Path, runtime: str, files: list[Path]) -> list[dict[str, Any]]:
    """The output of `cascade.py` in an environment without this project."""
    command = [sys.executable, "-I", "-c", ISOLATED, runtime, *map(str, files)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_same_faces(faces: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The same faces in the same order: within a pixel, and 1e-4 of score."""
    assert len(faces) == len(expected)
    for face, other in zip(faces, expected, strict=True):
        np.testing.assert_allclose(face["box"], other["box"], atol=1)
        np.testing.assert_allclose(face["confidence"], other["confidence"], atol=1e-4)
        assert list(face["keypoints"]) == list(other["keypoints"])
        points, other_points = (list(f["keypoints"].values()) for f in (face, other))
        np.testing.assert_allclose(points, other_points, atol=1)


@pytest.mark.slow
@pytest.mark.parametrize("format_name", RUNTIMES)
def test_cascade_py_finds_the_same_faces_without_the_project(
    tmp_path: Path, format_name: str
) -> None:
    if not photographs():
        pytest.skip("needs scikit-image's photograph")
    pytest.importorskip(RUNTIMES[format_name])
    folder = tmp_path / "nets"
    FORMATS[format_name].write(folder, weight_files.read(WEIGHTS), {})
    detector, files, expected = MTCNN(WEIGHTS), [], []
    for number, image in enumerate(images()):
        files.append(tmp_path / f"{number}.png")
        pixels.write_image(files[-1], image)
        expected.append(detector.detect_faces(image))
    results = run_isolated(folder, RUNTIMES[format_name], files)
    assert len(files) == 20
    assert sum(map(len, expected)) >= 20
    for result, faces in zip(results, expected, strict=True):
        assert_same_faces(result["faces"], faces)


def test_the_isolated_environment_refuses_the_project(tmp_path: Path) -> None:
    for line in ("import export", "import yaml"):
        (tmp_path / "cascade.py").write_text(line)
        with pytest.raises(AssertionError, match=r"was imported|not in this environment"):
            run_isolated(tmp_path, "onnxruntime", [])


@pytest.mark.parametrize(
    "image",
    [np.zeros((90, 120, 3), np.uint8), np.zeros((11, 200, 3), np.uint8)],
    ids=["without faces", "smaller than a face"],
)
def test_an_image_without_faces(onnx_folder: Path, image: pixels.Image) -> None:
    assert standalone.MTCNN(onnx_folder).detect_faces(image) == []


def test_an_unreadable_image_and_a_folder_without_nets(
    onnx_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds none of pnet\.onnx, pnet\.tflite, pnet"):
        standalone.MTCNN(tmp_path)
    (tmp_path / "text.jpg").write_text("not an image")
    monkeypatch.setattr(sys, "argv", ["cascade.py", str(tmp_path / "text.jpg")])
    monkeypatch.setattr(standalone.MTCNN, "__init__", lambda self: None)
    with pytest.raises(SystemExit, match=r"text\.jpg cannot be read as an image"):
        standalone.main()


def test_its_settings_are_those_of_the_detector(onnx_folder: Path) -> None:
    if not photographs():
        pytest.skip("needs scikit-image's photograph")
    image = next(iter(photographs().values()))
    settings: dict[str, Any] = {
        "min_face_size": 40,
        "steps_threshold": (0.5, 0.4, 0.3),
        "scale_factor": 0.8,
    }
    expected = MTCNN(WEIGHTS, **settings).detect_faces(image)
    assert expected != MTCNN(WEIGHTS).detect_faces(image)
    assert_same_faces(standalone.MTCNN(onnx_folder, **settings).detect_faces(image), expected)


PNETS = {
    "paper": PAPER_NETS["pnet"],
    "padded": replace(OTHER["pnet"], size=13),
    "strides": replace(STRIDES, size=STRIDES.sees),
}


@pytest.mark.parametrize("net", PNETS.values(), ids=PNETS)
def test_cells_of_any_pnet_are_where_the_detector_has_them(tmp_path: Path, net: Net) -> None:
    """Also at the border of the image, where a padded net's cells see replicated pixels."""
    pytest.importorskip("onnxruntime")
    trained = lively("pnet", 3, net)
    nets = {**{name: lively(name, 0) for name in NETS}, "pnet": trained}
    FORMATS["onnx"].write(tmp_path, nets, {})
    make = runpy.run_path(str(tmp_path / "cascade.py"))["MTCNN"]
    # One level at scale 1: levels of other scales may differ by a grey level.
    settings = DetectorSettings(net.size, 0.01, (0.0, 0.0, 0.0))
    detector = make(tmp_path, settings.min_face_size, settings.thresholds, settings.scale_factor)
    for size in ((40, 64), (41, 63), (42, 50), (43, 33)):
        image = crops(size, count=1)[0]
        expected = Cascade({"pnet": trained}, settings).stages(image)[0].boxes
        found = detector._propose(image)
        assert len(expected) > 10
        assert {*map(tuple, found.tolist())} == {*map(tuple, expected.tolist())}


def test_cell_grid_predicts_the_maps() -> None:
    for net in PNETS.values():
        grid = deployment.cell_grid(net)
        for side in range(3 * net.size, 5 * net.size):
            cells = cell_map(net, side)
            assert (cells.size, cells.stride) == (grid["size"], grid["stride"])
            assert cells.offset == grid["offsets"][side % cells.stride]
            before, after = (cells.stride * margin for margin in grid["margin"])
            assert -before <= cells.offset
            assert cells.offset + cells.seen <= side + after
    assert deployment.cell_grid(PAPER_NETS["pnet"]) == standalone.PNET
    assert {name: PAPER_NETS[name].size for name in NETS[1:]} == standalone.CROP_SIZES


def test_onnx_metadata_describes_the_interface(onnx_folder: Path) -> None:
    import onnxruntime

    for name in NETS:
        session = onnxruntime.InferenceSession(str(onnx_folder / f"{name}.onnx"))
        facts = session.get_modelmeta().custom_metadata_map
        heads = [output.name for output in session.get_outputs()]
        assert facts["net"] == name
        assert facts["input"].startswith(f"{session.get_inputs()[0].name}: [N, ")
        assert "RGB, 0 to 255" in facts["input"]
        assert [text.partition(":")[0] for text in facts["outputs"].split("; ")] == heads
        assert float(facts["threshold"]) == DetectorSettings().thresholds[NETS.index(name)]
    pnet = onnxruntime.InferenceSession(str(onnx_folder / "pnet.onnx"))
    cells = json.loads(pnet.get_modelmeta().custom_metadata_map["cells"])
    assert cells == standalone.PNET


def test_the_readme_names_every_input_output_and_constant(onnx_folder: Path) -> None:
    text = (onnx_folder / "README.md").read_text()
    assert "{" not in text, "a placeholder was not filled in"
    for row in (
        "| pnet | `pixels` [N, H, W, 3] | score | [N, rows, columns] probability of a face",
        "| rnet | `pixels` [N, 24, 24, 3] | box | [N, 4] offsets of x1, y1, x2, y2",
        "| onet | `pixels` [N, 48, 48, 3] | landmarks | [N, 10] x1 to x5, y1 to y5",
    ):
        assert row in text
    for fact in ("0 + 2 i", "at least 0.6", "above 0.7", "left eye, right eye, nose"):
        assert fact in text


@pytest.fixture(params=["tflite", "tflite-int8"])
def tflite_folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Random nets as LiteRT files."""
    nets = {name: lively(name, seed) for seed, name in enumerate(NETS)}
    batches = {name: [crops((PAPER_NETS[name].size,) * 2)] for name in NETS}
    FORMATS[request.param].write(tmp_path, nets, batches if "int8" in request.param else {})
    yield tmp_path


@pytest.mark.slow
def test_litert_nets_allocate_at_once_and_have_names(tflite_folder: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    for name in NETS:
        interpreter = Interpreter(str(tflite_folder / f"{name}.tflite"))
        interpreter.allocate_tensors()
        (details,), size = interpreter.get_input_details(), PAPER_NETS[name].size
        assert details["name"] == "pixels"
        assert details["shape"].tolist() == [1, size, size, 3]
        heads = {"score", "box"} | ({"landmarks"} if name == "onet" else set())
        assert {output["name"] for output in interpreter.get_output_details()} == heads
        interpreter.set_tensor(details["index"], np.zeros((1, size, size, 3), details["dtype"]))
        interpreter.invoke()


def test_opencv_reads_the_onnx_files(onnx_folder: Path) -> None:
    net = cv2.dnn.readNetFromONNX(str(onnx_folder / "pnet.onnx"))
    net.setInput(crops((60, 84), count=1).astype(np.float32))
    assert np.asarray(net.forward("score")).shape == (1, 25, 37)
