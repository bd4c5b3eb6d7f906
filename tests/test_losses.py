"""The losses against plain oracles, and what each kind of crop may teach."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import recipe
from configs.record_settings import SAMPLE_TYPES, SampleType
from configs.train_settings import TrainSettings
from train.losses import Tensors, class_divergences, losses, ohem_mean, regression_loss

RECIPE = recipe.load(Path(__file__).parent.parent / "configs" / "mtcnn.yaml")
TRAIN = replace(
    RECIPE.onet.train,
    loss_weights=(1.0, 1.0, 1.0),
    ohem_ratio=1.0,
    box_beta=None,
    landmark_beta=None,
)


def batch(*kinds: SampleType, seed: int = 0, known: bool = False) -> tuple[Tensors, Tensors]:
    """Targets and outputs for crops of these kinds; NaN where a kind has no target.

    `known`: every crop has every target, as a positive crop may well have landmarks.
    """
    rng = np.random.default_rng(seed)
    count = len(kinds)
    box, landmarks = rng.normal(0, 0.2, (count, 4)), rng.uniform(0, 1, (count, 10))
    for row, kind in enumerate(kinds):
        if kind in ("negative", "landmark") and not known:
            box[row] = np.nan
        if kind != "landmark" and not known:
            landmarks[row] = np.nan
    targets = {
        "kind": tf.constant([SAMPLE_TYPES.index(kind) for kind in kinds], tf.int32),
        "box": tf.constant(box, tf.float32),
        "landmarks": tf.constant(landmarks, tf.float32),
    }
    outputs = {
        head: tf.constant(rng.normal(0, 1, (count, width)), tf.float32)
        for head, width in {"cls": 2, "box": 4, "landmarks": 10}.items()
    }
    return targets, outputs


def gradients(
    targets: Tensors, outputs: Tensors, train: TrainSettings = TRAIN
) -> dict[str, np.ndarray]:
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        total = tf.add_n(list(losses(targets, outputs, train).values()))
    return {head: g.numpy() for head, g in tape.gradient(total, outputs).items()}


def rows_taught(kinds: list[SampleType], head: str, known: bool) -> list[bool]:
    found = gradients(*batch(*kinds, known=known))[head]
    assert np.isfinite(found).all()
    return [bool(row.any()) for row in found]


def oracle(values: list[float], mask: list[bool], ratio: float) -> float:
    """Mean of the hardest of the masked values, by sorting."""
    hardest = sorted((v for v, c in zip(values, mask, strict=True) if c), reverse=True)
    kept = hardest[: math.ceil(ratio * len(hardest))]
    return sum(kept) / len(kept) if kept else 0.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 20, width=32), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([0.25, 0.5, 0.7, 0.75, 1.0]),
)
def test_ohem_mean_is_that_of_the_oracle(rows: list[tuple[float, bool]], ratio: float) -> None:
    values, mask = map(list, zip(*rows, strict=True))
    found = float(ohem_mean(tf.constant(values, tf.float32), tf.constant(mask), ratio))
    assert found == pytest.approx(oracle(values, mask, ratio), abs=1e-4)


def test_ohem_mean_by_hand() -> None:
    values = tf.constant([1.0, 9.0, 4.0, 100.0, 2.0])
    counted = tf.constant([True, True, True, False, True])
    assert float(ohem_mean(values, counted, 0.5)) == 6.5  # 9 and 4 of the four
    assert float(ohem_mean(values, counted, 0.7)) == 5.0  # 2.8 of four: three
    assert float(ohem_mean(values, counted, 1.0)) == 4.0
    assert float(ohem_mean(values, counted, 0.01)) == 9.0  # at least one


def test_ohem_counts_no_crop_more_for_the_rounding_of_its_ratio() -> None:
    values = tf.range(170, dtype=tf.float32)  # 0.3 in 32 bits times 170 is above 51
    assert float(ohem_mean(values, values >= 0, 0.3)) == np.arange(119, 170).mean()


def test_only_the_hard_crops_have_a_gradient() -> None:
    values = tf.constant([1.0, 9.0, 4.0, 100.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        mean = ohem_mean(values, tf.constant([True, True, True, False, True]), 0.5)
    np.testing.assert_allclose(tape.gradient(mean, values), [0, 0.5, 0.5, 0, 0], atol=1e-7)


def ohem_gradient(values: list[float], mask: list[bool], ratio: float) -> np.ndarray:
    """Of `ohem_mean` with regard to each value."""
    tensor = tf.constant(values, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        mean = ohem_mean(tensor, tf.constant(mask), ratio)
    return np.asarray(tape.gradient(mean, tensor))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 20, width=32), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([0.25, 0.5, 0.7, 0.75, 1.0]),
)
def test_the_gradient_of_ohem_is_that_of_a_sort(
    rows: list[tuple[float, bool]], ratio: float
) -> None:
    values, mask = map(list, zip(*rows, strict=True))
    kept = math.ceil(ratio * sum(mask))
    order = sorted(np.flatnonzero(mask), key=lambda row: -values[row])
    wanted = np.zeros(len(values))
    wanted[order[:kept]] = 1 / max(kept, 1)
    found = ohem_gradient(values, mask, ratio)
    for value in set(values):  # equal values share the gradient, in whichever order they are
        group = (np.array(values) == value) & mask
        assert found[group].sum() == pytest.approx(wanted[group].sum(), abs=1e-5)
        assert np.ptp(found[group]) < 1e-6 if group.any() else True
    assert not found[~np.array(mask)].any()


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_not_hidden(wrong: float) -> None:
    values, mask = tf.constant([1.0, wrong, 3.0]), tf.constant([True, True, True])
    assert not math.isfinite(ohem_mean(values, mask, 0.5))
    outside = tf.constant([True, False, True])
    assert float(ohem_mean(values, outside, 0.5)) == 3


def test_class_loss_is_the_cross_entropy() -> None:
    logits = tf.constant([[0.0, 0.0], [1.0, 3.0], [1.0, 3.0]])
    found = class_divergences(logits, tf.constant([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))
    wanted = [math.log(2), math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_class_loss_of_what_is_uncertain_is_0_where_the_net_is_as_uncertain() -> None:
    logits = tf.constant([[0.0, 0.0], [0.0, math.log(3)], [0.0, 0.0]])
    found = class_divergences(logits, tf.constant([[0.5, 0.5], [0.25, 0.75], [0.25, 0.75]]))
    wanted = [0, 0, 0.25 * math.log(0.5) + 0.75 * math.log(1.5)]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_squared_distance_by_hand() -> None:
    outputs = tf.constant([[1.0, 2, 3, 4], [0, 0, 0, 0], [5, 5, 5, 5], [7, 7, 7, 7]])
    targets = tf.constant([[1.0, 0, 0, 4], [1, 1, 1, 1], [0, 0, 0, 0], [np.nan] * 4])
    counted = tf.constant([True, True, False, True])
    assert float(regression_loss(outputs, targets, counted, None)) == 8.5  # (4 + 9 and 4) / 2


def test_smooth_distance_by_hand() -> None:
    outputs = tf.constant([[0.0, 1.0], [0.0, 0.0]])
    targets = tf.constant([[0.0, -2.0], [0.1, np.nan]])
    counted = tf.constant([True, True])
    # Linear far off: 3 - 0.2 / 2; the second row has no target.
    assert float(regression_loss(outputs, targets, counted, 0.2)) == pytest.approx(2.9, abs=1e-6)
    near = tf.constant([[0.1, -0.06]])
    found = float(regression_loss(near, tf.zeros((1, 2)), counted[:1], 0.2))
    assert found == pytest.approx((0.1**2 + 0.06**2) / 0.4, abs=1e-7)  # quadratic


@pytest.mark.parametrize("beta", [None, 0.02, 0.5])
def test_no_distance_has_a_jump_in_its_gradient(beta: float | None) -> None:
    errors = tf.linspace(-1.0, 1.0, 2001)[:, None]
    with tf.GradientTape() as tape:
        tape.watch(errors)
        value = regression_loss(errors, tf.zeros_like(errors), tf.fill([2001], True), beta) * 2001
    slopes = tape.gradient(value, errors).numpy()[:, 0]
    assert np.abs(np.diff(slopes)).max() <= 0.001 * 1.01 * (2 if beta is None else 1 / beta)
    assert (np.diff(slopes) > -1e-3).all()


@pytest.mark.parametrize(
    "kinds",
    [["negative"] * 3, ["positive"] * 3, ["part"] * 3, ["landmark"] * 3, ["negative", "part"]],
)
def test_a_batch_without_some_kinds_gives_no_nan(kinds: list[SampleType]) -> None:
    # Fault 10 of the existing trainings: the mean of nothing.
    targets, outputs = batch(*kinds)
    parts = {key: float(value) for key, value in losses(targets, outputs, TRAIN).items()}
    has = {
        "cls": bool({"positive", "negative"} & set(kinds)),
        "box": bool({"positive", "part"} & set(kinds)),
        "landmarks": "landmark" in kinds,
    }
    assert {key: value > 0 for key, value in parts.items()} == has
    assert all(np.isfinite(list(parts.values())))
    for head, gradient in gradients(targets, outputs).items():
        assert np.isfinite(gradient).all() and gradient.any() == has[head]


ALL: list[SampleType] = ["positive", "negative", "part", "landmark"]


@pytest.mark.parametrize("known", [False, True])
def test_which_kind_teaches_what(known: bool) -> None:
    # Fault 11: landmark crops counted as positives. Part crops are neither faces nor background.
    assert rows_taught(ALL, "cls", known) == [True, True, False, False]
    assert rows_taught(ALL, "box", known) == [True, False, True, False]
    assert rows_taught(ALL, "landmarks", known) == ([True] * 4 if known else [False] * 3 + [True])


def test_the_class_loss_does_not_see_parts_and_landmarks() -> None:
    targets, outputs = batch("positive", "negative")
    alone = losses(targets, outputs, TRAIN)["cls"]
    more_targets, more = batch("positive", "negative", "part", "landmark", "part")
    more["cls"] = tf.concat([outputs["cls"], [[50.0, -50], [-50, 50], [-50, 50]]], 0)
    # Neither the mean nor the number of hard ones changes.
    for share in (1.0, 0.7, 0.5):
        train = replace(TRAIN, ohem_ratio=share)
        alone = losses(targets, outputs, train)["cls"]
        assert float(losses(more_targets, more, train)["cls"]) == pytest.approx(
            float(alone), abs=1e-6
        )


def test_positives_are_faces_and_negatives_are_not() -> None:
    targets, outputs = batch("positive", "negative")
    outputs["cls"] = tf.constant([[-9.0, 9.0], [9.0, -9.0]])
    assert float(losses(targets, outputs, TRAIN)["cls"]) < 1e-6
    outputs["cls"] = tf.constant([[9.0, -9.0], [-9.0, 9.0]])
    assert float(losses(targets, outputs, TRAIN)["cls"]) == pytest.approx(18, abs=1e-4)


def test_a_positive_without_a_known_box_counts_for_the_class_only() -> None:
    targets, outputs = batch("positive", "positive")
    known = float(tf.reduce_sum((outputs["box"][1] - targets["box"][1]) ** 2))
    targets["box"] = tf.concat([tf.fill([1, 4], np.nan), targets["box"][1:]], 0)
    assert float(losses(targets, outputs, TRAIN)["box"]) == pytest.approx(known, abs=1e-5)
    found = gradients(targets, outputs)
    assert not found["box"][0].any() and found["box"][1].any() and found["cls"].all()


def test_landmarks_that_are_known_in_part_are_not_learned() -> None:
    targets, outputs = batch("landmark", "landmark")
    spoilt = targets["landmarks"].numpy()
    spoilt[0, 3] = np.nan
    targets["landmarks"] = tf.constant(spoilt)
    found = gradients(targets, outputs)["landmarks"]
    assert np.isfinite(found).all() and not found[0].any() and found[1].all()


def test_weights_multiply_the_parts() -> None:
    targets, outputs = batch(*ALL)
    plain = losses(targets, outputs, TRAIN)
    weighted = losses(targets, outputs, replace(TRAIN, loss_weights=(2.0, 0.5, 3.0)))
    for head, weight in {"cls": 2, "box": 0.5, "landmarks": 3}.items():
        assert float(weighted[head]) == pytest.approx(weight * float(plain[head]), abs=1e-5)


def test_a_net_without_landmarks_has_no_such_loss() -> None:
    targets, outputs = batch(*ALL)
    del outputs["landmarks"]
    assert set(losses(targets, outputs, TRAIN)) == {"cls", "box"}


def test_a_teacher_stands_beside_the_labels_and_for_those_that_lack() -> None:
    targets, outputs = batch(*ALL)
    says = np.array([0.6, 0.2, 0.7, 0.9], np.float32)
    teacher_outputs = {"cls": tf.math.log(tf.stack([1 - says, says], axis=1))}
    wanted = 0.75 * np.array([1, 0, 0, 0], np.float32) + 0.25 * says
    wanted[2:] = says[2:]  # neither faces nor background: no label
    outputs["cls"] = tf.math.log(tf.stack([1 - wanted, wanted], axis=1))
    train = replace(TRAIN, distillation_weight=0.25)
    assert float(losses(targets, outputs, train, teacher_outputs)["cls"]) == pytest.approx(
        0, abs=1e-6
    )
    for row in range(4):
        other = outputs["cls"].numpy()
        other[row, 0] += 1
        moved = outputs | {"cls": tf.constant(other)}
        assert float(losses(targets, moved, train, teacher_outputs)["cls"]) > 0.001, ALL[row]


def test_taught_landmarks_of_faces_are_learned_beside_the_known_ones() -> None:
    targets, outputs = batch(*ALL)
    teacher_outputs = {"cls": outputs["cls"], "landmarks": tf.zeros((4, 10))}
    train = replace(TRAIN, distillation_weight=0.25)
    found = float(losses(targets, outputs, train, teacher_outputs)["landmarks"])
    known = float(losses(targets, outputs, train)["landmarks"])
    given = tf.reduce_sum(outputs["landmarks"] ** 2, axis=1).numpy()
    assert found == pytest.approx(0.75 * known + 0.25 * (given[0] + given[2]) / 2, rel=1e-5)
    boxes = [losses(targets, outputs, train, more)["box"] for more in (teacher_outputs, None)]
    assert float(boxes[0]) == float(boxes[1]), "labels alone teach boxes"
