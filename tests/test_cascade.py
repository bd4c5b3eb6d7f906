"""The cascade's own steps, with nets that say exactly what training would have them say."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from models import keras_nets
from mtcnn_detector import boxes, cascade, pixels
from mtcnn_detector.architecture import PAPER_NETS, CellMap
from mtcnn_detector.backend import CompiledNet, Outputs
from mtcnn_detector.cascade import Cascade, Faces
from mtcnn_detector.net import NETS, Layer, Net, NetName
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.threads import use_threads
from mtcnn_detector.tiling import Level, TiledCanvas
from mtcnn_detector.weights.weight_files import TrainedNet
from tests.weights_files import drawn

HEIGHT, WIDTH = 320, 480
# Neither square nor on whole pixels, so that no rounding hides behind another.
FACES = np.array(
    [[40.5, 60.5, 70.5, 100.5], [200.5, 90.5, 330.5, 210.5], [370.5, 20.5, 420.5, 70.5]]
)
SHARES = np.array([[0.3, 0.35], [0.72, 0.38], [0.5, 0.6], [0.35, 0.8], [0.66, 0.83]])
LANDMARKS = FACES[:, None, :2] + SHARES * (FACES[:, None, 2:] - FACES[:, None, :2])
EXACT = DetectorSettings(min_face_size=24, scale_factor=0.5, thresholds=(0.3, 0.3, 0.3))
PICTURE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def judged(name: NetName, windows: np.ndarray) -> Outputs:
    """What a perfect net says about windows: IoU with the nearest face, and where that lies."""
    overlap = boxes.iou(windows, FACES)
    nearest = overlap.argmax(axis=1)
    offsets = boxes.encode_offsets(FACES[nearest], windows)
    said = boxes.net_offsets(name, offsets, windows[:, 2:3] - windows[:, :1])
    score = overlap.max(axis=1).astype(np.float32)
    if name != NETS[-1]:
        return Outputs(score, said, None)
    # Another order than that of the net before, so that no row can stay where it was.
    return Outputs(1 - score / 2, said, boxes.encode_landmarks(LANDMARKS[nearest], windows))


class Perfect:
    """Stands in for `CompiledNet`; it is given places, not pixels (see `perfect_nets`)."""

    def __init__(self, name: NetName, trained: TrainedNet) -> None:
        self.name, self.net = name, trained.net

    def __call__(self, given: Any) -> Outputs:
        if self.name != NETS[0]:
            return judged(self.name, given.astype(float))
        laid, tile = given
        shape = (laid._tile_rows, laid._tile_columns)
        places = np.arange(laid._tile_rows * laid._tile_columns)
        inside, cells = laid.cells(np.full(len(places), tile), places)
        windows = np.tile([0.0, 0, 1, 1], (inside.size, 1))
        windows[inside] = [self.window(laid._levels[n], *at) for n, *at in zip(*cells, strict=True)]
        said = judged(self.name, windows)
        return Outputs(said.score.reshape(1, *shape), said.box.reshape(1, *shape, 4), None)

    def window(self, level: Level, down: int, across: int) -> np.ndarray:
        """What a cell of a level looks at, in pixels of the picture."""
        at = ((across, level.across), (down, level.down))
        first = np.array([n * cells.stride + cells.offset for n, cells in at] * 2)
        first[2:] += self.net.size
        return first * (HEIGHT / level.height)


TRAINED = {name: TrainedNet(PAPER_NETS[name], {}) for name in NETS}


@pytest.fixture
def perfect_nets(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Cascade]:
    """Makes a cascade of perfect nets."""
    monkeypatch.setattr(cascade, "CompiledNet", Perfect)
    monkeypatch.setattr(cascade, "_crops", lambda picture, windows, size, count: windows)
    monkeypatch.setattr(
        TiledCanvas, "tiles", lambda self: ((self, n) for n in range(self._tile_count))
    )

    def make(detector: DetectorSettings = EXACT, names: Sequence[NetName] = NETS) -> Cascade:
        return Cascade({name: TRAINED[name] for name in names}, detector)

    return make


def in_order(found: Faces) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and landmarks from left to right."""
    order = np.argsort(found.boxes[:, 0])
    return found.boxes[order], found.landmarks[order]


def test_perfect_nets_give_the_faces_back(perfect_nets: Callable[..., Cascade]) -> None:
    found_boxes, found_landmarks = in_order(perfect_nets().detect(PICTURE))
    np.testing.assert_allclose(found_boxes, FACES, rtol=0, atol=1e-3)
    np.testing.assert_allclose(found_landmarks, LANDMARKS, rtol=0, atol=1e-9)


def test_every_stage_passes_squares_about_the_faces_on(
    perfect_nets: Callable[..., Cascade],
) -> None:
    first, second, _ = perfect_nets().stages(PICTURE)
    squares = np.trunc(boxes.squared(FACES))
    nearest = boxes.iou(first.boxes, squares).argmax(axis=1)
    assert set(nearest) == {0, 1, 2}
    np.testing.assert_array_equal(first.boxes, squares[nearest])
    np.testing.assert_array_equal(in_order(second)[0], squares)
    assert np.isnan(first.landmarks).all()
    assert np.isnan(second.landmarks).all()
    assert np.all(np.diff(first.scores) <= 0)
    assert np.all(np.diff(second.scores) <= 0)


PADDED = tuple(replace(layer, padding="same") for layer in PAPER_NETS["pnet"].layers)
CHANGED = {
    "same padding": Net(12, PADDED),
    "a layer more": Net(16, (*PAPER_NETS["pnet"].layers, Layer(conv=32))),
    "a layer more, same padding": Net(16, (*PADDED, Layer(conv=32, padding="same"))),
    "stride 4": Net(20, (*PADDED[:3], Layer(pool=3, stride=2, padding="same"), PADDED[3])),
}


@pytest.mark.parametrize("net", CHANGED.values(), ids=CHANGED.keys())
def test_another_first_net_finds_the_faces_where_they_are(
    net: Net, perfect_nets: Callable[..., Cascade], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TRAINED, "pnet", TrainedNet(net, {}))
    exact = replace(EXACT, min_face_size=2 * net.size)  # levels of exactly half a picture's size
    first = perfect_nets(exact).stages(PICTURE)[0]
    squares = boxes.squared(FACES)
    nearest = boxes.iou(first.boxes, squares).argmax(axis=1)
    assert set(nearest) == {0, 1, 2}
    # Both the cell and the square become whole pixels, as in the package.
    assert np.abs(first.boxes - squares[nearest]).max() < 2


def test_the_number_of_crops_at_once_changes_nothing(
    perfect_nets: Callable[..., Cascade], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = perfect_nets().stages(PICTURE)
    assert len(whole[0].scores) > 3
    monkeypatch.setattr(cascade, "PIXELS_AT_ONCE", 1)
    for one, other in zip(perfect_nets().stages(PICTURE), whole, strict=True):
        for field, wanted in zip(one, other, strict=True):
            np.testing.assert_array_equal(field, wanted)


def test_a_cascade_of_fewer_nets_ends_earlier(perfect_nets: Callable[..., Cascade]) -> None:
    assert len(perfect_nets(names=NETS[:1]).stages(PICTURE)) == 1
    stages = perfect_nets(names=NETS[:2]).stages(PICTURE)
    assert len(stages) == 2
    np.testing.assert_array_equal(in_order(stages[1])[0], np.trunc(boxes.squared(FACES)))


@pytest.mark.parametrize("names", [(), NETS[1:], (NETS[0], NETS[2])])
def test_a_cascade_skips_no_net(names: Sequence[NetName]) -> None:
    with pytest.raises(ValueError, match="starts with pnet and skips no net"):
        Cascade({name: drawn(replace(PAPER_NETS[name], landmarks=False)) for name in names}, EXACT)


def test_thresholds_are_met_by_the_first_net_and_passed_by_the_others(
    perfect_nets: Callable[..., Cascade], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the package: `>=` for P-Net, `>` for R-Net and O-Net."""
    real = Perfect.__call__

    def certain(self: Perfect, given: Any) -> Outputs:
        said = real(self, given)
        return said._replace(score=np.where(said.score > 0.3, 0.5, 0).astype(np.float32))

    monkeypatch.setattr(Perfect, "__call__", certain)

    def counts(*thresholds: float) -> list[int]:
        stages = perfect_nets(EXACT.at(thresholds)).stages(PICTURE)
        return [len(stage.scores) for stage in stages]

    assert min(counts(0.5, 0.49, 0.49)) >= 3
    assert counts(0.51, 0.4, 0.4) == [0, 0, 0]
    assert counts(0.5, 0.5, 0.4)[1:] == [0, 0]
    proposed, passed, last = counts(0.5, 0.4, 0.5)
    assert (proposed >= 3, passed >= 3, last) == (True, True, 0)


def test_the_last_net_drops_a_face_inside_a_face(
    perfect_nets: Callable[..., Cascade], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their IoU is 0.25: only the overlap of the smaller one ("Min") tells."""
    inner, outer = np.array([60.0, 60, 110, 110]), np.array([40.0, 40, 140, 140])
    monkeypatch.setitem(globals(), "FACES", np.stack([inner, outer]))
    monkeypatch.setitem(globals(), "LANDMARKS", LANDMARKS[:2])
    second, last = perfect_nets().stages(PICTURE)[1:]
    assert len(second.scores) == 2
    assert len(last.scores) == 1


@pytest.mark.parametrize("shape", [(11, 300), (300, 11), (23, 400)])
def test_a_picture_too_small_for_a_face_has_none(
    perfect_nets: Callable[..., Cascade], shape: tuple[int, int]
) -> None:
    found = perfect_nets().detect(np.zeros((*shape, 3), np.uint8))
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)
    assert found.landmarks.shape == (0, 5, 2)


def test_a_picture_without_faces_has_none(perfect_nets: Callable[..., Cascade]) -> None:
    for stage in perfect_nets(EXACT.at((0.999, 0.5, 0.5))).stages(PICTURE):
        assert stage.boxes.shape == (0, 4)
        assert stage.landmarks.shape == (0, 5, 2)


def test_cells_are_reported_as_the_package_counts_them() -> None:
    cells = CellMap(2, 0, 12, cells=1)
    rows, columns = np.array([0, 3]), np.array([0, 10])
    assert cascade.cell_boxes(cells, cells, rows, columns, 1.0).tolist() == [
        [1, 1, 12, 12],
        [21, 7, 32, 18],
    ]
    # fix((2x + 1) / 0.6) and fix((2x + 12) / 0.6): 35, 11.67 and 53.3, 30.
    assert cascade.cell_boxes(cells, cells, rows, columns, 0.6)[1].tolist() == [35, 11, 53, 30]


def test_a_box_without_a_pixel_is_dropped() -> None:
    given = np.array([[5.0, 5, 9, 9], [7, 7, 7, 7], [9, 9, 3, 3]])
    faces = Faces(given, np.arange(3, dtype=np.float32), np.zeros((3, 5, 2)))
    assert cascade._drop_empty(faces).boxes.tolist() == [[5, 5, 9, 9]]


@pytest.mark.parametrize("name", NETS)
def test_an_engine_says_what_its_net_says(name: NetName) -> None:
    trained = drawn(replace(PAPER_NETS[name], landmarks=True))
    engine, size = CompiledNet(name, trained), trained.net.size
    crops = np.random.default_rng(1).integers(0, 256, (5, size, size, 3), np.uint8)
    said = engine(crops)
    model = keras_nets.build(trained.net)
    keras_nets.set_weights(model, trained.weights, "x")
    heads = model(pixels.normalise(crops.astype(np.float32)))
    face = tf.nn.softmax(heads["cls"]).numpy()[..., 1]
    np.testing.assert_allclose(said.score, face, rtol=0, atol=2e-6)
    np.testing.assert_allclose(said.box, heads["box"].numpy(), rtol=0, atol=1e-5)
    if name == NETS[-1]:
        assert said.landmarks is not None
        np.testing.assert_allclose(said.landmarks, heads["landmarks"].numpy(), rtol=0, atol=1e-5)
    else:
        assert said.landmarks is None, "a head that serves training only is not run"


def test_the_first_engine_takes_pictures_of_any_size() -> None:
    engine = CompiledNet("pnet", drawn(replace(PAPER_NETS["pnet"], landmarks=True)))
    for height, width in ((12, 12), (40, 53), (53, 40)):
        said = engine(np.zeros((1, height, width, 3), np.uint8))
        # One valid 3x3, a pool that rounds up, two valid 3x3.
        cells = tuple(-(-(side - 2) // 2) - 4 for side in (height, width))
        assert said.score.shape == (1, *cells)
        assert said.box.shape == (1, *cells, 4)


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 0.99))
def test_over_levels_the_same_stay_as_with_nms(seed: int, factor: float) -> None:
    random = np.random.default_rng(seed)
    levels = []
    for number in range(4):
        side = 24 / factor**number
        corners = 2 * random.integers(0, 12, (random.integers(0, 8), 2)) / factor**number
        windows = np.trunc(np.concatenate([corners, corners + side], axis=1))
        levels.append(windows[boxes.nms(windows, np.ones(len(windows)), cascade.NMS_IN_LEVEL)])
    windows = np.concatenate(levels)
    scores = random.choice([0.6, 0.8, 0.9], len(windows)).astype(np.float32)
    best = cascade._best_over_levels(windows, scores, [len(level) for level in levels])
    np.testing.assert_array_equal(best, boxes.nms(windows, scores, cascade.NMS_OVER_LEVELS))


def test_levels_that_lie_far_apart_need_no_nms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "nms", None)
    windows = np.array([[10.0, 10, 30, 30], [50, 10, 70, 30], [10, 10, 38, 38]])
    scores = np.array([0.6, 0.9, 0.9], np.float32)
    assert cascade._best_over_levels(windows, scores, [2, 0, 1]).tolist() == [1, 2, 0]


def test_between_close_levels_the_better_window_stays() -> None:
    windows = np.array([[10.0, 10, 40, 40], [50, 10, 80, 40], [9, 9, 41, 41]])
    scores = np.array([0.7, 0.6, 0.9], np.float32)
    assert cascade._best_over_levels(windows, scores, [2, 1]).tolist() == [2, 1]
    assert cascade._best_over_levels(windows[:0], scores[:0], [0, 0]).tolist() == []


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(threads: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    low = Cascade({name: drawn(PAPER_NETS[name]) for name in NETS}, EXACT.at((0.4, 0.3, 0.3)))
    use_threads(1)
    expected = low.stages(picture)
    assert len(expected[0].scores) > 3 * cascade.PIXELS_AT_ONCE // 24**2
    use_threads(threads)
    for one, other in zip(low.stages(picture), expected, strict=True):
        for field, wanted in zip(one, other, strict=True):
            np.testing.assert_array_equal(field, wanted)
