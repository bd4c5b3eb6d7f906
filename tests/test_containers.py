"""Packed and huge files: what they announce must follow, and no more is unpacked than may be."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.weights_files import told


def wrapped(shape: tuple[int, ...], dtype: str = "f4") -> bytes:
    """A list of one array as joblib describes it; the array's bytes are to follow."""
    joblib = pytest.importorskip("joblib.numpy_pickle")
    wrapper = joblib.NumpyArrayWrapper(np.ndarray, shape, "C", np.dtype(dtype))
    return pickle.dumps(wrapper, 4)[:-1]


def test_what_joblib_announces_must_follow(tmp_path: Path) -> None:
    path = tmp_path / "w.lz4"
    lz4 = pytest.importorskip("lz4.frame")
    for shape, sentence in (
        ((1 << 40,), "an array of it is too large"),
        ((1 << 20,), "does not fit its content"),
        ((-1, -4), "does not fit its content"),
    ):
        path.write_bytes(lz4.compress(wrapped(shape) + b"\x00" + bytes(16) + b"."))
        assert sentence in told(path)
    path.write_bytes(lz4.compress(wrapped((2,), "O") + b"\x00" + bytes(16) + b"."))
    assert "no array of numbers" in told(path)


@pytest.mark.slow
def test_an_lz4_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    lz4, path = pytest.importorskip("lz4.frame"), tmp_path / "bomb.lz4"
    packing = lz4.LZ4FrameCompressor()
    with path.open("wb") as file:
        file.write(packing.begin())
        for _ in range(300):
            file.write(packing.compress(bytes(1 << 20)))
        file.write(packing.flush())
    assert path.stat().st_size < 1 << 22
    assert "unpacks to more than 256 MiB" in told(path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.npy"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    assert "over 256 MiB" in told(path)
    os.mkfifo(tmp_path / "pipe")
    assert "no plain file" in told(tmp_path / "pipe")
