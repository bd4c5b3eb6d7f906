"""Box arithmetic against hand-worked values, plain oracles and its own invariants."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mtcnn_detector import boxes
from mtcnn_detector.architecture import CellMap
from mtcnn_detector.cascade import cell_boxes
from mtcnn_detector.net import NETS, NetName

PNET_CELLS = CellMap(2, 0, 12, cells=1)


def some_windows(most: int = 12, room: int = 60) -> st.SearchStrategy[np.ndarray]:
    """(N, 4) windows of whole pixels, small enough to overlap often, none of them empty."""
    corner, side = st.integers(-5, room), st.integers(1, room)
    row = st.tuples(corner, corner, side, side)
    made = st.lists(row, max_size=most).map(lambda rows: np.array(rows, float).reshape(-1, 4))
    return made.map(lambda r: np.concatenate([r[:, :2], r[:, :2] + r[:, 2:]], axis=1))


def some_faces(count: int) -> st.SearchStrategy[np.ndarray]:
    """(count, 4) boxes with fractions of pixels, hardly ever square."""
    corner, side = st.floats(-50, 900), st.floats(4, 700)
    row = st.tuples(corner, corner, side, side)
    made = st.lists(row, min_size=count, max_size=count).map(np.array)
    return made.map(lambda r: np.concatenate([r[:, :2], r[:, :2] + r[:, 2:]], axis=1))


def squares_about(faces: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Square windows of whole pixels near faces, as training and detection cut them."""
    side = np.maximum(np.round((faces[:, 2:] - faces[:, :2]).max(axis=1)), 12)[:, None]
    first = np.floor(faces[:, :2] + shift * side)
    return np.concatenate([first, first + side], axis=1)


def nms_oracle(
    windows: np.ndarray, scores: np.ndarray, threshold: float, over_smaller: bool
) -> list[int]:
    """The package's rule, box by box: what overlaps a better one by more than this goes."""
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], -i if over_smaller else i)):
        for k in kept:
            wide = min(windows[i, 2], windows[k, 2]) - max(windows[i, 0], windows[k, 0])
            high = min(windows[i, 3], windows[k, 3]) - max(windows[i, 1], windows[k, 1])
            both = max(wide, 0) * max(high, 0)
            a, b = (np.prod(windows[n, 2:] - windows[n, :2]) for n in (i, k))
            if both / (min(a, b) if over_smaller else a + b - both) > threshold:
                break
        else:
            kept.append(i)
    return kept


def test_areas_and_overlaps_by_hand() -> None:
    windows = np.array([[0.0, 0, 4, 2], [3, 3, 3, 9], [5, 5, 1, 8]])
    assert boxes.areas(windows).tolist() == [8, 0, 0]
    # 4 x 2 and 4 x 3 share 2 x 1; the third one touches the first without a common pixel.
    others = np.array([[2.0, 1, 6, 4], [4, 0, 8, 2]])
    assert boxes.intersections(windows[:1], others).tolist() == [[2, 0]]
    assert boxes.iou(windows[:1], others).tolist() == [[2 / 18, 0]]
    assert boxes.overlap_of_smaller(windows[:1], others).tolist() == [[2 / 8, 0]]


def test_overlaps_with_an_empty_box_are_nothing() -> None:
    windows = np.array([[0.0, 0, 9, 9], [2, 2, 2, 2]])
    assert boxes.iou(windows, windows).tolist() == [[1, 0], [0, 0]]
    assert boxes.overlap_of_smaller(windows, windows).tolist() == [[1, 0], [0, 0]]
    nothing = np.zeros((0, 4))
    assert boxes.iou(windows, nothing).shape == (2, 0)
    assert boxes.iou(nothing, windows).shape == (0, 2)


@given(some_windows(), some_windows())
def test_overlaps_are_symmetric_shares(first: np.ndarray, second: np.ndarray) -> None:
    for measure in (boxes.iou, boxes.overlap_of_smaller):
        overlap = measure(first, second)
        assert overlap.shape == (len(first), len(second))
        assert np.all((overlap >= 0) & (overlap <= 1))
        np.testing.assert_array_equal(overlap, measure(second, first).T)
        np.testing.assert_array_equal(np.diag(measure(first, first)), np.ones(len(first)))
    assert np.all(boxes.overlap_of_smaller(first, second) >= boxes.iou(first, second))


@given(some_windows(), st.integers(-40, 40), st.integers(-40, 40))
def test_overlaps_do_not_depend_on_the_place(windows: np.ndarray, x: int, y: int) -> None:
    moved = windows + np.array([x, y, x, y])
    np.testing.assert_array_equal(boxes.iou(windows, windows), boxes.iou(moved, moved))
    turned = windows[:, [1, 0, 3, 2]]
    np.testing.assert_array_equal(boxes.iou(windows, windows), boxes.iou(turned, turned))


@pytest.mark.parametrize("over_smaller", [False, True], ids=["union", "Min"])
@given(windows=some_windows(), data=st.data(), threshold=st.sampled_from([0.3, 0.5, 0.7]))
def test_nms_is_the_packages(
    over_smaller: bool, windows: np.ndarray, data: st.DataObject, threshold: float
) -> None:
    score = st.sampled_from([step / 64 for step in range(64)])  # ties, and an exact 0
    scores = np.array(data.draw(st.lists(score, min_size=len(windows), max_size=len(windows))))
    scores = scores.astype(np.float32)
    kept = boxes.nms(windows, scores, threshold, over_smaller)
    assert kept.tolist() == nms_oracle(windows, scores, threshold, over_smaller)
    again = boxes.nms(windows[kept], scores[kept], threshold, over_smaller)
    assert again.tolist() == nms_oracle(windows[kept], scores[kept], threshold, over_smaller)
    order = sorted(again.tolist()) if over_smaller else again.tolist()  # equals change places
    assert order == list(range(len(kept)))


@pytest.mark.parametrize("over_smaller", [False, True], ids=["union", "Min"])
def test_nms_keeps_what_overlaps_by_just_the_threshold(over_smaller: bool) -> None:
    # Union: 14 of 20 pixels in all. Min: 7 of the smaller one's 10.
    union = np.array([[0.0, 0, 17, 1], [3, 0, 20, 1]])
    smaller = np.array([[0.0, 0, 20, 1], [13, 0, 23, 1]])
    windows, scores = smaller if over_smaller else union, np.array([0.8, 0.9], np.float32)
    assert boxes.nms(windows, scores, 0.7, over_smaller).tolist() == [1, 0]
    assert boxes.nms(windows, scores, 0.699, over_smaller).tolist() == [1]


@pytest.mark.parametrize("over_smaller", [False, True], ids=["union", "Min"])
def test_nms_of_equals_keeps_the_first_or_the_last(over_smaller: bool) -> None:
    windows = np.tile(np.array([[3.0, 4, 30, 50]]), (5, 1))
    assert boxes.nms(windows, np.full(5, 0.9, np.float32), 0.5, over_smaller).tolist() == [
        4 * over_smaller
    ]
    apart = windows + 100.0 * np.arange(5)[:, None]
    kept = boxes.nms(apart, np.full(5, 0.9, np.float32), 0.5, over_smaller)
    assert kept.tolist() == ([4, 3, 2, 1, 0] if over_smaller else [0, 1, 2, 3, 4])


@pytest.mark.parametrize("over_smaller", [False, True], ids=["union", "Min"])
def test_nms_of_nothing_is_nothing(over_smaller: bool) -> None:
    kept = boxes.nms(np.zeros((0, 4)), np.zeros(0, np.float32), 0.5, over_smaller)
    assert kept.shape == (0,)
    assert kept.dtype.kind == "i"


@pytest.mark.parametrize("over_smaller", [False, True], ids=["union", "Min"])
def test_nms_of_thousands(over_smaller: bool) -> None:
    rng = np.random.default_rng(3)
    first = rng.integers(0, 600, (5000, 2)).astype(float)
    windows = np.concatenate([first, first + rng.integers(40, 60, (5000, 2))], axis=1)
    scores = rng.permutation(5000).astype(np.float32) / 5000
    kept = boxes.nms(windows, scores, 0.5, over_smaller)
    assert 200 < len(kept) < 2000
    assert np.all(np.diff(scores[kept]) < 0)
    measure = boxes.overlap_of_smaller if over_smaller else boxes.iou
    overlap = measure(windows, windows[kept])
    overlap[kept, np.arange(len(kept))] = 0
    assert overlap[kept].max() <= 0.5, "two that stay overlap"
    gone = np.setdiff1d(np.arange(5000), kept)
    better = scores[kept][None, :] > scores[gone][:, None]
    assert np.all(((overlap[gone] > 0.5) & better).any(axis=1)), "one went without a reason"


@given(some_faces(3))
def test_squares_keep_the_centre_and_the_longer_side(faces: np.ndarray) -> None:
    squares = boxes.squared(faces)
    sides = squares[:, 2:] - squares[:, :2]
    longest = (faces[:, 2:] - faces[:, :2]).max(axis=1)
    np.testing.assert_allclose(sides, np.stack([longest, longest], axis=1), rtol=0, atol=1e-9)
    before, after = ((b[:, :2] + b[:, 2:]) / 2 for b in (faces, squares))
    np.testing.assert_allclose(before, after, rtol=0, atol=1e-9)


def test_square_by_hand() -> None:
    assert boxes.squared(np.array([[10.0, 20, 30, 80]])).tolist() == [[-10, 20, 50, 80]]
    assert boxes.squared(np.zeros((0, 4))).shape == (0, 4)


def test_the_window_of_a_reported_box_starts_a_pixel_before_it() -> None:
    assert boxes.windows_of(np.array([[1, 1, 12, 12]])).tolist() == [[0, 0, 12, 12]]
    assert boxes.windows_of(np.array([[1.5, 2, 3, 4]])).tolist() == [[0.5, 1, 3, 4]]


def test_offsets_by_hand() -> None:
    face, window = np.array([[14.0, 8, 26, 32]]), np.array([[10.0, 10, 30, 30]])
    offsets = boxes.encode_offsets(face, window)
    np.testing.assert_allclose(offsets, [[0.2, -0.1, -0.2, 0.1]], rtol=0, atol=1e-12)
    # The crop nets measure from one pixel (a twentieth) inside, in whole sides.
    said = boxes.net_offsets("rnet", offsets, np.array([[20.0]]))
    np.testing.assert_allclose(said, [[0.15, -0.15, -0.2, 0.1]], rtol=0, atol=1e-6)
    # P-Net: from a twelfth inside, in units of eleven twelfths.
    said = boxes.net_offsets("pnet", offsets, np.array([[20.0]]))
    wanted = (np.array([[0.2, -0.1, -0.2, 0.1]]) - np.array([1, 1, 0, 0]) / 12) * 12 / 11
    np.testing.assert_allclose(said, wanted, rtol=0, atol=1e-6)


@given(some_faces(4), arrays(float, (4, 2), elements=st.floats(-0.5, 0.5)))
def test_offsets_are_undone_by_decoding(faces: np.ndarray, shift: np.ndarray) -> None:
    windows = squares_about(faces, shift)
    offsets = boxes.encode_offsets(faces, windows)
    back = boxes.decode_offsets(offsets, windows, windows[:, 2:] - windows[:, :2])
    np.testing.assert_allclose(back, faces, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", NETS[1:])
@given(some_faces(4), arrays(float, (4, 2), elements=st.floats(-0.5, 0.5)))
def test_a_crop_nets_targets_give_the_face_back(
    name: NetName, faces: np.ndarray, shift: np.ndarray
) -> None:
    windows = squares_about(faces, shift)
    sides = windows[:, 2:] - windows[:, :2]
    said = boxes.net_offsets(name, boxes.encode_offsets(faces, windows), sides[:, :1])
    reported = windows + np.array([1, 1, 0, 0])  # where the cascade's crops come from
    back = boxes.decode_offsets(said, reported, sides)
    np.testing.assert_allclose(back, faces, rtol=0, atol=1e-3)


@given(some_faces(4), arrays(int, (4, 2), elements=st.integers(0, 60)), st.integers(1, 8))
def test_pnets_targets_give_the_face_back(
    faces: np.ndarray, cells: np.ndarray, shrunk: int
) -> None:
    columns, rows = cells.T
    corners = cell_boxes(PNET_CELLS, PNET_CELLS, rows, columns, 1 / shrunk)
    first = 2 * shrunk * cells.astype(float)  # what the cells look at, in the picture
    windows = np.concatenate([first, first + 12 * shrunk], axis=1)
    sides = np.full((4, 1), 12.0 * shrunk)
    said = boxes.net_offsets("pnet", boxes.encode_offsets(faces, windows), sides)
    back = boxes.decode_offsets(said, corners, corners[:, 2:] - corners[:, :2])
    np.testing.assert_allclose(back, faces, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", NETS)
def test_targets_of_tensors_are_those_of_arrays(name: NetName) -> None:
    rng = np.random.default_rng(0)
    offsets = rng.normal(0, 0.3, (50, 4)).astype(np.float32)
    sides = rng.integers(12, 300, (50, 1)).astype(np.float32)
    tensors = boxes.net_offsets(name, tf.constant(offsets), tf.constant(sides))
    arrays_ = boxes.net_offsets(name, offsets, sides)
    assert arrays_.dtype == np.float32
    np.testing.assert_allclose(tensors.numpy(), arrays_, rtol=0, atol=1e-6)


def test_targets_of_negatives_stay_unknown() -> None:
    nothing = np.full((2, 4), np.nan, np.float32)
    assert np.isnan(boxes.net_offsets("onet", nothing, np.ones((2, 1), np.float32))).all()


@given(some_faces(3), arrays(float, (3, 2), elements=st.floats(-0.5, 0.5)))
def test_a_mirrored_window_has_mirrored_offsets(faces: np.ndarray, shift: np.ndarray) -> None:
    windows, width = squares_about(faces, shift), 1000
    flipped = [width - b[:, [2, 1, 0, 3]] for b in (faces, windows)]
    for mirrored, given_boxes in zip(flipped, (faces, windows), strict=True):
        mirrored[:, [1, 3]] = given_boxes[:, [1, 3]]
    dx1, dy1, dx2, dy2 = boxes.encode_offsets(faces, windows).T
    mirrored_offsets = boxes.encode_offsets(*flipped)
    wanted = np.stack([-dx2, dy1, -dx1, dy2], axis=1)
    np.testing.assert_allclose(mirrored_offsets, wanted, rtol=0, atol=1e-9)


def test_landmarks_by_hand() -> None:
    landmarks = np.array([[[12.0, 25], [18, 25], [15, 30], [13, 35], [17, 36]]])
    window = np.array([[10.0, 20, 20, 40]])  # wider than high, so x and y cannot be exchanged
    fractions = boxes.encode_landmarks(landmarks, window)
    wanted = [[0.2, 0.8, 0.5, 0.3, 0.7, 0.25, 0.25, 0.5, 0.75, 0.8]]
    np.testing.assert_allclose(fractions, wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        boxes.decode_landmarks(fractions, window), landmarks, rtol=0, atol=1e-12
    )


@given(some_faces(3), arrays(float, (3, 5, 2), elements=st.floats(-200, 1500)))
def test_landmarks_are_undone_by_decoding(windows: np.ndarray, landmarks: np.ndarray) -> None:
    fractions = boxes.encode_landmarks(landmarks, windows)
    back = boxes.decode_landmarks(fractions, windows)
    np.testing.assert_allclose(back, landmarks, rtol=0, atol=1e-6)


def test_landmarks_of_nothing() -> None:
    nothing = boxes.encode_landmarks(np.zeros((0, 5, 2)), np.zeros((0, 4)))
    assert nothing.shape == (0, 10)
    assert boxes.decode_landmarks(nothing, np.zeros((0, 4))).shape == (0, 5, 2)
