"""The real packages besides mtcnn 0.1.1: they load what we write, say the same, find the same.

For mtcnn 0.1.1 see `test_mtcnn_package`. A package that is not installed is skipped by name.
"""

import contextlib
import importlib
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtcnn_detector import pixels
from mtcnn_detector.backend import CompiledNet
from mtcnn_detector.detector import MTCNN
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import TrainedNet
from tests.pictures import crops, photographs, twenty
from tests.weights_files import assert_same, lively

ROOT = Path(__file__).parents[1]
CONSUMERS = ROOT / ".consumers"
SHIPPED = {
    "mtcnn-0.1.1": "mtcnn/data/mtcnn_weights.npy",
    "mtcnn-1.0.0": "mtcnn/assets/weights",
    "mtcnn-0.0.9": "mtcnn/data/mtcnn_weights.npy",
    "facenet-pytorch-2.6.0": "facenet_pytorch/data",
}
SIZES = {"pnet": (60, 84), "rnet": (24, 24), "onet": (48, 48)}
LIVELY = {name: lively(name, seed) for seed, name in enumerate(NETS)}
Faces = list[tuple[list[float], float, list[float]]]  # box, score, landmarks


def home(consumer: str) -> Path:
    """Where a consumer is installed, with its weights."""
    if not (CONSUMERS / consumer / SHIPPED[consumer]).exists():
        target = "consumer-torch" if "torch" in consumer else "consumers"
        pytest.skip(f"{consumer} is not installed: `make {target}` does")
    return CONSUMERS / consumer


@contextlib.contextmanager
def imported(consumer: str) -> Iterator[Any]:
    """The module `mtcnn` of one version; another version is forgotten meanwhile."""
    folder = str(home(consumer))
    kept = {key: sys.modules.pop(key) for key in list(sys.modules) if key.startswith("mtcnn")}
    sys.path.insert(0, folder)
    try:
        yield importlib.import_module("mtcnn")
    finally:
        sys.path.remove(folder)
        for key in [key for key in sys.modules if key.startswith("mtcnn")]:
            del sys.modules[key]
        sys.modules.update(kept)


def assert_says(name: NetName, trained: TrainedNet, said: Mapping[str, np.ndarray]) -> None:
    """That our net says of the crops what the package's net says; `face` are probabilities."""
    outputs = CompiledNet(name, trained)(crops(SIZES[name]))
    for head, value in zip(("cls", "box", "landmarks"), outputs, strict=True):
        if value is None:
            continue
        assert said[head].std(axis=0).max() > 0.02, f"{head} says the same of every picture"
        np.testing.assert_allclose(value, said[head], rtol=0, atol=1e-4)


def normalised(name: NetName) -> np.ndarray:
    return pixels.normalise(crops(SIZES[name]).astype(np.float32))


def in_heads(outputs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Box, landmarks where there are, then both probabilities: the order of all these packages."""
    heads = {"box": outputs[0], "cls": outputs[-1][..., 1]}
    return heads | ({"landmarks": outputs[1]} if len(outputs) == 3 else {})


def found(detected: list[dict[str, Any]]) -> Faces:
    return [
        (list(f["box"]), float(f["confidence"]), [*np.ravel(list(f["keypoints"].values()))])
        for f in detected
    ]


@pytest.mark.parametrize("consumer", SHIPPED)
def test_all_ship_the_same_weights(consumer: str) -> None:
    known = weight_files.read(home("mtcnn-0.1.1") / SHIPPED["mtcnn-0.1.1"])
    held = weight_files.look(home(consumer) / SHIPPED[consumer])
    assert list(held) == list(NETS)
    for name in NETS:
        assert_same(held[name].trained, known[name])


class Called:
    """A net of version 0.1.1 without the delay of its `predict`."""

    def __init__(self, model: Any) -> None:
        self.predict = lambda images: [
            output.numpy() for output in model(images.astype(np.float32), training=False)
        ]


@pytest.mark.slow
def test_mtcnn_0_1_finds_what_we_find(tmp_path: Path) -> None:
    """To 2 pixels: its crops keep fractions of grey levels; see `test_mtcnn_package`."""
    pytest.importorskip("pkg_resources")
    nets = weight_files.read(home("mtcnn-0.1.1") / SHIPPED["mtcnn-0.1.1"])
    weight_files.write("ipazc", tmp_path / "w.npy", nets)
    ours, total = MTCNN(tmp_path / "w.npy"), 0
    with imported("mtcnn-0.1.1") as package:
        detector = package.MTCNN(weights_file=str(tmp_path / "w.npy"))
        for name in NETS:
            setattr(detector, f"_{name}", Called(getattr(detector, f"_{name}")))
        for image in twenty() or list(photographs().values()):
            theirs = found(detector.detect_faces(image))
            here = found(ours.detect_faces(image))
            for some, others in ((theirs, here), (here, theirs)):
                for box, score, _ in some:
                    near = [np.abs(np.subtract(box, other)).max() for other, _, _ in others]
                    assert score < 0.75 or min(near, default=99) <= 3, (box, others)
            total += len(theirs)
    assert total > 0


STAGES = {"pnet": "StagePNet", "rnet": "StageRNet", "onet": "StageONet"}


def detector_1_0(package: Any, folder: Path) -> Any:
    """Version 1.0.0's detector with the weights of a folder."""
    stages = importlib.import_module("mtcnn.stages")
    made = [getattr(stages, STAGES[n])(weights=str(folder / f"{n}.lz4")) for n in NETS]
    return package.MTCNN(stages=made)


def test_mtcnn_1_0_says_the_same(tmp_path: Path) -> None:
    with imported("mtcnn-1.0.0") as package:
        weight_files.write("ipazc-1.0", tmp_path, LIVELY)
        for name, stage in zip(NETS, detector_1_0(package, tmp_path).stages, strict=True):
            outputs = [output.numpy() for output in stage.model(normalised(name))]
            assert_says(name, LIVELY[name], in_heads(outputs))


def test_mtcnn_1_0_finds_the_same(tmp_path: Path) -> None:
    weights = weight_files.read(home("mtcnn-0.1.1") / SHIPPED["mtcnn-0.1.1"])
    weight_files.write("ipazc-1.0", tmp_path, weights)
    with imported("mtcnn-1.0.0") as package:
        theirs, ours = package.MTCNN(), detector_1_0(package, tmp_path)
        total = 0
        for image in [*photographs().values(), *twenty()]:
            faces = found(theirs.detect_faces(image))
            assert found(ours.detect_faces(image)) == faces
            total += len(faces)
    assert total > 0


@contextlib.contextmanager
def as_tensorflow_1() -> Iterator[None]:
    """What imports tensorflow gets the interface of its first version."""
    import tensorflow as tf
    from tensorflow.python.framework import config

    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setitem(sys.modules, "tensorflow", tf.compat.v1)
        # A training before may have asked for determinism, which forbids its unseeded variables.
        config.disable_op_determinism()
        tf.compat.v1.disable_v2_tensorshape()
        try:
            yield
        finally:
            tf.compat.v1.enable_v2_tensorshape()


@contextlib.contextmanager
def detector_0_0(weights: Path) -> Iterator[Any]:
    """Version 0.0.9's detector with a file's weights."""
    pytest.importorskip("pkg_resources")
    with as_tensorflow_1(), imported("mtcnn-0.0.9"), weights.open("rb") as file:
        yield importlib.import_module("mtcnn.mtcnn").MTCNN(weights_file=file)


@pytest.mark.slow
def test_mtcnn_0_0_says_the_same(tmp_path: Path) -> None:
    weight_files.write("ipazc-0.0", tmp_path / "w.npy", LIVELY)
    with detector_0_0(tmp_path / "w.npy") as detector:
        for name in NETS:
            net = getattr(detector, f"_MTCNN__{name}")
            outputs = net.feed(normalised(name).transpose(0, 2, 1, 3))
            if outputs[0].ndim == 4:
                outputs = [output.transpose(0, 2, 1, 3) for output in outputs]
            assert_says(name, LIVELY[name], in_heads(outputs))


@pytest.mark.slow
def test_mtcnn_0_0_finds_the_same(tmp_path: Path) -> None:
    shipped = home("mtcnn-0.0.9") / SHIPPED["mtcnn-0.0.9"]
    weight_files.write("ipazc-0.0", tmp_path / "w.npy", weight_files.read(shipped))
    images = [*photographs().values(), *twenty()]
    detected = []
    for path in (shipped, tmp_path / "w.npy"):
        with detector_0_0(path) as detector:
            detected.append([found(detector.detect_faces(image)) for image in images])
    assert detected[0] == detected[1]
    assert sum(map(len, detected[0])) > 0


IN_TORCH = """
import sys, types
from pathlib import Path
import cv2, numpy as np, torch

def batched_nms(boxes, scores, groups, threshold):
    corners = boxes.numpy().astype(float) + groups.numpy()[:, None] * 1e5
    rects = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(rects, scores.numpy().astype(float), 0.0, threshold)
    return torch.as_tensor(np.asarray(kept, int).reshape(-1))

for name in ("torchvision", "torchvision.transforms", "torchvision.ops", "torchvision.ops.boxes"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["torchvision.transforms"].functional = None
sys.modules["torchvision.ops.boxes"].batched_nms = batched_nms
from facenet_pytorch.models import mtcnn

torch.set_num_threads(1)
folder, given = Path(sys.argv[1]), np.load(Path(sys.argv[1]) / "given.npz")
said = {}
for name, make in (("pnet", mtcnn.PNet), ("rnet", mtcnn.RNet), ("onet", mtcnn.ONet)):
    net = make(pretrained=False)
    net.load_state_dict(torch.load(folder / f"{name}.pt"))
    with torch.no_grad():
        outputs = net(torch.as_tensor(given[name]).permute(0, 3, 1, 2))
    for i, output in enumerate(outputs):
        said[f"{name}{i}"] = output.movedim(1, -1).numpy()
    torch.save(net.state_dict(), folder / f"again-{name}.pt")
    torch.save(net.state_dict(), folder / f"old-{name}.pt", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": net.state_dict(), "step": 3}, folder / f"wrapped-{name}.pt")

theirs, ours = mtcnn.MTCNN(keep_all=True), mtcnn.MTCNN(keep_all=True)
torch.save(theirs.state_dict(), folder / "module.pt")
for name in ("pnet", "rnet", "onet"):
    getattr(ours, name).load_state_dict(torch.load(folder / "shipped" / f"{name}.pt"))
faces = 0
for key in given.files:
    if key.startswith("image"):
        first, second = (it.detect(given[key], landmarks=True) for it in (theirs, ours))
        for a, b in zip(first, second):
            assert np.array_equal(np.asarray(a, float), np.asarray(b, float), equal_nan=True)
        faces += 0 if first[0] is None else len(first[0])
np.savez(folder / "said.npz", faces=faces, **said)
"""


@pytest.fixture(scope="module")
def in_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which facenet-pytorch has loaded our files, and torch has saved its own."""
    package = home("facenet-pytorch-2.6.0")
    if not (package / "torch").is_dir():
        pytest.skip("torch is not installed: `make consumer-torch` does")
    folder = tmp_path_factory.mktemp("torch")
    weight_files.write("facenet-pytorch", folder, LIVELY)
    shipped = weight_files.read(package / SHIPPED["facenet-pytorch-2.6.0"])
    weight_files.write("facenet-pytorch", folder / "shipped", shipped)
    images = {f"image{i}": x for i, x in enumerate([*photographs().values(), *twenty()])}
    arrays: dict[str, Any] = {name: normalised(name) for name in NETS}
    np.savez(folder / "given.npz", **(arrays | images))
    path = f"import sys; sys.path.insert(0, {str(package)!r})\n"
    command = [sys.executable, "-W", "ignore", "-c", path + IN_TORCH, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    return folder


def test_facenet_pytorch_says_and_finds_the_same(in_torch: Path) -> None:
    said = np.load(in_torch / "said.npz")
    for name in NETS:
        outputs = [said[key] for key in said.files if key.startswith(name)]
        assert_says(name, LIVELY[name], in_heads(outputs))
    assert said["faces"] > 0


@pytest.mark.parametrize("kind", ["again", "old", "wrapped"])
@pytest.mark.parametrize("name", NETS)
def test_what_torch_saves_is_read(in_torch: Path, kind: str, name: NetName) -> None:
    ((held, trained),) = weight_files.look(in_torch / f"{kind}-{name}.pt").items()
    assert (held, trained.layout) == (name, "facenet-pytorch")
    assert_same(trained.trained, LIVELY[name])


def test_a_detector_that_torch_saves_as_one_is_read(in_torch: Path) -> None:
    shipped = weight_files.read(in_torch / "shipped")
    for name, trained in weight_files.read(in_torch / "module.pt").items():
        assert_same(trained, shipped[name])
