"""Weights files: both ways without loss, refused when they do not fit, harmless when hostile."""

import errno
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtcnn_detector.architecture import PAPER_NETS
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, Layer, Net, NetName
from mtcnn_detector.weights import torch_files, weight_files
from mtcnn_detector.weights.weight_files import TrainedNet, Weights
from tests.weights_files import IPAZC, all_drawn, assert_same, drawn, pickled, saved, told


@pytest.mark.parametrize(("name", "place", "channels"), [("rnet", 9, 64), ("onet", 12, 128)])
def test_the_first_dense_layer_takes_columns_before_rows(
    tmp_path: Path, name: NetName, place: int, channels: int
) -> None:
    path = tmp_path / "mtcnn_weights.npy"
    nets = all_drawn()
    weight_files.write("ipazc", path, nets)
    written = np.load(path, allow_pickle=True).tolist()[name][place]
    held = nets[name].weights[f"layer{len(PAPER_NETS[name].layers)}/kernel"]
    for h, w, c in ((0, 1, 0), (2, 0, 5), (1, 2, channels - 1), (2, 2, 7)):
        ours, theirs = (h * 3 + w) * channels + c, (w * 3 + h) * channels + c
        np.testing.assert_array_equal(written[theirs], held[ours])


def test_training_heads_are_left_out_of_ipazcs_layout(tmp_path: Path) -> None:
    nets = all_drawn()
    nets["pnet"] = drawn(replace(PAPER_NETS["pnet"], landmarks=True), 5)
    weight_files.write("ipazc", tmp_path / "w.npy", nets)
    assert len(np.load(tmp_path / "w.npy", allow_pickle=True).tolist()["pnet"]) == 13


def test_a_file_of_one_net_gives_that_net(tmp_path: Path) -> None:
    arrays = [np.full(shape, 0.5, np.float32) for shape in IPAZC["rnet"]]
    assert list(weight_files.read(saved(tmp_path / "w.npy", {"rnet": arrays}))) == ["rnet"]


def test_lists_that_were_saved_as_arrays_of_objects_are_read(tmp_path: Path) -> None:
    nets = all_drawn()
    weight_files.write("ipazc", tmp_path / "w.npy", nets)
    content = np.load(tmp_path / "w.npy", allow_pickle=True).tolist()
    for name, arrays in content.items():
        content[name] = np.empty(len(arrays), object)
        content[name][:] = arrays
    np.save(tmp_path / "objects.npy", content, allow_pickle=True)
    np.save(tmp_path / "rnet.npy", content["rnet"], allow_pickle=True)
    found = weight_files.read(tmp_path / "objects.npy")
    for name in NETS:
        assert_same(found[name], nets[name])
    assert_same(weight_files.read(tmp_path / "rnet.npy")["rnet"], nets["rnet"])


def test_a_net_of_one_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", {"pnet": np.zeros(3)}, allow_pickle=True)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="this file has a single array"):
        weight_files.read(tmp_path / "w.npy")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_files_of_every_python_are_read(tmp_path: Path, protocol: int) -> None:
    arrays = [np.full(s, 0.5, np.float32) for s in IPAZC["pnet"]]
    table = np.array({"pnet": arrays}, dtype=object)
    path = pickled(tmp_path / "w.npy", pickle.dumps(table, protocol))
    held = weight_files.read(path)["pnet"].weights["layer1/kernel"]
    assert np.all(held == 0.5)


def test_a_file_with_wide_and_foreign_numbers_is_read(tmp_path: Path) -> None:
    kinds = [">f4", "<f8", "<f2"]
    arrays = [
        np.asfortranarray(np.full(shape, i % 7, kinds[i % 3]))
        for i, shape in enumerate(IPAZC["pnet"])
    ]
    arrays[0][0, 1] = 9  # as first index the column of a picture
    held = weight_files.read(saved(tmp_path / "w.npy", {"pnet": arrays}))["pnet"].weights
    values = list(held.values())
    assert [v.flat[-1] for v in values] == [i % 7 for i in range(len(arrays))]
    assert {v.dtype for v in values} == {np.dtype(np.float32)}
    assert np.all(held["layer1/kernel"][1, 0] == 9)


OWN = {
    **{f"training {name}": replace(PAPER_NETS[name], landmarks=True) for name in NETS},
    "another": Net(24, (Layer(conv=3, padding="same", stride=2), Layer(dense=4)), landmarks=False),
}


@pytest.mark.parametrize("net", OWN.values(), ids=OWN.keys())
def test_our_layout_gives_back_what_went_in(tmp_path: Path, net: Net) -> None:
    trained = drawn(net, 3)
    weight_files.write_own(tmp_path / "weights.npz", trained)
    ((name, found),) = weight_files.read(tmp_path / "weights.npz").items()
    assert PAPER_NETS[name].size == net.size
    assert_same(found, trained)


def changed(name: NetName, change: Callable[[Weights], object]) -> dict[NetName, TrainedNet]:
    """The three nets, one of them with other arrays."""
    nets = all_drawn()
    change(nets[name].weights)
    return nets


REFUSED: list[tuple[NetName, str, Any]] = [
    ("pnet", "layer1/kernel", np.zeros((3, 3, 3, 12), np.float32)),
    ("rnet", "layer6/kernel", np.zeros((577, 128), np.float32)),
    ("onet", "landmarks/bias", np.zeros(8, np.float32)),
    ("onet", "landmarks/kernel", None),
    ("rnet", "prelu3/alpha", np.full((1, 1, 64), np.nan, np.float32)),
    ("onet", "box/bias", np.array([0, np.inf, 0, 0], np.float32)),
    ("pnet", "box/bias", np.array([0, 1e39, 0, 0])),  # too large for float32
    ("pnet", "cls/bias", np.zeros(2, int)),
]


@pytest.mark.parametrize(("name", "key", "array"), REFUSED)
def test_what_the_layout_cannot_hold_is_refused_and_the_old_file_stays(
    tmp_path: Path, name: NetName, key: str, array: Any
) -> None:
    path = tmp_path / "mtcnn_weights.npy"
    path.write_bytes(b"as before")

    def change(weights: Weights) -> None:
        del weights[key]
        if array is not None:
            weights[key] = array

    with pytest.raises(UserError, match=f"{name}.*{key}"):
        weight_files.write("ipazc", path, changed(name, change))
    assert path.read_bytes() == b"as before"
    assert list(tmp_path.iterdir()) == [path]


def with_layer(name: NetName, number: int, layer: Layer) -> Net:
    layers = list(PAPER_NETS[name].layers)
    layers[number - 1] = layer
    return replace(PAPER_NETS[name], layers=tuple(layers))


UNFIT: list[tuple[NetName, Net, str]] = [
    ("pnet", with_layer("pnet", 1, Layer(conv=12)), r"pnet.layer1.*conv 12.*conv 10"),
    ("rnet", with_layer("rnet", 3, Layer(conv=48, padding="same")), r"rnet.layer3.*same"),
    ("onet", with_layer("onet", 4, Layer(pool=2, stride=2)), r"onet.layer4.*pool 2.*pool 3"),
    ("pnet", replace(PAPER_NETS["pnet"], size=16), r"a pnet of 12 pixels, not 16"),
    ("pnet", replace(PAPER_NETS["pnet"], layers=PAPER_NETS["pnet"].layers[:3]), r"4 layers.*not 3"),
]


@pytest.mark.parametrize(("name", "net", "sentence"), UNFIT)
def test_a_net_that_the_layout_cannot_hold_is_refused_by_its_layer(
    tmp_path: Path, name: NetName, net: Net, sentence: str
) -> None:
    nets = all_drawn() | {name: drawn(net, 0)}
    with pytest.raises(UserError, match=sentence):
        weight_files.write("ipazc", tmp_path / "w.npy", nets)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", ["own", "ipazc"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"as before")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        if write == "own":
            weight_files.write_own(path, drawn(PAPER_NETS["pnet"], 0))
        else:
            weight_files.write("ipazc", path, all_drawn())
    assert path.read_bytes() == b"as before"


def test_files_that_are_no_weights_are_told(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    assert "no such weights file" in told(path)
    for content in (b"", b"P5 92 112", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x09\x00ab"):
        path.write_bytes(content)
        assert "no weights file" in told(path)
    np.save(tmp_path / "plain.npy", np.zeros(5, np.float32))
    assert "one array of float32" in told(tmp_path / "plain.npy")


def test_an_archive_that_is_not_ours_is_told(tmp_path: Path) -> None:
    path = tmp_path / "w.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "none of our weights files" in told(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__net__.npy", "hello")
    assert "none of our weights files" in told(path)
    np.savez(tmp_path / "plain.npz", a=np.zeros(3))
    assert "none of our weights files" in told(tmp_path / "plain.npz")
    np.savez(tmp_path / "unknown.npz", __net__='{"size": 12, "sise": 3}')
    assert "unknown key net.sise" in told(tmp_path / "unknown.npz")


def resaved(path: Path, **change: Any) -> Path:
    """Our layout with some arrays exchanged; None takes one out."""
    weight_files.write_own(path, drawn(PAPER_NETS["pnet"], 0))
    with np.load(path) as held:
        content = dict(held) | {key.replace("__", "/"): value for key, value in change.items()}
    np.savez(path, **{key: value for key, value in content.items() if value is not None})
    return path


def test_our_layout_with_wrong_arrays_is_told(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    assert "layer1/bias should be float32 (10,); it is float32 (9,)" in told(
        resaved(path, layer1__bias=np.zeros(9, np.float32))
    )
    assert "cls/kernel" in told(resaved(path, cls__kernel=None))
    assert "not finite" in told(resaved(path, cls__bias=np.full(2, np.nan)))
    assert "box/bias" in told(resaved(path, box__bias=np.full(4, "text")))
    weight_files.write_own(path, drawn(replace(PAPER_NETS["pnet"], size=14), 0))
    assert "no net of the cascade looks at 14 pixels" in told(path)
    with zipfile.ZipFile(resaved(path, box__bias=None), "a") as archive:
        archive.writestr("box/bias", b"no array")  # numpy gives such a member as bytes
    assert "box/bias" in told(path)


def test_what_unpacks_to_more_than_any_weights_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_files, "MAX_BYTES", 1 << 25)
    path = resaved(tmp_path / "w.npz", box__bias=None)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("box/bias.npy", bytes(1 << 26))
    assert path.stat().st_size < 1 << 20
    assert "unpacks to more than 32 MiB" in told(path)


def test_a_runs_folder_stands_for_its_nets(tmp_path: Path) -> None:
    nets = all_drawn()
    for name in ("onet", "pnet"):
        weight_files.write_own(tmp_path / name / "weights.npz", nets[name])
    found = weight_files.look(tmp_path)
    assert list(found) == ["pnet", "onet"]
    for name, held in found.items():
        assert held.layout == "own"
        assert_same(held.trained, nets[name])
    assert weight_files.files(tmp_path) == [tmp_path / n / "weights.npz" for n in ("pnet", "onet")]


@pytest.mark.parametrize(
    "layout", [key for key, held in weight_files.LAYOUTS.items() if held.files]
)
def test_a_folder_of_a_layouts_files_stands_for_its_nets(tmp_path: Path, layout: str) -> None:
    nets = all_drawn()
    weight_files.write(layout, tmp_path / "set", nets)
    found = weight_files.read(tmp_path / "set")
    for name in NETS:
        assert_same(found[name], nets[name])
    for name, file in weight_files.LAYOUTS[layout].files.items():
        ((alone, trained),) = weight_files.read(tmp_path / "set" / file).items()
        assert alone == name
        assert_same(trained, nets[name])


def test_a_folder_that_stands_for_nothing_is_told(tmp_path: Path) -> None:
    assert "a folder with none of these weights files" in told(tmp_path, 500)
    weight_files.write("ipazc", tmp_path / "mtcnn_weights.npy", all_drawn())
    assert f"{tmp_path / 'mtcnn_weights.npy'} may be meant" in told(tmp_path, 500)
    weight_files.write("facenet", tmp_path, all_drawn())
    weight_files.write("ipazc-1.0", tmp_path, all_drawn())
    assert "a folder with several sets of these" in told(tmp_path, 500)
    (tmp_path / "x").mkdir()
    weight_files.write("facenet", tmp_path / "x", all_drawn())
    (tmp_path / "x" / "det2.npy").write_bytes((tmp_path / "x" / "det1.npy").read_bytes())
    assert "det2.npy holds a second pnet" in told(tmp_path / "x")
