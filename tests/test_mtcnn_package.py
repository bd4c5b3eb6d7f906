"""The real mtcnn 0.1.1, which our weights are for: it loads them, says and finds the same.

The last tests put perfect nets into it. They read from a crop's pixels where in the picture it
lies and answer with the targets that training would have had for that crop, so they show that
our targets mean what the package does with its nets' outputs.
"""

import copy
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtcnn_detector import boxes, pixels
from mtcnn_detector.backend import CompiledNet
from mtcnn_detector.cascade import Cascade
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files
from tests.pictures import crops, photographs
from tests.weights_files import lively

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / ".consumers" / "mtcnn-0.1.1"


@pytest.fixture(scope="module")
def package() -> Iterator[Any]:
    """The module `mtcnn`, version 0.1.1."""
    if not (PACKAGE / "mtcnn").is_dir():
        pytest.skip(f"{PACKAGE.relative_to(ROOT)} is not there: `make consumers` installs it")
    if importlib.util.find_spec("pkg_resources") is None:
        pytest.skip("mtcnn 0.1.1 imports pkg_resources, which setuptools has below version 81")
    sys.path.insert(0, str(PACKAGE))
    try:
        yield importlib.import_module("mtcnn")
    finally:
        sys.path.remove(str(PACKAGE))


@pytest.fixture(scope="module")
def shipped(package: Any) -> Any:
    """The package's detector with its own weights."""
    return package.MTCNN()


@pytest.fixture(scope="module")
def ours(package: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Random nets, and the package's detector that has loaded them from our file."""
    nets = {name: lively(name, seed) for seed, name in enumerate(NETS)}
    path = tmp_path_factory.mktemp("export") / "mtcnn_weights.npy"
    weight_files.write("ipazc", path, nets)
    return nets, package.MTCNN(weights_file=str(path))


@pytest.mark.parametrize(
    ("name", "heads", "size"),
    [
        ("pnet", ["box", "cls"], (60, 84)),  # over pictures that are not square
        ("rnet", ["box", "cls"], (24, 24)),
        ("onet", ["box", "landmarks", "cls"], (48, 48)),
    ],
)
def test_the_package_gets_the_same_outputs_from_our_file(
    ours: Any, name: NetName, heads: list[str], size: tuple[int, int]
) -> None:
    nets, detector = ours
    batch = crops(size)
    fed = pixels.normalise(batch.astype(np.float32)).transpose(0, 2, 1, 3)
    said = dict(zip(heads, getattr(detector, f"_{name}").predict(fed, verbose=0), strict=True))
    if name == "pnet":
        said = {key: value.transpose(0, 2, 1, 3) for key, value in said.items()}
    outputs = CompiledNet(name, nets[name])(batch)
    for head, value in zip(("cls", "box", "landmarks"), outputs, strict=True):
        if value is None:
            continue
        wanted = said[head][..., 1] if head == "cls" else said[head]
        assert wanted.std(axis=0).max() > 0.02, f"{head} says the same of every picture"
        np.testing.assert_allclose(value, wanted, rtol=0, atol=1e-4)


class Called:
    """One of the package's nets; `predict` builds a function for every size of a level."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def predict(self, images: np.ndarray) -> list[np.ndarray]:
        """The same outputs without delay."""
        said = self.model(images.astype(np.float32), training=False)
        return [output.numpy() for output in said]


@pytest.mark.parametrize("picture", ["astronaut", "1--Handshaking", "19--Couple", "44--Aerobics"])
def test_the_shipped_weights_find_the_same_faces_here_and_there(
    package: Any, shipped: Any, picture: str
) -> None:
    image = photographs().get(picture)
    if image is None:
        pytest.skip(f"{picture} is not on this machine")
    weights = weight_files.read(PACKAGE / "mtcnn" / "data" / "mtcnn_weights.npy")
    found = Cascade(weights, DetectorSettings()).detect(image)
    here = np.trunc(np.maximum(found.boxes, 0))
    detector = copy.copy(shipped)
    for name in NETS:
        setattr(detector, f"_{name}", Called(getattr(shipped, f"_{name}")))
    theirs = detector.detect_faces(image)
    there = np.array([face["box"] for face in theirs], float).reshape(-1, 4)
    there[:, 2:] += there[:, :2]
    landmarks = np.array([list(face["keypoints"].values()) for face in theirs], float)
    scores = np.array([face["confidence"] for face in theirs])
    assert len(there) > 0
    same = np.abs(here[:, None] - there[None]).max(axis=2) <= 1
    assert same.any(axis=1).all(), "found here, not there"
    assert same.any(axis=0).all(), "found there, not here"
    for row, column in zip(*np.nonzero(same), strict=True):
        assert np.abs(found.landmarks[row] - landmarks[column]).max() <= 1.01
        assert abs(found.scores[row] - scores[column]) < 1e-3


HEIGHT, WIDTH = 320, 480
# Wide ones and tall ones, all on half pixels: what comes back is cut down to whole ones, and
# must come back exactly. Squares about the last two reach over the border.
FACES = np.array(
    [
        [40.5, 60.5, 62.5, 90.5],
        [120.5, 200.5, 180.5, 244.5],
        [200.5, 40.5, 320.5, 190.5],
        [4.5, 150.5, 78.5, 260.5],
        [370.5, 4.5, 470.5, 70.5],
    ]
)
SHARES = np.array([[0.31, 0.36], [0.7, 0.34], [0.52, 0.61], [0.35, 0.8], [0.66, 0.83]])
LANDMARKS = np.floor(FACES[:, None, :2] + SHARES * (FACES[:, None, 2:] - FACES[:, None, :2])) + 0.5


def ramps() -> np.ndarray:
    """A picture that says of every pixel which one it is: red x, green y, blue: not padding."""
    y, x = np.indices((HEIGHT, WIDTH)) + 0.5
    return np.stack([x, y, np.full_like(x, 255)], axis=-1)


def span(line: np.ndarray, known: np.ndarray) -> tuple[float, float]:
    """From the samples along a crop, some of them padding: where it starts and ends."""
    inside = np.flatnonzero(known > 254.99)
    i, j = inside[0], inside[-1]
    step = (line[j] - line[i]) / (j - i)
    if step < 1:  # enlarged: the outermost samples are the outermost pixels
        assert (i, j) == (0, len(line) - 1)
        return line[0] - 0.5, line[-1] + 0.5
    first = line[i] - (i + 0.5) * step
    return first, first + len(line) * step


def crop_windows(images: np.ndarray) -> np.ndarray:
    """(N, W, H, 3) crops of `ramps` as the package feeds them -> their windows."""
    windows = []
    for x, y, known in np.moveaxis(images * 128 + 127.5, -1, 1):
        column, row = known.sum(axis=1).argmax(), known.sum(axis=0).argmax()
        (x1, x2), (y1, y2) = span(x[:, row], known[:, row]), span(y[column], known[column])
        windows.append([x1, y1, x2, y2])
    whole = np.round(windows)
    np.testing.assert_allclose(windows, whole, rtol=0, atol=0.2)  # its weights are rounded
    return whole


def cell_windows(images: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """(1, W, H, 3) `ramps` at a scale -> what P-Net's cells look at, and how many there are."""
    x, y = images[0, :, 0, 0] * 128 + 127.5, images[0, 0, :, 1] * 128 + 127.5
    spans = []
    for line in (x, y):
        first, last = line[: len(line) - 11 : 2], line[11::2]
        half = (last - first) / 22
        spans.append(np.stack([first - half, last + half], axis=1))
    columns, rows = (len(found) for found in spans)
    first, last = np.repeat(spans[0], rows, axis=0), np.tile(spans[1], (columns, 1))
    return np.stack([first[:, 0], last[:, 0], first[:, 1], last[:, 1]], axis=1), (columns, rows)


class Net:
    """Takes a net's place in the package: a perfect one, or one that leaves boxes as they are."""

    def __init__(self, name: NetName, perfect: bool) -> None:
        self.name, self.perfect = name, perfect

    def predict(self, images: np.ndarray) -> list[np.ndarray]:
        """What the package's Keras models give, in their order."""
        if self.name == "pnet":
            windows, cells = cell_windows(images)
            box, face = self.judge(windows)[0], self.judge(windows)[-1]
            return [box.reshape(1, *cells, 4), face.reshape(1, *cells, 2)]
        return self.judge(crop_windows(images))

    def judge(self, windows: np.ndarray) -> list[np.ndarray]:
        """The targets of training for these windows; the probability is the IoU."""
        overlap = boxes.iou(windows, FACES)
        nearest = overlap.argmax(axis=1)
        offsets = boxes.encode_offsets(FACES[nearest], windows)
        sides = windows[:, 2:3] - windows[:, :1]
        said = boxes.net_offsets(self.name, offsets, sides) if self.perfect else 0 * offsets
        score = overlap.max(axis=1)
        outputs = [said, np.stack([1 - score, score], axis=1)]
        if self.name == "onet":
            outputs.insert(1, boxes.encode_landmarks(LANDMARKS[nearest], windows))
        return [output.astype(np.float32) for output in outputs]


def with_nets(shipped: Any, perfect: Sequence[NetName], **settings: Any) -> Any:
    """The package's detector with other nets."""
    detector = copy.copy(shipped)
    detector._steps_threshold = [0.3, 0.3, 0.3]
    for name in NETS:
        setattr(detector, f"_{name}", Net(name, name in perfect))
    for key, value in settings.items():
        setattr(detector, key, value)
    return detector


def found_by(detector: Any) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and landmarks that the package finds in `ramps`, in the order of `FACES`."""
    faces = detector.detect_faces(ramps())
    found = np.array([face["box"] for face in faces]).reshape(-1, 4)
    found[:, 2:] += found[:, :2]
    landmarks = np.array([list(face["keypoints"].values()) for face in faces]).reshape(-1, 5, 2)
    assert len(found) == len(FACES)
    order = boxes.iou(FACES, found.astype(float)).argmax(axis=1)
    return found[order], landmarks[order]


@pytest.mark.parametrize("name", NETS)
def test_a_perfect_net_alone_gives_the_annotated_boxes_back(shipped: Any, name: NetName) -> None:
    # Scales of 1/2, 1/4, ...: the package rounds P-Net's cells down to whole pixels.
    detector = with_nets(shipped, [name], _min_face_size=24, _scale_factor=0.5)
    # Boxes made square lose what a perfect net has said.
    detector._MTCNN__rerec = lambda given: given
    found, landmarks = found_by(detector)
    np.testing.assert_array_equal(found, np.floor(FACES))
    np.testing.assert_array_equal(landmarks, np.floor(LANDMARKS))


@pytest.mark.parametrize(("min_face", "factor"), [(20, 0.709), (15, 0.79), (24, 0.5)])
def test_perfect_nets_together_give_the_annotated_faces_back(
    shipped: Any, min_face: int, factor: float
) -> None:
    detector = with_nets(shipped, NETS, _min_face_size=min_face, _scale_factor=factor)
    found, landmarks = found_by(detector)
    np.testing.assert_array_equal(found, np.floor(FACES))
    np.testing.assert_array_equal(landmarks, np.floor(LANDMARKS))
