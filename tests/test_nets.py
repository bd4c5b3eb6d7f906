"""The nets are the paper's, their cells see what they are said to see, and weights fit by name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from configs import recipe
from models import folding, keras_nets
from mtcnn_detector import architecture, pixels, tiling
from mtcnn_detector.architecture import PAPER_NETS, CellMap
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, Layer, Net, NetName
from mtcnn_detector.tiling import Level
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.net_weights import Weights

RECIPE = Path(__file__).parents[1] / "configs" / "mtcnn.yaml"


@pytest.mark.parametrize(("name", "count"), [("pnet", 6_632), ("rnet", 100_178), ("onet", 389_040)])
def test_the_papers_nets_have_the_papers_parameters(name: NetName, count: int) -> None:
    assert keras_nets.build(PAPER_NETS[name]).count_params() == count


def test_the_recipes_nets_are_the_papers() -> None:
    settings = recipe.load(RECIPE)
    for name in NETS:
        net = settings.for_net(name).net
        assert replace(net, landmarks=name == NETS[-1]) == PAPER_NETS[name]
        weight_files.refuse_unless_ipazc(name, net)  # a landmark head more is no hindrance


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("landmarks", [True, False])
def test_shapes_are_those_of_the_built_net_in_its_order(name: NetName, landmarks: bool) -> None:
    net = replace(PAPER_NETS[name], landmarks=landmarks)
    held = keras_nets.get_weights(keras_nets.build(net))
    assert [(key, array.shape) for key, array in held.items()] == list(architecture.shapes(net))
    assert all(array.dtype == np.float32 for array in held.values())


def test_shapes_of_a_net_that_is_not_the_papers() -> None:
    layers = (
        Layer(conv=6, kernel=5, padding="same", norm="batch"),
        Layer(pool=3, stride=2, padding="valid"),
        Layer(separable=8, norm="batch", relu="instead", padding="same"),
        Layer(conv=7, kernel=2, stride=2, padding="same", relu="before"),
        Layer(dense=9, norm="batch"),
        Layer(dense=5, relu="instead"),
    )
    net = Net(26, layers)
    held = keras_nets.get_weights(keras_nets.build(net))
    assert [(key, array.shape) for key, array in held.items()] == list(architecture.shapes(net))
    assert held["layer5/kernel"].shape == (6 * 6 * 7, 9)  # 26, 26, 12, 12, 6 pixels


def test_outputs_of_crops_and_of_pictures() -> None:
    heads = keras_nets.build(replace(PAPER_NETS["pnet"], landmarks=True))
    crop, picture = np.zeros((3, 12, 12, 3)), np.zeros((1, 40, 53, 3))
    widths = {"cls": 2, "box": 4, "landmarks": 10}
    assert {k: tuple(v.shape) for k, v in heads(crop).items()} == {
        name: (3, 1, 1, width) for name, width in widths.items()
    }
    # 40 -> 38 -> 19 -> 17 -> 15; 53 -> 51 -> 26 -> 24 -> 22.
    assert {k: tuple(v.shape) for k, v in heads(picture).items()} == {
        name: (1, 15, 22, width) for name, width in widths.items()
    }
    heads = keras_nets.build(PAPER_NETS["rnet"])
    outputs = {k: tuple(v.shape) for k, v in heads(np.zeros((3, 24, 24, 3))).items()}
    assert outputs == {"cls": (3, 2), "box": (3, 4)}


def test_only_the_first_net_runs_over_pictures() -> None:
    assert [PAPER_NETS[name].convolutional for name in NETS] == [True, False, False]


@pytest.mark.parametrize("side", [12, 57, 230])
def test_the_first_nets_cells(side: int) -> None:
    cells = architecture.cell_map(PAPER_NETS["pnet"], side)
    assert cells == CellMap(stride=2, offset=0, size=12, cells=-(-(side - 2) // 2) - 4)


def convolutional(*layers: Layer) -> Net:
    """A net of these layers, of the size that its cells see."""
    size = 1
    for layer in reversed(layers):
        size = (size - 1) * layer.stride + layer.reach
    return Net(size, layers, landmarks=False)


MAPPED = {
    "pnet": PAPER_NETS["pnet"],
    "all padded": convolutional(
        *(replace(layer, padding="same") for layer in PAPER_NETS["pnet"].layers)
    ),
    "padded conv": convolutional(
        Layer(conv=6, padding="same"), Layer(pool=2, stride=2, padding="same"), Layer(conv=8)
    ),
    "padded after a stride": convolutional(
        Layer(conv=6), Layer(pool=2, stride=2, padding="same"), Layer(conv=8, padding="same")
    ),
    "padded on one side": convolutional(
        Layer(conv=6, kernel=4, padding="same"), Layer(conv=8, kernel=5)
    ),
    "wide pool": convolutional(Layer(conv=6), Layer(pool=3, stride=2), Layer(conv=8, stride=2)),
    "wide pool, padded": convolutional(
        Layer(conv=6, padding="same"),
        Layer(pool=3, stride=2, padding="same"),
        Layer(conv=8, stride=2, padding="same"),
    ),
    "as long as its stride": convolutional(
        Layer(conv=6, stride=3, padding="same"), Layer(conv=6, padding="same")
    ),
    "separable, two pools": convolutional(
        Layer(conv=6),
        Layer(pool=2, stride=2, padding="same"),
        Layer(separable=8, norm="batch"),
        Layer(pool=3, stride=2, padding="same"),
        Layer(separable=8, relu="instead"),
        Layer(conv=8, kernel=1),
    ),
}
mapped = pytest.mark.parametrize("net", MAPPED.values(), ids=MAPPED.keys())


def rows_of(image: pixels.Image) -> Callable[[int, int], pixels.Image]:
    """Reads rows of an image, as a level of the pyramid does."""
    return lambda first, last: image[first:last]


def trained_at_random(net: Net, seed: int = 1) -> tuple[keras.Model, Weights]:
    """A model of the net whose norms and slopes are not as they start."""
    model, rng = keras_nets.build(net, seed), np.random.default_rng(seed)
    weights = keras_nets.get_weights(model)
    for key, array in weights.items():
        if not key.endswith("kernel"):
            weights[key] = rng.uniform(0.2, 0.6, array.shape).astype(np.float32)
    keras_nets.set_weights(model, weights, "x")
    return model, weights


@mapped
@pytest.mark.parametrize(("height", "width"), [(34, 46), (35, 47), (45, 36)])
def test_cells_change_with_the_pixels_that_they_see(net: Net, height: int, width: int) -> None:
    model, _ = trained_at_random(net)
    down, across = (architecture.cell_map(net, side) for side in (height, width))
    blank = np.random.default_rng(0).normal(0, 0.1, (1, height, width, 3)).astype(np.float32)
    before = model(blank)["box"].numpy()[0]
    places = [(17, 20), (18, 21), (13, 30), (0, 0), (height - 1, width - 1)]
    for row, column in places:
        changed = np.zeros(before.shape[:2], bool)
        for push in (-400, 400):  # one of them gets through the pools
            image = blank.copy()
            image[0, row, column] += push
            changed |= np.any(np.abs(model(image)["box"].numpy()[0] - before) > 1e-6, axis=-1)
        sees = []
        for cells, count, at in zip((down, across), changed.shape, (row, column), strict=True):
            first = cells.offset + cells.stride * np.arange(count)
            sees.append((first <= at) & (at < first + cells.size))
        np.testing.assert_array_equal(changed, np.outer(*sees), err_msg=f"{row}, {column}")


@mapped
@pytest.mark.parametrize(("height", "width"), [(34, 46), (35, 47)])
def test_a_crop_is_judged_as_the_cell_that_sees_it(net: Net, height: int, width: int) -> None:
    model, weights = trained_at_random(net)
    on_crops = keras_nets.build(architecture.for_crops(net))
    keras_nets.set_weights(on_crops, weights, "x")
    image = np.random.default_rng(0).normal(0, 1, (height, width, 3)).astype(np.float32)
    maps = {head: value.numpy()[0] for head, value in model(image[None]).items()}
    down, across = (architecture.cell_map(net, side) for side in (height, width))
    crops, cells = [], []
    for row, column in np.ndindex(*maps["cls"].shape[:2]):
        y, x = down.offset + down.stride * row, across.offset + across.stride * column
        if min(x, y) >= 0 and y + net.size <= height and x + net.size <= width:
            crops.append(image[y : y + net.size, x : x + net.size])
            cells.append((row, column))
    assert len(cells) > 20
    said = on_crops(np.stack(crops))
    for head, value in maps.items():
        wanted = np.stack([value[cell] for cell in cells])
        np.testing.assert_allclose(said[head][:, 0, 0], wanted, atol=1e-4)


@mapped
def test_the_mosaic_has_the_cells_of_all_levels(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "TILE_HEIGHT", 50)
    monkeypatch.setattr(tiling, "TILE_WIDTH", 60)
    model, weights = trained_at_random(net)
    unpadded = keras_nets.build(architecture.for_crops(net))
    keras_nets.set_weights(unpadded, weights, "x")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*s, 3), np.uint8) for s in ((83, 110), (41, 77), (22, 23))]
    levels = []
    for image in images:
        height, width = image.shape[:2]
        across, down = (architecture.cell_map(net, side) for side in (width, height))
        levels.append(Level(1.0, rows_of(image), across, down, width, height))
    whole = [model(pixels.normalise(i[None].astype(np.float32)))["box"].numpy()[0] for i in images]
    maps, times = [np.zeros_like(w) for w in whole], [np.zeros(w.shape[:2]) for w in whole]
    laid = tiling.TiledCanvas(levels)
    tiles = [tile.copy() for tile in laid.tiles()]  # as they are when their turn comes
    for number, tile in enumerate(tiles):
        said = unpadded(pixels.normalise(tile.astype(np.float32)))["box"].numpy()[0]
        places = np.arange(said.shape[0] * said.shape[1])
        inside, cells = laid.cells(np.full(len(places), number), places)
        for level, down, across, value in zip(*cells, said.reshape(-1, 4)[inside], strict=True):
            maps[level][down, across] = value
            times[level][down, across] += 1
    assert len(tiles) > 3
    for level, image, got, wanted, time in zip(levels, images, maps, whole, times, strict=True):
        assert np.all(time == 1)
        places = np.indices(time.shape)
        inner = np.ones(time.shape, bool)
        for at, axis, side in zip(places, (level.down, level.across), image.shape, strict=False):
            first = axis.offset + axis.stride * at
            inner &= (first >= 0) & (first + axis.size <= side)
        assert inner.any()
        np.testing.assert_allclose(got[inner], wanted[inner], atol=1e-4)
        # Outside, the border again and again.
        reach = net.size
        wide = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), "edge")
        rows, columns = (
            slice(reach + cells.offset, reach + cells.offset + cells.seen)
            for cells in (level.down, level.across)
        )
        edged = pixels.normalise(wide[None, rows, columns].astype(np.float32))
        np.testing.assert_allclose(got, unpadded(edged)["box"].numpy()[0], atol=1e-4)


FOLDED = (
    Layer(conv=6, kernel=5, padding="same", norm="batch", relu="before"),
    Layer(pool=3, stride=2),
    Layer(separable=8, norm="batch"),
    Layer(conv=7, kernel=2, stride=2, relu="instead"),
    Layer(dense=9, norm="batch", relu="instead"),
    Layer(dense=5, relu="before"),
)


@pytest.mark.parametrize(
    "net", [Net(26, FOLDED), MAPPED["separable, two pools"]], ids=["dense", "convolutional"]
)
def test_a_folded_net_says_the_same(net: Net) -> None:
    model, weights = trained_at_random(net)
    plain = architecture.folded(net)
    assert not any(layer.norm or layer.relu for layer in plain.layers)
    arrays = folding.fold(net, weights)
    assert [(key, array.shape) for key, array in arrays.items()] == list(architecture.shapes(plain))
    without = keras_nets.build(plain)
    keras_nets.set_weights(without, arrays, "x")
    crops = np.random.default_rng(2).normal(0, 1, (4, net.size, net.size, 3)).astype(np.float32)
    for head, value in model(crops).items():
        spread = np.ptp(value)
        np.testing.assert_allclose(without(crops)[head], value, atol=1e-4 * spread)
        assert spread > 0.01


def test_folding_leaves_a_plain_net_as_it_is() -> None:
    net = PAPER_NETS["onet"]
    weights = keras_nets.get_weights(keras_nets.build(net))
    assert architecture.folded(net) == net
    again = folding.fold(net, weights)
    assert all(again[key] is array for key, array in weights.items())


def test_a_norm_changes_nothing_at_first() -> None:
    plain = PAPER_NETS["rnet"]
    net = replace(
        plain, layers=tuple(x if x.pool else replace(x, norm="batch") for x in plain.layers)
    )
    given = keras_nets.get_weights(keras_nets.build(plain, seed=3))
    model = keras_nets.build(net)
    fresh = keras_nets.load_compatible_weights(model, given)
    assert {key.partition("/")[0] for key in fresh} == {"norm1", "norm3", "norm5", "norm6"}
    arrays = folding.fold(net, keras_nets.get_weights(model))
    for key, array in given.items():
        np.testing.assert_allclose(arrays[key], array, rtol=1e-6)


def test_the_same_seed_gives_the_same_weights() -> None:
    first, again, other = (
        keras_nets.get_weights(keras_nets.build(PAPER_NETS["rnet"], seed)) for seed in (5, 5, 6)
    )
    for key, array in first.items():
        np.testing.assert_array_equal(array, again[key])
        if key.endswith("kernel"):
            assert np.abs(array - other[key]).max() > 0, key


def test_layers_alike_do_not_start_alike() -> None:
    net = convolutional(*[Layer(conv=3)] * 4)
    held = keras_nets.get_weights(keras_nets.build(net))
    assert np.abs(held["layer1/kernel"] - held["layer2/kernel"]).max() > 0.01
    assert np.abs(held["layer2/kernel"] - held["layer3/kernel"]).max() > 0.01


def test_weights_come_back_as_they_went_in() -> None:
    net = PAPER_NETS["pnet"]
    model, given = (
        keras_nets.build(net, seed=1),
        keras_nets.get_weights(keras_nets.build(net, seed=2)),
    )
    keras_nets.set_weights(model, given, "x")
    held = keras_nets.get_weights(model)
    assert list(held) == list(given)
    for key, array in given.items():
        np.testing.assert_array_equal(held[key], array)


def test_a_head_that_only_the_weights_have_is_left_out() -> None:
    net = PAPER_NETS["pnet"]
    given = keras_nets.get_weights(keras_nets.build(replace(net, landmarks=True)))
    keras_nets.set_weights(keras_nets.build(net), given, "x")


@pytest.mark.parametrize(
    ("model", "given", "array"),
    [
        ("pnet", "rnet", "layer1/kernel"),
        ("rnet", "onet", "layer1/kernel"),
        ("onet", "pnet", "layer1/kernel"),
    ],
)
def test_another_nets_weights_are_refused(model: NetName, given: NetName, array: str) -> None:
    weights = keras_nets.get_weights(keras_nets.build(PAPER_NETS[given]))
    with pytest.raises(UserError, match=f"^run/x is of another net: its array {array} has the"):
        keras_nets.set_weights(keras_nets.build(PAPER_NETS[model]), weights, "run/x")


def test_weights_without_a_head_are_refused_by_the_heads_name() -> None:
    net = PAPER_NETS["pnet"]
    weights = keras_nets.get_weights(keras_nets.build(net))
    with pytest.raises(UserError, match="its array landmarks/kernel is missing"):
        keras_nets.set_weights(keras_nets.build(replace(net, landmarks=True)), weights, "run/x")
