"""Torch files that lie about their tensors are refused; so are models of other kinds of file."""

import io
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtcnn_detector.weights import serialization, torch_files, weight_files
from tests.torch_files import old_torch, torch_file
from tests.weights_files import told


def torch_with(path: Path, change: Callable[[bytes], bytes], packed: bool = False) -> Path:
    """A P-Net of torch with another program."""
    with zipfile.ZipFile(io.BytesIO(torch_file())) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    held["weights/data.pkl"] = change(held["weights/data.pkl"])
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in held.items():
            archive.writestr(name, content)
    return path


FIRST = pickle.dumps((10, 3, 3, 3), 2)[2:-1], pickle.dumps((27, 9, 3, 1), 2)[2:-1]


LIES = {
    "more numbers than the storage": (FIRST[0], pickle.dumps((10, 3, 3, 4), 2)[2:-1], "not fit"),
    "numbers beyond the storage": (FIRST[1], pickle.dumps((28, 9, 3, 1), 2)[2:-1], "not fit"),
    "numbers before the storage": (FIRST[1], pickle.dumps((-27, 9, 3, 1), 2)[2:-1], "cannot be"),
    "many out of one": (FIRST[0], pickle.dumps((1 << 40, 3, 3, 3), 2)[2:-1], "does not fit"),
    "lengths that are none": (FIRST[0], pickle.dumps((2.5, 3, 3, 3), 2)[2:-1], "cannot be"),
    "fewer lengths than steps": (FIRST[0], pickle.dumps((270,), 2)[2:-1], "cannot be"),
    "a longer storage than there is": (
        pickle.dumps(270, 2)[2:-1] + b"tQ",
        pickle.dumps(1 << 40, 2)[2:-1] + b"tQ",
        "does not fit",
    ),
    "values of an unknown kind": (b"ctorch\nFloatStorage", b"ctorch\nQInt8Storage", "QInt8Storage"),
    "another device's memory": (b"ctorch\nFloatStorage\n", b"X\x01\x00\x00\x00f", "unknown kind"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_tensor_that_lies_is_refused(tmp_path: Path, lie: str) -> None:
    said, lied, reason = LIES[lie]

    def change(program: bytes) -> bytes:
        assert said in program
        return program.replace(said, lied, 1)

    assert weight_files.read(torch_with(tmp_path / "w.pt", lambda program: program))
    sentence = told(torch_with(tmp_path / "w.pt", change))
    assert "is refused" in sentence
    assert reason in sentence


def test_a_torch_file_does_not_tell_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"conv1.weight": np.ones((10, 3, 3, 3), np.float32)}
    once = torch_files.dump_torch(weights)
    later = time.time() + 86_400
    monkeypatch.setattr(time, "time", lambda: later)
    assert torch_files.dump_torch(weights) == once


def test_a_packed_torch_file_is_refused(tmp_path: Path) -> None:
    path = torch_with(tmp_path / "w.pt", lambda program: program, packed=True)
    assert "parts of it are packed" in told(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            archive.writestr(f"weights/{number}", bytes(1 << 26))
    assert "unpacks to more than 256 MiB" in told(path)


def test_numbers_of_the_other_byte_order_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(torch_file().replace(b"little", b"bigxxx"))
    told(path)  # its checksum is another's now
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", b"\x80\x02}.")
        archive.writestr("weights/byteorder", "big")
    assert "start with their high bytes" in told(path)

    def spoil(parts: list[bytes]) -> None:
        parts[2] = pickle.dumps({"little_endian": False}, 2)

    assert "start with their high bytes" in told(old_torch(path, spoil))


def test_old_storages_of_wild_lengths_are_refused(tmp_path: Path) -> None:
    for length in (-1, 1 << 62, 1 << 40):

        def spoil(parts: list[bytes], length: int = length) -> None:
            parts[5] = struct.pack("<q", length) + parts[5][8:]

        assert "too large" in told(old_torch(tmp_path / "w.pt", spoil))


def test_models_of_litert_are_told(tmp_path: Path) -> None:
    (tmp_path / "w.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    assert "it is a LiteRT model" in told(tmp_path / "w.tflite")


def test_models_of_keras_are_told(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(serialization.HDF5 + bytes(100))
    assert "an HDF5 file of Keras" in told(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", b"")
    assert "it is a Keras model" in told(path)
