"""Validation metrics on crops worked out by hand."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs import recipe
from mtcnn_detector.boxes import net_offsets
from mtcnn_detector.net import NetName
from train.metrics import mean_iou, normalised_mean_error, recall_at, summary


def test_recall_where_a_tenth_of_the_background_passes() -> None:
    negatives = np.arange(10) / 10  # 0.0 to 0.9
    positives = np.array([0.05, 0.79, 0.82, 0.95, 0.99])
    recall, threshold = recall_at(positives, negatives, 0.1)
    # Nine tenths of the way from 0.0 to 0.9: only 0.9 lies above.
    assert threshold == pytest.approx(0.81, abs=1e-9)
    assert recall == pytest.approx(3 / 5, abs=1e-9)
    assert (negatives > threshold).mean() == pytest.approx(0.1, abs=1e-9)


def test_recall_of_a_net_that_says_the_same_of_all_is_none() -> None:
    assert recall_at(np.full(5, 0.5), np.full(50, 0.5), 0.01) == (0.0, 0.5)


def test_recall_of_nothing_is_unknown() -> None:
    assert all(map(math.isnan, recall_at(np.zeros(0), np.ones(3), 0.01)))
    assert all(map(math.isnan, recall_at(np.ones(3), np.zeros(0), 0.01)))


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
def test_iou_in_the_frame_of_each_net(name: NetName) -> None:
    # Windows of 24 px; the first face fills its window, the second net box is shifted by a half.
    sides = np.full((3, 1), 24.0)
    true = np.array([[0, 0, 0, 0], [0, 0, 0, 0], [0.25, 0.25, -0.25, -0.25]])
    found = np.array([[0, 0, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 0]])
    framed = [net_offsets(name, offsets, sides) for offsets in (found, true)]
    # 1, a half over one and a half, a quarter of the window.
    wanted = (1 + 1 / 3 + 1 / 4) / 3
    assert mean_iou(framed[0], framed[1], name, sides) == pytest.approx(wanted, abs=1e-6)
    assert math.isnan(mean_iou(framed[0][:0], framed[1][:0], name, sides[:0]))


def test_pnet_offsets_are_measured_in_elevenths_of_its_window() -> None:
    # By hand: corners are measured from 1/12 and from 12/12, in units of 11/12 of the window.
    outputs, targets = np.array([[1 / 11, 1 / 11, 0, 0]]), np.array([[-1 / 11, -1 / 11, 0, 0]])
    # The windows [2/12, 1] and [0, 1] squared.
    found = mean_iou(outputs, targets, "pnet", np.array([[24.0]]))
    assert found == pytest.approx((10 / 12) ** 2, abs=1e-6)
    # R-Net's begin one pixel in: 1/24 + 1/11 and 1/24 - 1/11.
    found = mean_iou(outputs, targets, "rnet", np.array([[24.0]]))
    wanted = ((23 / 24 - 1 / 11) / (23 / 24 + 1 / 11)) ** 2
    assert found == pytest.approx(wanted, abs=1e-6)


def test_boxes_turned_inside_out_overlap_nothing() -> None:
    outputs = np.array([[2.0, 0, -2.0, 0]])
    assert mean_iou(outputs, np.zeros((1, 4)), "rnet", np.array([[24.0]])) == 0


TRAIN = replace(
    recipe.load(Path(__file__).parents[1] / "configs/mtcnn.yaml").pnet.train,
    batch=8,
    batch_fractions=(0.25,) * 4,
    loss_weights=(1.0, 0.5, 2.0),
    box_beta=None,
    landmark_beta=None,
    false_positive_rate=0.5,
)
FACE = np.array([0.3, 0.7, 0.5, 0.35, 0.65, 0.4, 0.4, 0.6, 0.8, 0.8])  # eyes 0.4 apart


def test_landmark_error_in_eye_distances() -> None:
    moved = FACE.copy()
    moved[[2, 7]] += [0.06, -0.08]  # the nose by 0.1
    moved[8] += 0.1  # a corner of the mouth by 0.1
    error = normalised_mean_error(np.stack([FACE, moved]), np.stack([FACE, FACE]))
    assert error == pytest.approx((0 + 0.2 / 5 / 0.4) / 2, abs=1e-9)


def test_faces_in_profile_have_no_landmark_error() -> None:
    profile = FACE.copy()
    profile[[0, 1]] = 0.45, 0.54  # eyes 0.09 apart
    wrong = FACE + 0.04 * np.repeat([1, 0], 5)
    error = normalised_mean_error(np.stack([wrong, profile + 1]), np.stack([FACE, profile]))
    assert error == pytest.approx(0.1, abs=1e-9)
    assert math.isnan(normalised_mean_error(profile[None], profile[None]))
    assert math.isnan(normalised_mean_error(np.zeros((0, 10)), np.zeros((0, 10))))


def test_summary_by_hand() -> None:
    nan = np.nan
    targets = {
        "kind": np.array([0, 0, 1, 1, 2, 3]),
        "box": np.array([[0.0] * 4, [0.0] * 4, [nan] * 4, [nan] * 4, [0.1] * 4, [nan] * 4]),
        "landmarks": np.array([[nan] * 10] * 5 + [FACE]),
        "side": np.full((6, 1), 24.0),
    }
    outputs = {
        "cls": np.array([0.9, 0.6, 0.7, 0.2, 1e-9, 1e-9]),
        "box": np.zeros((6, 4)),
        "landmarks": np.tile(FACE + 0.04 * np.repeat([1, 0], 5), (6, 1)),
    }
    figures = summary(outputs, targets, "rnet", TRAIN)
    # The background's median is 0.45; both faces lie above.
    assert figures["threshold"] == pytest.approx(0.45, abs=1e-9)
    assert figures["recall"] == 1
    # The part's box is off by a tenth of 24 px in all four: 23 px wide, 20.6 shared.
    shared = (23 - 2.4) ** 2
    wanted = (1 + 1 + shared / (2 * 23**2 - shared)) / 3
    assert figures["iou"] == pytest.approx(wanted, abs=1e-6)
    assert figures["nme"] == pytest.approx(0.1, abs=1e-9)
    face = -np.log([0.9, 0.6, 0.3, 0.8]).mean()
    # Squared distances: boxes 0, 0, 4 * 0.01; landmarks 5 * 0.0016.
    wanted = face + 0.5 * 0.04 / 3 + 2 * 0.008
    assert figures["loss"] == pytest.approx(wanted, abs=1e-7)
    # Smooth L1 of 0.1 is 0.05 above a beta of 0.1, of 0.04 likewise 0.03 above 0.02.
    smooth = replace(TRAIN, box_beta=0.1, landmark_beta=0.02)
    wanted = face + 0.5 * 4 * 0.05 / 3 + 2 * 5 * 0.03
    found = summary(outputs, targets, "rnet", smooth)["loss"]
    assert found == pytest.approx(wanted, abs=1e-6)


def test_summary_without_landmarks_or_without_a_kind() -> None:
    targets = {
        "kind": np.array([0, 1]),
        "box": np.array([[0.0] * 4, [np.nan] * 4]),
        "side": np.full((2, 1), 24.0),
    }
    outputs = {"cls": np.array([0.8, 0.1]), "box": np.zeros((2, 4))}
    figures = summary(outputs, targets, "onet", TRAIN)
    assert set(figures) == {"recall", "threshold", "iou", "loss"}
    only_faces = {key: value[:1] for key, value in targets.items()}
    figures = summary({k: v[:1] for k, v in outputs.items()}, only_faces, "onet", TRAIN)
    assert math.isnan(figures["recall"]) and figures["loss"] == pytest.approx(-math.log(0.8))
