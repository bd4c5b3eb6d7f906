"""The nets are the paper's, their cells see what they are said to see, and weights fit by name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs import recipe
from configs.errors import UserError
from configs.settings import NETS, Layer, Net, NetName
from models import architecture, layouts, nets
from models.architecture import PAPER_NETS, CellMap

RECIPE = Path(__file__).parents[1] / "configs" / "mtcnn.yaml"


@pytest.mark.parametrize(("name", "count"), [("pnet", 6_632), ("rnet", 100_178), ("onet", 389_040)])
def test_the_papers_nets_have_the_papers_parameters(name: NetName, count: int) -> None:
    assert nets.build(PAPER_NETS[name]).count_params() == count


def test_the_recipes_nets_are_the_papers() -> None:
    settings = recipe.load(RECIPE)
    for name in NETS:
        net = settings.stage(name).net
        assert replace(net, points=name == NETS[-1]) == PAPER_NETS[name]
        layouts.refuse_unless_ipazc(name, net)  # a landmark head more is no hindrance


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("points", [True, False])
def test_shapes_are_those_of_the_built_net_in_its_order(name: NetName, points: bool) -> None:
    net = replace(PAPER_NETS[name], points=points)
    held = nets.get_weights(nets.build(net))
    assert [(key, array.shape) for key, array in held.items()] == list(architecture.shapes(net))
    assert all(array.dtype == np.float32 for array in held.values())


def test_shapes_of_a_net_that_is_not_the_papers() -> None:
    layers = (
        Layer(conv=6, kernel=5, padding="same"),
        Layer(pool=3, stride=2, padding="valid"),
        Layer(conv=7, kernel=2, stride=2, padding="same"),
        Layer(dense=9),
        Layer(dense=5),
    )
    net = Net(26, layers)
    held = nets.get_weights(nets.build(net))
    assert [(key, array.shape) for key, array in held.items()] == list(architecture.shapes(net))
    assert held["layer4/kernel"].shape == (6 * 6 * 7, 9)  # 26, 26, 12, 6 pixels


def test_outputs_of_crops_and_of_pictures() -> None:
    heads = nets.build(replace(PAPER_NETS["pnet"], points=True))
    crop, picture = np.zeros((3, 12, 12, 3)), np.zeros((1, 40, 53, 3))
    widths = {"face": 2, "box": 4, "points": 10}
    assert {k: tuple(v.shape) for k, v in heads(crop).items()} == {
        name: (3, 1, 1, width) for name, width in widths.items()
    }
    # 40 -> 38 -> 19 -> 17 -> 15; 53 -> 51 -> 26 -> 24 -> 22.
    assert {k: tuple(v.shape) for k, v in heads(picture).items()} == {
        name: (1, 15, 22, width) for name, width in widths.items()
    }
    heads = nets.build(PAPER_NETS["rnet"])
    outputs = {k: tuple(v.shape) for k, v in heads(np.zeros((3, 24, 24, 3))).items()}
    assert outputs == {"face": (3, 2), "box": (3, 4)}


def test_only_the_first_net_runs_over_pictures() -> None:
    assert [architecture.is_convolutional(PAPER_NETS[name]) for name in NETS] == [
        True,
        False,
        False,
    ]


def test_the_first_nets_cells() -> None:
    assert architecture.cell_map(PAPER_NETS["pnet"]) == CellMap(stride=2, offset=0, size=12)


def test_cells_of_a_net_that_leaves_pixels_out() -> None:
    net = Net(12, (Layer(conv=4, kernel=1, stride=2, padding="same"),), points=False)
    assert architecture.cell_map(net) == CellMap(stride=2, offset=0, size=1)


MAPPED = {
    "pnet": PAPER_NETS["pnet"].layers,
    "padded conv": (
        Layer(conv=6, padding="same"),
        Layer(pool=2, stride=2, padding="same"),
        Layer(conv=8, kernel=3),
    ),
    "padded after a stride": (
        Layer(conv=6),
        Layer(pool=2, stride=2, padding="same"),
        Layer(conv=8, padding="same"),
    ),
    "padded on one side": (Layer(conv=6, kernel=2, padding="same"), Layer(conv=8, kernel=5)),
    "wide pool": (Layer(conv=6), Layer(pool=3, stride=2, padding="valid"), Layer(conv=8, stride=2)),
}


@pytest.mark.parametrize("layers", MAPPED.values(), ids=MAPPED.keys())
def test_cells_change_with_the_pixels_that_they_see(layers: tuple[Layer, ...]) -> None:
    net = Net(12, layers, points=False)
    model, cells = nets.build(net, seed=1), architecture.cell_map(net)
    height, width = 34, 46
    blank = np.random.default_rng(0).normal(0, 0.1, (1, height, width, 3)).astype(np.float32)
    before = model(blank)["box"].numpy()[0]
    places = [(17, 20), (18, 21), (13, 30), (0, 0), (height - 1, width - 1)]
    for row, column in places:
        changed = np.zeros(before.shape[:2], bool)
        for push in (-40, 40):  # one of them gets through the pools
            image = blank.copy()
            image[0, row, column] += push
            changed |= np.any(np.abs(model(image)["box"].numpy()[0] - before) > 1e-6, axis=-1)
        starts = [cells.offset + cells.stride * np.arange(n) for n in changed.shape]
        sees = [
            (first <= at) & (at < first + cells.size)
            for first, at in zip(starts, (row, column), strict=True)
        ]
        np.testing.assert_array_equal(changed, np.outer(*sees), err_msg=f"{row}, {column}")


def test_the_same_seed_gives_the_same_weights() -> None:
    first, again, other = (
        nets.get_weights(nets.build(PAPER_NETS["rnet"], seed)) for seed in (5, 5, 6)
    )
    for key, array in first.items():
        np.testing.assert_array_equal(array, again[key])
        if key.endswith("kernel"):
            assert np.abs(array - other[key]).max() > 0, key


def test_layers_alike_do_not_start_alike() -> None:
    net = Net(12, (Layer(conv=3), Layer(conv=3), Layer(conv=3)), points=False)
    held = nets.get_weights(nets.build(net))
    assert np.abs(held["layer1/kernel"] - held["layer2/kernel"]).max() > 0.01
    assert np.abs(held["layer2/kernel"] - held["layer3/kernel"]).max() > 0.01


def test_weights_come_back_as_they_went_in() -> None:
    net = PAPER_NETS["pnet"]
    model, given = nets.build(net, seed=1), nets.get_weights(nets.build(net, seed=2))
    nets.set_weights(model, given, "x")
    held = nets.get_weights(model)
    assert list(held) == list(given)
    for key, array in given.items():
        np.testing.assert_array_equal(held[key], array)


def test_a_head_that_only_the_weights_have_is_left_out() -> None:
    net = PAPER_NETS["pnet"]
    given = nets.get_weights(nets.build(replace(net, points=True)))
    nets.set_weights(nets.build(net), given, "x")


@pytest.mark.parametrize(
    ("model", "given", "array"),
    [
        ("pnet", "rnet", "layer1/kernel"),
        ("rnet", "onet", "layer1/kernel"),
        ("onet", "pnet", "layer1/kernel"),
    ],
)
def test_another_nets_weights_are_refused(model: NetName, given: NetName, array: str) -> None:
    weights = nets.get_weights(nets.build(PAPER_NETS[given]))
    with pytest.raises(UserError, match=f"^run/x is of another net: its array {array} has the"):
        nets.set_weights(nets.build(PAPER_NETS[model]), weights, "run/x")


def test_weights_without_a_head_are_refused_by_the_heads_name() -> None:
    net = PAPER_NETS["pnet"]
    weights = nets.get_weights(nets.build(net))
    with pytest.raises(UserError, match="its array points/kernel is missing"):
        nets.set_weights(nets.build(replace(net, points=True)), weights, "run/x")
