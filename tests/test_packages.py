"""The layouts of other packages: as documented, and back and forth between any two of them."""

import io
import itertools
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtcnn_detector.architecture import PAPER_NETS
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import LAYOUTS
from tests.weights_files import IPAZC, all_drawn, assert_same, drawn

PAIRS = list(itertools.permutations(LAYOUTS, 2))


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_from_any_layout_into_any_other(tmp_path: Path, first: str, second: str) -> None:
    nets = all_drawn()
    weight_files.write(first, tmp_path / "first", nets)
    weight_files.write(second, tmp_path / "second", weight_files.read(tmp_path / "first"))
    found = weight_files.look(tmp_path / "second")
    assert list(found) == list(NETS)
    for name, held in found.items():
        assert held.layout == second
        assert_same(held.trained, nets[name])
    weight_files.write(first, tmp_path / "again", weight_files.read(tmp_path / "second"))
    for once, again in zip(
        *(weight_files.files(tmp_path / name) for name in ("first", "again")), strict=True
    ):
        assert once.read_bytes() == again.read_bytes()


@settings(max_examples=6)
@given(st.integers(0, 2**32 - 1), st.permutations(list(LAYOUTS)))
def test_through_all_layouts(tmp_path_factory: Any, seed: int, order: list[str]) -> None:
    folder, nets = tmp_path_factory.mktemp("layouts"), all_drawn(seed)
    found = nets
    for layout in order:
        weight_files.write(layout, folder / layout, found)
        found = weight_files.read(folder / layout)
    for name in NETS:
        weight_files.write_own(folder / f"{name}.npz", found[name])
        assert_same(weight_files.read(folder / f"{name}.npz")[name], nets[name])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_left_beside_the_files(tmp_path: Path, layout: str) -> None:
    weight_files.write(layout, tmp_path / "weights", all_drawn())
    held = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(held) == sorted(weight_files.files(tmp_path / "weights"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_only_training_has_is_left_out_and_other_nets_are_refused(
    tmp_path: Path, layout: str
) -> None:
    nets = all_drawn()
    with_landmarks = {**nets, "pnet": drawn(replace(PAPER_NETS["pnet"], landmarks=True), 5)}
    weight_files.write(layout, tmp_path / "weights", with_landmarks)
    assert "landmarks/bias" not in weight_files.read(tmp_path / "weights")["pnet"].weights
    other = {**nets, "rnet": drawn(replace(PAPER_NETS["rnet"], size=26), 0)}
    with pytest.raises(UserError, match="a rnet of 24 pixels, not 26"):
        weight_files.write(layout, tmp_path / "other", other)
    assert not (tmp_path / "other").exists()


def held_by(path: Path) -> Any:
    """What numpy itself finds in a file."""
    table = np.load(path, allow_pickle=True, encoding="latin1")
    assert (table.shape, table.dtype) == ((), object)
    return table.item()


def old_name(path: Path) -> None:
    """numpy's before 1.26 know no other name of the module."""
    content = path.read_bytes()
    assert b"cnumpy.core.multiarray" in content
    assert b"numpy._core" not in content


def test_ipazc_0_1_is_as_documented(tmp_path: Path) -> None:
    path, nets = tmp_path / "mtcnn_weights.npy", all_drawn()
    weight_files.write("ipazc", path, nets)
    old_name(path)
    content = held_by(path)
    assert list(content) == ["pnet", "rnet", "onet"]
    for name in NETS:
        assert type(content[name]) is list
        assert [array.shape for array in content[name]] == IPAZC[name]
        assert {(type(a), a.dtype.name) for a in content[name]} == {(np.ndarray, "float32")}
    # The package feeds its images transposed: rows of kernels are columns of the picture.
    held = nets["pnet"].weights["layer3/kernel"]
    np.testing.assert_array_equal(content["pnet"][3][2, 0], held[0, 2])
    np.testing.assert_array_equal(content["pnet"][-4], nets["pnet"].weights["cls/kernel"])
    np.testing.assert_array_equal(content["pnet"][-2], nets["pnet"].weights["box/kernel"])
    np.testing.assert_array_equal(content["onet"][-2], nets["onet"].weights["landmarks/kernel"])


def by_columns(rows: np.ndarray, channels: int) -> np.ndarray:
    """A first dense layer's rows in (h, w, c) order -> in (w, h, c) order."""
    places = [
        (h * 3 + w) * channels + c for w in range(3) for h in range(3) for c in range(channels)
    ]
    return rows[places]


def test_ipazc_1_0_is_as_documented(tmp_path: Path) -> None:
    lz4 = pytest.importorskip("lz4.frame")
    nets = all_drawn()
    weight_files.write("ipazc-1.0", tmp_path, nets)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onet.lz4", "pnet.lz4", "rnet.lz4"]
    for name in NETS:
        content = pickle.loads(lz4.decompress((tmp_path / f"{name}.lz4").read_bytes()))
        heads = 2 * (3 if name == "onet" else 2)
        front, back = IPAZC[name][:-heads], IPAZC[name][-heads:]
        assert [array.shape for array in content] == front + back[2:] + back[:2]
        held = nets[name].weights
        np.testing.assert_array_equal(content[0], held["layer1/kernel"])
        np.testing.assert_array_equal(content[-heads], held["box/kernel"])
        np.testing.assert_array_equal(content[-2], held["cls/kernel"])
    np.testing.assert_array_equal(content[-4], held["landmarks/kernel"])
    dense = by_columns(held["layer8/kernel"], 128)
    np.testing.assert_array_equal(content[12], dense)


CONVS = {"weights", "biases"}
IPAZC_0_0: dict[str, dict[str, tuple[int, ...]]] = {
    "PNet": {
        "conv1": (3, 3, 3, 10),
        "prelu1": (10,),
        "conv2": (3, 3, 10, 16),
        "prelu2": (16,),
        "conv3": (3, 3, 16, 32),
        "prelu3": (32,),
        "conv4-1": (1, 1, 32, 2),
        "conv4-2": (1, 1, 32, 4),
    },
    "RNet": {
        "conv1": (3, 3, 3, 28),
        "prelu1": (28,),
        "conv2": (3, 3, 28, 48),
        "prelu2": (48,),
        "conv3": (2, 2, 48, 64),
        "prelu3": (64,),
        "fc1": (576, 128),
        "prelu4": (128,),
        "fc2-1": (128, 2),
        "fc2-2": (128, 4),
    },
    "ONet": {
        "conv1": (3, 3, 3, 32),
        "prelu1": (32,),
        "conv2": (3, 3, 32, 64),
        "prelu2": (64,),
        "conv3": (3, 3, 64, 64),
        "prelu3": (64,),
        "conv4": (2, 2, 64, 128),
        "prelu4": (128,),
        "fc1": (1152, 256),
        "prelu5": (256,),
        "fc2-1": (256, 2),
        "fc2-2": (256, 4),
        "fc2-3": (256, 10),
    },
}


def assert_layers(content: Any, wanted: dict[str, tuple[int, ...]]) -> None:
    """A dictionary of these layers, each with its arrays by name."""
    assert list(content) == list(wanted)
    for layer, shape in wanted.items():
        shapes = {key: array.shape for key, array in content[layer].items()}
        if "relu" in layer.lower():
            assert shapes == {"alpha": shape}
        else:
            assert shapes == {"weights": shape, "biases": shape[-1:]}


def test_ipazc_0_0_is_as_documented(tmp_path: Path) -> None:
    path, nets = tmp_path / "mtcnn_weights.npy", all_drawn()
    weight_files.write("ipazc-0.0", path, nets)
    old_name(path)
    content = held_by(path)
    assert list(content) == list(IPAZC_0_0)
    for name, wanted in IPAZC_0_0.items():
        assert_layers(content[name], wanted)
    held = nets["onet"].weights
    kernel = held["layer3/kernel"].transpose(1, 0, 2, 3)
    np.testing.assert_array_equal(content["ONet"]["conv2"]["weights"], kernel)
    dense = by_columns(held["layer8/kernel"], 128)
    np.testing.assert_array_equal(content["ONet"]["fc1"]["weights"], dense)
    np.testing.assert_array_equal(content["ONet"]["fc2-3"]["biases"], held["landmarks/bias"])


FACENET_NAMES: dict[NetName, dict[str, str]] = {
    "pnet": {"prelu1": "PReLU1", "prelu2": "PReLU2", "prelu3": "PReLU3"},
    "rnet": {"fc1": "conv4", "fc2-1": "conv5-1", "fc2-2": "conv5-2"},
    "onet": {"fc1": "conv5", "fc2-1": "conv6-1", "fc2-2": "conv6-2", "fc2-3": "conv6-3"},
}


def test_facenets_is_as_documented(tmp_path: Path) -> None:
    nets = all_drawn()
    weight_files.write("facenet", tmp_path, nets)
    weight_files.write("ipazc-0.0", tmp_path / "mtcnn_weights.npy", nets)
    like = held_by(tmp_path / "mtcnn_weights.npy")
    for number, (name, inner) in enumerate(zip(NETS, IPAZC_0_0, strict=True), 1):
        old_name(tmp_path / f"det{number}.npy")
        content = held_by(tmp_path / f"det{number}.npy")
        names = FACENET_NAMES[name]
        wanted = {names.get(layer, layer): shape for layer, shape in IPAZC_0_0[inner].items()}
        assert_layers(content, wanted)
        for layer, arrays in like[inner].items():  # the same but for the names
            for key, array in arrays.items():
                np.testing.assert_array_equal(content[names.get(layer, layer)][key], array)


def test_facenet_pytorchs_is_as_documented(tmp_path: Path) -> None:
    """Its members; torch itself reads it in `test_facenet_pytorch`."""
    nets = all_drawn()
    weight_files.write("facenet-pytorch", tmp_path, nets)
    with zipfile.ZipFile(tmp_path / "onet.pt") as archive:
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        program = archive.read("weights/data.pkl")
        first = np.frombuffer(archive.read("weights/data/0"), "<f4")
    wanted = nets["onet"].weights["layer1/kernel"].transpose(3, 2, 0, 1)
    np.testing.assert_array_equal(first.reshape(32, 3, 3, 3), wanted)
    told = io.BytesIO(program).getvalue()
    for name in ("conv1.weight", "prelu5.weight", "dense5.bias", "dense6_3.weight"):
        assert name.encode() in told
