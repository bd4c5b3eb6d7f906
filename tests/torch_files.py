"""Torch files of both ages, as other packages write them: for the tests."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from mtcnn_detector.weights import torch_files as weights_torch
from mtcnn_detector.weights import weight_files
from tests.weights_files import all_drawn


def old_torch(path: Path, spoil: Callable[[list[bytes]], object] = lambda parts: None) -> Path:
    """A P-Net as torch wrote it before 1.6: pickles, then the storages."""
    with zipfile.ZipFile(io.BytesIO(torch_file())) as archive:
        program = archive.read("weights/data.pkl")
        count = len([name for name in archive.namelist() if "/data/" in name])
        storages = [archive.read(f"weights/data/{number}") for number in range(count)]
    parts = [weights_torch.LEGACY, pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
    parts += [program, pickle.dumps([str(number) for number in range(count)], 2)]
    parts += [struct.pack("<q", len(storage) // 4) + storage for storage in storages]
    spoil(parts)
    path.write_bytes(b"".join(parts))
    return path


def torch_file() -> bytes:
    part = weight_files.LAYOUTS["facenet-pytorch"].part("pnet", all_drawn()["pnet"])
    return weights_torch.dump_torch(part)
