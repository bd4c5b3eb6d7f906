"""The weights that we ship: whole, in the package's layout, and able to find a face."""

from pathlib import Path

import numpy as np

from mtcnn_detector.architecture import PAPER_NETS
from mtcnn_detector.detector import MTCNN
from mtcnn_detector.net import NETS
from mtcnn_detector.weights import weight_files
from tests.pictures import photographs

WEIGHTS = Path(__file__).parents[1] / "weights" / "mtcnn_weights.npy"


def test_they_are_three_nets_that_the_package_holds() -> None:
    trained = weight_files.read(WEIGHTS)
    assert {name: trained[name].net for name in NETS} == PAPER_NETS


def test_they_find_the_face_of_a_portrait() -> None:
    picture = photographs()["astronaut"]
    (face,) = MTCNN(WEIGHTS).detect_faces(np.ascontiguousarray(picture[:260, 100:360]))
    assert face["confidence"] > 0.9
    left, right = (np.array(face["keypoints"][eye]) for eye in ("left_eye", "right_eye"))
    assert 20 < right[0] - left[0] < 60 and abs(right[1] - left[1]) < 20
