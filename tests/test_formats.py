"""Deployment formats: outputs and faces equal those of the weights, P-Net at any image size."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export import calibration, exported_cascade
from export.formats import FORMATS, INT8
from export.tensorflow_formats import tflite_model
from mtcnn_detector import pixels
from mtcnn_detector.architecture import PAPER_NETS, for_crops
from mtcnn_detector.backend import CompiledNet
from mtcnn_detector.cascade import Cascade
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, Layer, Net, NetName
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import TrainedNet
from tests.pictures import crops, photographs
from tests.weights_files import lively

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / ".consumers" / "mtcnn-0.1.1" / "mtcnn" / "data" / "mtcnn_weights.npy"
LIVELY = {name: lively(name, seed) for seed, name in enumerate(NETS)}
SIZES: dict[NetName, list[tuple[int, int]]] = {
    "pnet": [(12, 12), (60, 84), (37, 23)],
    "rnet": [(24, 24)],
    "onet": [(48, 48)],
}
DEPLOYED = ["savedmodel", "tflite", "onnx"]


def write(format_name: str, folder: Path, nets: dict[NetName, TrainedNet]) -> Path:
    """Write nets in a format; skips where its packages are not installed."""
    if format_name == "onnx" and not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        pytest.skip("onnx and onnxruntime are not installed")
    FORMATS[format_name].write(folder, nets, {})
    return folder


def assert_same_outputs(format_name: str, path: Path, nets: dict[NetName, TrainedNet]) -> None:
    """On every image size, one after another with the same loaded model."""
    for name in NETS:
        before, after = CompiledNet(name, nets[name]), FORMATS[format_name].load(path, name)
        for size in SIZES[name]:
            pixels = crops(size)
            expected, outputs = before(pixels), after(pixels)
            assert expected.score.std() > 0.01, "the same score for every image"
            for a, b in zip(expected, outputs, strict=True):
                assert (a is None) == (b is None)
                if a is not None and b is not None:
                    np.testing.assert_allclose(b, a, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("format_name", DEPLOYED)
def test_outputs_of_the_papers_nets(tmp_path: Path, format_name: str) -> None:
    assert_same_outputs(format_name, write(format_name, tmp_path / "nets", LIVELY), LIVELY)


OTHER: dict[NetName, Net] = {
    "pnet": Net(
        12,
        (
            Layer(conv=8, padding="same"),
            Layer(pool=3, stride=2, padding="same"),
            Layer(separable=12),
            Layer(conv=12),
        ),
    ),
    "rnet": Net(
        24,
        (
            Layer(conv=6, kernel=4, stride=3, padding="same"),
            Layer(pool=2, stride=2, padding="valid"),
            Layer(separable=9, kernel=2, stride=2, padding="same"),
            Layer(dense=10),
            Layer(dense=7),
        ),
    ),
    "onet": replace(PAPER_NETS["onet"], layers=(Layer(conv=8, stride=2), Layer(dense=9))),
}


@pytest.mark.slow
@pytest.mark.parametrize("format_name", DEPLOYED)
def test_outputs_of_other_nets(tmp_path: Path, format_name: str) -> None:
    nets = {name: lively(name, 3, net) for name, net in OTHER.items()}
    assert_same_outputs(format_name, write(format_name, tmp_path / "nets", nets), nets)


STRIDES = Net(
    32,
    (
        Layer(conv=6, padding="same"),
        Layer(pool=3, stride=2, padding="same"),
        Layer(conv=8, kernel=2, padding="same"),
        Layer(pool=3, stride=2, padding="same"),
        Layer(conv=8, kernel=5, padding="same"),
    ),
)


@pytest.mark.parametrize("net", [replace(OTHER["pnet"], size=13), STRIDES])
def test_a_padded_model_gives_the_cells_of_the_unpadded_net(tmp_path: Path, net: Net) -> None:
    trained = lively("pnet", 3, net)
    (tmp_path / "pnet.tflite").write_bytes(tflite_model("pnet", trained))
    predict = FORMATS["tflite"].load(tmp_path, "pnet")
    cascade = exported_cascade.exported_cascade(
        {"pnet": trained}, lambda _: predict, DetectorSettings()
    )
    unpadded = CompiledNet("pnet", trained._replace(net=for_crops(net)))
    for size in ((40, 64), (41, 63), (42, 50), (43, 33)):
        outputs, expected = cascade._first(crops(size)), unpadded(crops(size))
        for a, b in zip(outputs, expected, strict=True):
            assert (a is None) == (b is None)
            if a is not None and b is not None:
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["tflite", "onnx"])
def test_deployed_nets_find_the_same_faces(tmp_path: Path, format_name: str) -> None:
    if not SHIPPED.exists() or "astronaut" not in photographs():
        pytest.skip("needs mtcnn 0.1.1 (`make consumers`) and scikit-image")
    nets = weight_files.read(SHIPPED)
    path = write(format_name, tmp_path / "nets", nets)
    deployed = exported_cascade.exported_cascade(
        nets, lambda n: FORMATS[format_name].load(path, n), DetectorSettings()
    )
    image = photographs()["astronaut"][:260, 100:360]
    found = [cascade.detect(image) for cascade in (Cascade(nets, DetectorSettings()), deployed)]
    assert len(found[0].scores) > 0
    for before, after in zip(*found, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-2)


@pytest.mark.slow
def test_int8_finds_the_same_faces_and_all_but_the_last_net_take_uint8(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    if not SHIPPED.exists() or "astronaut" not in photographs():
        pytest.skip("needs mtcnn 0.1.1 (`make consumers`) and scikit-image")
    nets, images = weight_files.read(SHIPPED), [photographs()["astronaut"][:260, 100:360]]
    FORMATS[INT8].write(tmp_path, nets, calibration.batches(nets, images))
    for name in NETS:
        content = (tmp_path / f"{name}.tflite").read_bytes()
        details = Interpreter(model_content=content).get_input_details()[0]
        expected = (np.uint8, (1.0, 0)) if name != NETS[-1] else (np.float32, (0.0, 0))
        assert (details["dtype"], details["quantization"]) == expected
        size = sum(array.nbytes for array in nets[name].weights.values())
        assert len(content) < size / 3 + 10_000
    faces = exported_cascade.compare(nets, lambda n: FORMATS[INT8].load(tmp_path, n), images)
    assert faces.before > 0
    assert faces.both >= 0.9 * faces.before
    assert faces.after <= faces.before / 0.9


def test_a_calibration_image_may_be_a_thin_strip(tmp_path: Path) -> None:
    pixels.write_image(tmp_path / "strip.png", np.zeros((2, 5000, 3), np.uint8))
    (strip,) = calibration.read_images(tmp_path)
    assert strip.shape == (1, 640, 3)


def test_calibration_needs_images(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(UserError, match="holds no images that can be read"):
        calibration.read_images(tmp_path)


def test_a_layer_without_onnx_nodes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    from export import onnx_format

    monkeypatch.delitem(onnx_format.NODES, "PReLU")
    with pytest.raises(UserError, match=r"no nodes for a PReLU layer \(prelu1\)"):
        onnx_format.onnx_model("pnet", LIVELY["pnet"])
