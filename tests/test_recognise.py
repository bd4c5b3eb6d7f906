"""Whose layout a file has is told by looking; what is nearly one is told by what is missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import serialization, weight_files
from mtcnn_detector.weights.weight_files import LAYOUTS
from tests.weights_files import ARRAYS, all_drawn, assert_same, saved, told

NETS_DRAWN = all_drawn(3)


def part(layout: str, name: NetName) -> Any:
    """A net as a layout has it."""
    return LAYOUTS[layout].part(name, NETS_DRAWN[name])


def assert_found(path: Path, names: tuple[NetName, ...], layout: str) -> None:
    found = weight_files.look(path)
    assert list(found) == list(names)
    for name in names:
        assert found[name].layout == layout
        assert_same(found[name].trained, NETS_DRAWN[name])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("keys", [("pnet", "rnet", "onet"), ("PNet", "RNet", "ONet")])
def test_any_layout_under_the_nets_names(
    tmp_path: Path, layout: str, keys: tuple[str, ...]
) -> None:
    content = {key: part(layout, name) for key, name in zip(keys, NETS, strict=True)}
    assert_found(saved(tmp_path / "w.npy", content), NETS, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NETS)
def test_one_net_alone_is_known_by_its_arrays(tmp_path: Path, layout: str, name: NetName) -> None:
    path = tmp_path / "w.npy"
    path.write_bytes(serialization.dump_npy(part(layout, name)))
    assert_found(path, (name,), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_net_inside_a_net_of_its_name(tmp_path: Path, layout: str) -> None:
    """What `set_weights` answers with 'a weight list of length 1'."""
    content = {"pnet": {"pnet": part(layout, "pnet")}, "onet": part(layout, "onet")}
    assert_found(saved(tmp_path / "w.npy", content), ("pnet", "onet"), layout)


def test_a_module_of_three_nets(tmp_path: Path) -> None:
    content = {
        f"{name}.{key}": array
        for name in NETS
        for key, array in part("facenet-pytorch", name).items()
    }
    for wrapped in (content, {"state_dict": content}):
        assert_found(saved(tmp_path / "w.npy", wrapped), NETS, "facenet-pytorch")


KERAS = {"kernel": "kernel:0", "bias": "bias:0", "alpha": "alpha:0"}


def as_keras(name: NetName, alphabetical: bool) -> dict[str, dict[str, Any]]:
    """A net's layers as Keras names them, arrays by name, as converters out of HDF5 write them."""
    keys = list(NETS_DRAWN[name].weights)
    layers: dict[str, dict[str, Any]] = {}
    for key, array in zip(keys, part("ipazc", name), strict=True):
        layer, _, kind = key.partition("/")
        layers.setdefault(layer.replace("layer", "conv2d_"), {})[KERAS[kind]] = array
    if not alphabetical:
        return layers
    return {key: dict(sorted(layers[key].items())) for key in sorted(layers)}


@pytest.mark.parametrize("alphabetical", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_layers_of_any_name_are_taken_by_kind_and_shape(
    tmp_path: Path, alphabetical: bool, nested: bool
) -> None:
    content: dict[str, Any] = {name: as_keras(name, alphabetical) for name in NETS}
    if nested:
        content = {name: {name: {name: layers}} for name, layers in content.items()}
    assert_found(saved(tmp_path / "w.npy", content), NETS, "ipazc")


def test_layers_that_lack_an_array_are_told(tmp_path: Path) -> None:
    layers = as_keras("pnet", alphabetical=False)
    del layers["conv2d_4"]["bias:0"]
    sentence = told(saved(tmp_path / "w.npy", {"pnet": {"pnet": layers}}))
    assert "it resembles ipazc's (mtcnn 0.1.x) layout, which has a list of 13 arrays" in sentence
    assert "a dict of 8 (conv2d_1, prelu1, conv2d_3, ...) without layer4/bias" in sentence
    layers["conv2d_4"]["bias:0"] = np.zeros(31, np.float32)
    assert "without layer4/bias" in told(saved(tmp_path / "w.npy", {"pnet": layers}))
    layers["conv2d_4"]["bias:0"] = np.zeros(32, np.float32)
    layers["more"] = {"kernel:0": np.zeros((3, 3, 32, 32), np.float32)}
    assert "with more/kernel:0 besides" in told(saved(tmp_path / "w.npy", {"pnet": layers}))


DAMAGED: list[tuple[Any, str]] = [
    ([ARRAYS], "a dictionary of pnet, rnet and onet, this file has a single array"),
    ({"weights": 3}, "a dictionary of pnet, rnet and onet"),
    ({"PNet": {}}, "has a list of 13 arrays as pnet; this file has a dict of 0"),
    ({"pnet": {"a": {"a": ARRAYS}}}, "a list of 13 arrays as pnet; this file has a dict of 1"),
    ({"pnet": None}, "a list of 13 arrays as pnet; this file has a NoneType"),
    ({"pnet": ARRAYS[:-1]}, r"pnet's array 12 \(box/bias\), float32 \(4,\), is missing"),
    ({"pnet": [*ARRAYS, ARRAYS[-1]]}, "has an array more than that: 13"),
    (
        {"pnet": [*ARRAYS[:3], ARRAYS[0], *ARRAYS[4:]]},
        r"array 3 \(layer3/kernel\) should be float32 \(3, 3, 10, 16\); it is float32 \(3, ",
    ),
    ({"pnet": [*ARRAYS[:1], [0.0] * 10, *ARRAYS[2:]]}, r"\(layer1/bias\).*it is list"),
    ({"pnet": [*ARRAYS[:-1], np.zeros(4, int)]}, r"\(box/bias\).*it is int"),
    ({"pnet": [*ARRAYS[:-1], np.full(4, np.nan)]}, r"\(box/bias\).*not finite"),
    ({"pnet": [*ARRAYS[:-1], np.full(4, None)]}, r"\(box/bias\).*it is object"),
    ({"pnet": ARRAYS, "rnet": []}, "has a list of 16 arrays as rnet; this file has a list of 0"),
]


@pytest.mark.parametrize(("content", "sentence"), DAMAGED)
def test_files_of_another_structure_are_told(tmp_path: Path, content: Any, sentence: str) -> None:
    path = saved(tmp_path / "w.npy", content)
    with pytest.raises(UserError, match=sentence):
        weight_files.read(path)
    told(path)


def spoilt(layout: str, name: NetName, change: Any) -> Any:
    content = part(layout, name)
    change(content)
    return content


NEARLY: list[tuple[Any, str]] = [
    (
        {"PNet": spoilt("ipazc-0.0", "pnet", lambda net: net.pop("prelu2"))},
        "ipazc's (mtcnn 0.0.x) layout as pnet, but pnet's array prelu2/alpha (prelu3/alpha), "
        "float32 (16,), is missing.",
    ),
    (
        spoilt("facenet", "rnet", lambda net: net["conv4"].pop("biases")),
        "FaceNet's (src/align) layout as rnet, but rnet's array conv4/biases",
    ),
    (
        spoilt("facenet-pytorch", "onet", lambda net: net.pop("dense6_3.weight")),
        "facenet-pytorch's layout as onet, but onet's array dense6_3.weight (landmarks/kernel), "
        "float32 (10, 256), is missing.",
    ),
    (
        spoilt("ipazc-1.0", "onet", lambda net: net.pop()),
        "ipazc's (mtcnn 1.0.0) layout as onet, but onet's array 20 (cls/bias)",
    ),
    (
        spoilt("facenet-pytorch", "pnet", lambda net: net.update({"bn1.weight": np.zeros(10)})),
        "facenet-pytorch's layout as pnet, but has an array more than that: bn1.weight.",
    ),
]


@pytest.mark.parametrize(("content", "sentence"), NEARLY)
def test_what_is_nearly_a_layout_is_told_by_what_is_missing(
    tmp_path: Path, content: Any, sentence: str
) -> None:
    path = tmp_path / "w.npy"
    path.write_bytes(serialization.dump_npy(content))
    assert sentence in told(path)


def test_what_is_beside_the_nets_is_not_looked_at(tmp_path: Path) -> None:
    content = {"pnet": part("ipazc", "pnet"), "note": "by hand", "step": 3}
    assert_found(saved(tmp_path / "w.npy", content), ("pnet",), "ipazc")
