"""Torch's files of tensors: zip archives, and the streams of pickles written before torch 1.6.

The files that facenet-pytorch 2.6.0 ships are of the older kind.
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .safe_pickle import MAX_BYTES, RefusedError, Tensor, load_tensors

LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # the first of the pickles
BIG_ENDIAN = "its numbers start with their high bytes"
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def load_zip(file: BinaryIO) -> Any:
    """The content of an archive: a pickle, and a member for each storage."""
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        if any(name.endswith("model.weights.h5") for name in names):
            raise RefusedError("it is a Keras model: save its arrays with `model.get_weights()`")
        refuse_if_large(archive)
        top = next(name for name in names if name.endswith("data.pkl"))[: -len("data.pkl")]
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise RefusedError("parts of it are packed, which torch does not do")
        if f"{top}byteorder" in names and archive.read(f"{top}byteorder") != b"little":
            raise RefusedError(BIG_ENDIAN)
        content, tensors = load_tensors(io.BytesIO(archive.read(f"{top}data.pkl")))
        keys = {tensor.place[0].key for tensor in tensors}
        storages = {key: archive.read(f"{top}data/{key}") for key in keys}
    return _filled(content, tensors, storages)


def refuse_if_large(archive: zipfile.ZipFile) -> None:
    """Raise RefusedError where unpacking would take more than `MAX_BYTES`; unpacks nothing."""
    if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
        raise RefusedError(f"it unpacks to more than {MAX_BYTES >> 20} MiB")


def load_legacy(file: BinaryIO) -> Any:
    """The content of an older file: five pickles, then the storages in the order of the last."""
    for _ in range(2):
        load_tensors(file)
    if not load_tensors(file)[0]["little_endian"]:
        raise RefusedError(BIG_ENDIAN)
    content, tensors = load_tensors(file)
    sizes = {t.place[0].key: np.dtype(t.place[0].dtype).itemsize for t in tensors}
    storages: dict[str, bytes] = {}
    for key in load_tensors(file)[0]:
        (count,) = struct.unpack("<q", file.read(8))
        if not 0 <= count * sizes[key] <= MAX_BYTES:
            raise RefusedError("a tensor of it is too large")
        storages[key] = file.read(count * sizes[key])
    return _filled(content, tensors, storages)


def _filled(content: Any, tensors: list[Tensor], storages: Mapping[str, bytes]) -> Any:
    for tensor in tensors:
        tensor.fill(storages[tensor.place[0].key])
    return content


def dump_torch(arrays: Mapping[str, NDArray[np.float32]]) -> bytes:
    """A state dict of float tensors as `torch.save` writes it; `torch.load` reads it."""
    program = [b"\x80\x02", ORDERED_DICT, b"("]
    parts = {}
    for number, (name, array) in enumerate(arrays.items()):
        parts[f"data/{number}"] = array.astype("<f4").tobytes()
        program += [_opcodes(name), _tensor_opcodes(str(number), array)]
    parts |= {"data.pkl": b"".join(program) + b"u.", "byteorder": b"little", "version": b"3\n"}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            # A `ZipInfo` of its own has no time of day: the same arrays give the same bytes.
            archive.writestr(zipfile.ZipInfo(f"weights/{name}"), content)
    return file.getvalue()


def _tensor_opcodes(key: str, array: NDArray[np.float32]) -> bytes:
    """`_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`."""
    steps = np.ascontiguousarray(array).strides
    strides = tuple(step // array.itemsize for step in steps)
    storage = [b"(", _opcodes("storage"), b"ctorch\nFloatStorage\n", _opcodes(key)]
    storage += [_opcodes("cpu"), _opcodes(array.size), b"tQ"]
    rest = [_opcodes(0), _opcodes(array.shape), _opcodes(strides), _opcodes(False), ORDERED_DICT]
    return b"".join([b"ctorch._utils\n_rebuild_tensor_v2\n(", *storage, *rest, b"tR"])


def _opcodes(value: Any) -> bytes:
    """The part of a pickle that pushes a plain value, without PROTO and STOP.

    Of protocol 2: the one that torch writes and that its own restricted reader expects.
    """
    return pickle.dumps(value, 2)[2:-1]
