"""The public class: kinds of images, the package's dictionaries, single nets."""

import json
from pathlib import Path

import numpy as np
import pytest

from models import keras_nets
from mtcnn_detector import boxes, single_net
from mtcnn_detector.architecture import PAPER_NETS
from mtcnn_detector.arguments import as_rgb
from mtcnn_detector.backend import CompiledNet
from mtcnn_detector.cascade import Faces
from mtcnn_detector.detector import MTCNN, as_dictionaries
from mtcnn_detector.drawing import draw_faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import TrainedNet
from tests.pictures import crops
from tests.weights_files import lively, without_landmarks

GREY = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30).astype(np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    drawn = {
        name: TrainedNet(net, keras_nets.get_weights(keras_nets.build(net, seed=3)))
        for name, net in PAPER_NETS.items()
    }
    path = tmp_path_factory.mktemp("weights") / "mtcnn_weights.npy"
    weight_files.write("ipazc", path, drawn)
    return path


@pytest.mark.parametrize(
    "image",
    [
        GREY,
        GREY[..., None],
        np.repeat(GREY[..., None], 3, axis=2),
        np.dstack([GREY, GREY, GREY, 255 - GREY]),
        GREY.astype(np.uint16) << 8 | 17,
        (GREY.astype(np.uint16) << 8 | 17).astype(">u2"),
        np.repeat(GREY[..., None], 3, axis=2)[:, ::-1][:, ::-1],
    ],
    ids=["grey", "one channel", "RGB", "RGBA", "16 bit", "big-endian", "not contiguous"],
)
def test_every_kind_of_picture_is_seen_as_rgb(image: np.ndarray) -> None:
    np.testing.assert_array_equal(as_rgb(image), np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize(
    "image", [None, "face.jpg", np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3)), np.zeros(9)]
)
def test_what_is_no_picture_is_refused(image: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        as_rgb(image)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(0, 0, 3), (0, 40, 3), (11, 11, 3), (5, 400, 3), (1, 1)])
def test_a_picture_without_room_for_a_face_has_none(weights: Path, shape: tuple[int, ...]) -> None:
    assert MTCNN(weights).detect_faces(np.zeros(shape, np.uint8)) == []


def test_a_batch_gives_what_single_pictures_give(weights: Path) -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, size, np.uint8) for size in [(60, 80, 3), (90, 50, 3)]]
    eager = MTCNN(weights, steps_threshold=[0.3, 0.3, 0.3])
    found = eager.detect_faces_batch(images)
    assert found == [eager.detect_faces(image) for image in images]


def test_faces_are_told_as_the_package_tells_them() -> None:
    landmarks = np.arange(10).reshape(1, 5, 2) + 0.9
    told = as_dictionaries(Faces(np.array([[-3.5, 2.9, 20.2, 31.7]]), np.array([0.75]), landmarks))
    keypoints = {"left_eye": (0, 1), "right_eye": (2, 3), "nose": (4, 5)}
    keypoints |= {"mouth_left": (6, 7), "mouth_right": (8, 9)}
    assert told == [{"box": [0, 2, 20, 29], "confidence": 0.75, "keypoints": keypoints}]


def test_weights_that_lack_a_net_are_refused(tmp_path: Path) -> None:
    net = PAPER_NETS["pnet"]
    path = tmp_path / "weights.npz"
    weight_files.write_own(path, TrainedNet(net, keras_nets.get_weights(keras_nets.build(net))))
    with pytest.raises(UserError, match="rnet"):
        MTCNN(path)


def test_an_onet_without_landmark_head_gives_the_same_faces_without_landmarks(
    tmp_path: Path,
) -> None:
    noise = crops((120, 160), 1)[0]
    nets = {name: lively(name, 1) for name in NETS}
    weight_files.write_own_folder(tmp_path / "with", nets)
    weight_files.write_own_folder(tmp_path / "without", nets | {"onet": without_landmarks(1)})
    with_head, without = (
        MTCNN(tmp_path / kind, steps_threshold=[0.3, 0.3, 0.3]) for kind in ("with", "without")
    )
    faces = without.cascade.detect(noise)
    assert len(faces.scores) >= 5
    assert np.isnan(faces.landmarks).all() and faces.landmarks.shape == (len(faces.scores), 5, 2)
    assert with_head.cascade.gives_landmarks and not without.cascade.gives_landmarks
    wanted = [face | {"keypoints": {}} for face in with_head.detect_faces(noise)]
    assert without.detect_faces(noise) == wanted
    json.dumps(wanted, allow_nan=False)
    np.testing.assert_array_equal(draw_faces(noise, faces).shape, noise.shape)


@pytest.mark.parametrize("name", NETS)
def test_what_a_net_says_alone_is_told_in_the_crops_pixels(name: NetName) -> None:
    """A net that always says what training would teach it for one face."""
    side, face = 60, np.array([[10.0, 5, 50, 55]])
    window, sides = np.array([[0.0, 0, side, side]]), np.array([[float(side)]])
    said = boxes.net_offsets(name, boxes.encode_offsets(face, window), sides)
    net = PAPER_NETS[name]
    constant = keras_nets.get_weights(keras_nets.build(net, seed=0))
    constant["box/kernel"] = np.zeros_like(constant["box/kernel"])
    constant["box/bias"] = said[0].astype(np.float32)
    judged = single_net.predict_crop(
        CompiledNet(name, TrainedNet(net, constant)), np.zeros((side, side, 3), np.uint8)
    )
    np.testing.assert_allclose(judged.box, face[0], atol=1e-4)


@pytest.mark.slow
def test_a_picture_of_100_megapixels_is_looked_at(weights: Path) -> None:
    huge = np.zeros((8000, 12500), np.uint8)
    found = MTCNN(weights, min_face_size=60, steps_threshold=[0.99, 0.99, 0.99]).detect_faces(huge)
    assert found == []
