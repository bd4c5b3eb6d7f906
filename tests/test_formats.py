"""What is deployed elsewhere says what our nets say, on pictures of any size where it can."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export import calibration
from export.formats import FORMATS, INT8
from export.tensorflow_formats import tflite
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


def written(kind: str, folder: Path, nets: dict[NetName, TrainedNet]) -> Path:
    """Nets in a format, or a skip that names the package that is not there."""
    if kind == "onnx" and not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        pytest.skip("onnx and onnxruntime are not installed")
    FORMATS[kind].write(folder, nets, {})
    return folder


def assert_same_outputs(kind: str, path: Path, nets: dict[NetName, TrainedNet]) -> None:
    """On every size of picture, one after another in the same runner."""
    for name in NETS:
        before, after = CompiledNet(name, nets[name]), FORMATS[kind].runner(path, name)
        for size in SIZES[name]:
            pixels = crops(size)
            wanted, said = before(pixels), after(pixels)
            assert wanted.score.std() > 0.01, "the same of every picture"
            for a, b in zip(wanted, said, strict=True):
                assert (a is None) == (b is None)
                if a is not None:
                    np.testing.assert_allclose(b, a, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", DEPLOYED)
def test_the_papers_nets_say_the_same_elsewhere(tmp_path: Path, kind: str) -> None:
    assert_same_outputs(kind, written(kind, tmp_path / "nets", LIVELY), LIVELY)


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


@pytest.mark.parametrize("kind", DEPLOYED)
def test_any_net_says_the_same_elsewhere(tmp_path: Path, kind: str) -> None:
    nets = {name: lively(name, 3, net) for name, net in OTHER.items()}
    assert_same_outputs(kind, written(kind, tmp_path / "nets", nets), nets)


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
def test_a_padded_net_stands_in_for_the_unpadded_one(tmp_path: Path, net: Net) -> None:
    trained = lively("pnet", 3, net)
    (tmp_path / "pnet.tflite").write_bytes(tflite("pnet", trained))
    run = FORMATS["tflite"].runner(tmp_path, "pnet")
    cascade = calibration.cascade_of({"pnet": trained}, lambda _: run, DetectorSettings())
    unpadded = CompiledNet("pnet", trained._replace(net=for_crops(net)))
    for size in ((40, 64), (41, 63), (42, 50), (43, 33)):
        for said, wanted in zip(cascade._first(crops(size)), unpadded(crops(size)), strict=True):
            if wanted is not None:
                np.testing.assert_allclose(said, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_deployed_nets_find_the_same_faces(tmp_path: Path, kind: str) -> None:
    if not SHIPPED.exists() or "astronaut" not in photographs():
        pytest.skip("needs mtcnn 0.1.1 (`make consumers`) and scikit-image")
    nets = weight_files.read(SHIPPED)
    path = written(kind, tmp_path / "nets", nets)
    deployed = calibration.cascade_of(
        nets, lambda n: FORMATS[kind].runner(path, n), DetectorSettings()
    )
    image = photographs()["astronaut"][:260, 100:360]
    found = [cascade.detect(image) for cascade in (Cascade(nets, DetectorSettings()), deployed)]
    assert len(found[0].scores) > 0
    for before, after in zip(*found, strict=True):
        np.testing.assert_allclose(after, before, atol=1e-2)


def test_int8_finds_the_same_faces_and_all_but_the_last_net_take_bytes(tmp_path: Path) -> None:
    import tensorflow as tf

    if not SHIPPED.exists() or "astronaut" not in photographs():
        pytest.skip("needs mtcnn 0.1.1 (`make consumers`) and scikit-image")
    nets, images = weight_files.read(SHIPPED), [photographs()["astronaut"][:260, 100:360]]
    FORMATS[INT8].write(tmp_path, nets, calibration.seen_by(nets, images))
    for name in NETS:
        content = (tmp_path / f"{name}.tflite").read_bytes()
        taken = tf.lite.Interpreter(model_content=content).get_input_details()[0]
        whole = (np.uint8, (1.0, 0)) if name != NETS[-1] else (np.float32, (0.0, 0))
        assert (taken["dtype"], taken["quantization"]) == whole
        size = sum(array.nbytes for array in nets[name].weights.values())
        assert len(content) < size / 3 + 10_000
    same = calibration.compare(nets, lambda name: FORMATS[INT8].runner(tmp_path, name), images)
    assert same.before > 0
    assert same.both >= 0.9 * same.before
    assert same.after <= same.before / 0.9


def test_pictures_are_needed_to_calibrate(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(UserError, match="holds no pictures that can be read"):
        calibration.read_pictures(tmp_path)


def test_a_layer_without_an_onnx_node_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnx")
    from export import onnx_format

    monkeypatch.delitem(onnx_format.NODES, "PReLU")
    with pytest.raises(UserError, match=r"no layer of the kind PReLU \(prelu1\)"):
        onnx_format.onnx_model("pnet", LIVELY["pnet"])
