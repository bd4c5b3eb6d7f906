"""Exported nets run in the detector: they give what the nets that they were made of give."""

import importlib.util
import pickle
from pathlib import Path

import numpy as np
import pytest

from export.formats import FORMATS
from mtcnn_detector import MTCNN, UserError, exported
from mtcnn_detector.architecture import cell_map, for_crops
from mtcnn_detector.backend import CompiledNet
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.net_weights import TrainedNet
from tests.pictures import crops, photographs
from tests.test_formats import DEPLOYED, OTHER, SHIPPED, SIZES
from tests.weights_files import lively

PAPER = {name: lively(name, seed) for seed, name in enumerate(NETS)}
CHANGED = {name: lively(name, 3, net) for name, net in OTHER.items()}


def written(kind: str, folder: Path, nets: dict[NetName, TrainedNet]) -> Path:
    """The nets in a format, or a skip."""
    if kind == "onnx" and not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        pytest.skip("onnx and onnxruntime are not installed")
    FORMATS[kind].write(folder, nets, {})
    return folder


@pytest.mark.parametrize("kind", DEPLOYED)
@pytest.mark.parametrize("nets", [PAPER, CHANGED], ids=["the paper's nets", "changed nets"])
def test_an_exported_net_gives_the_outputs_of_its_net(
    tmp_path: Path, kind: str, nets: dict[NetName, TrainedNet]
) -> None:
    found = exported.load(written(kind, tmp_path, nets))
    assert list(found) == list(NETS)
    for name, net in found.items():
        original = nets[name].net
        expected = CompiledNet(name, nets[name]._replace(net=for_crops(original)))
        for size in SIZES[name]:
            if min(size) < net.net.size:
                continue
            pixels = crops(size).astype(np.float32) + 0.25
            wanted = expected(pixels)
            assert wanted.score.std() > 0.01, "constant outputs compare nothing"
            for got, array in zip(net(pixels), wanted, strict=True):
                assert (got is None) == (array is None)
                if got is not None and array is not None:
                    np.testing.assert_allclose(got, array, rtol=0, atol=1e-4)
    # The geometry of P-Net, on which boxes depend.
    first, original = found["pnet"].net, nets["pnet"].net
    for side in (40, 41, 42, 43):
        assert cell_map(first, side) == cell_map(original, side)
    assert [found[name].net.size for name in NETS[1:]] == [nets[n].net.size for n in NETS[1:]]


@pytest.mark.parametrize("kind", DEPLOYED)
def test_the_detector_finds_the_same_faces_with_exported_nets(tmp_path: Path, kind: str) -> None:
    if not SHIPPED.exists() or "astronaut" not in photographs():
        pytest.skip("needs mtcnn 0.1.1 (`make consumers`) and scikit-image")
    image = photographs()["astronaut"]
    wanted = MTCNN(SHIPPED).detect_faces(image)
    detector = MTCNN(written(kind, tmp_path / "nets", weight_files.read(SHIPPED)))
    assert len(wanted) > 0
    for found in (
        detector.detect_faces(image),
        pickle.loads(pickle.dumps(detector)).detect_faces(image),
    ):
        assert [face["keypoints"] for face in found] == [face["keypoints"] for face in wanted]
        for face, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(face["box"], other["box"], atol=1)
            assert abs(face["confidence"] - other["confidence"]) < 1e-4


def test_a_missing_net_is_named(tmp_path: Path) -> None:
    for name in ("pnet", "onet"):
        (tmp_path / f"{name}.onnx").write_bytes(b"")
    with pytest.raises(UserError, match="holds exported nets, but no rnet"):
        MTCNN(tmp_path)


@pytest.mark.parametrize("suffix", ["onnx", "tflite"])
def test_a_damaged_model_is_refused_in_one_sentence(tmp_path: Path, suffix: str) -> None:
    for name in NETS:
        (tmp_path / f"{name}.{suffix}").write_bytes(b"\x1c\0\0\0TFL3 no model" * 9)
    with pytest.raises(UserError, match=rf"pnet\.{suffix} cannot be read by OpenVINO") as caught:
        MTCNN(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_net_in_another_nets_place_is_refused(tmp_path: Path) -> None:
    folder = written("tflite", tmp_path / "nets", PAPER)
    (folder / "onet.tflite").write_bytes((folder / "rnet.tflite").read_bytes())
    with pytest.raises(UserError, match=r"onet\.tflite gives .*; onet must give"):
        MTCNN(folder)
    (folder / "pnet.tflite").write_bytes((folder / "rnet.tflite").read_bytes())
    with pytest.raises(UserError, match=r"pnet\.tflite .* convolutional"):
        exported.load(folder)
