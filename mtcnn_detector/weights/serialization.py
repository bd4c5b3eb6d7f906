"""What weights are kept in: numpy's `.npy`, joblib's `.lz4`, torch's `.pt`; each both ways.

In here they are Python objects: lists and dictionaries of arrays. Which array is which, and
which way round, is not known here (see `packages`).
"""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .safe_pickle import MOST, RefusedError, Tensor, load_arrays, load_tensors

NPY, LZ4, PICKLE, ZIP = b"\x93NUMPY", b"\x04\x22\x4d\x18", b"\x80", b"PK\x03\x04"
TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # before version 1.6: no zip
LITERT = b"TFL3"  # after four other bytes
HDF5 = b"\x89HDF\r\n\x1a\n"
BIG_ENDIAN = "its numbers start with their high bytes"
PROTOCOL = 3  # of pickles: the last in which a module's name is a line that can be replaced


def load(file: BinaryIO) -> Any:
    """The arrays of a file, in the lists and dictionaries in which it has them.

    Raises:
        RefusedError: it wants to run something, or more memory than any weights need.
        Exception: of any other kind, where it is damaged or no weights file.
    """
    head = file.read(len(TORCH))
    file.seek(0)
    for start, read in READERS.items():
        if head.startswith(start):
            return read(file)
    if head[4:8] == LITERT:
        raise RefusedError("it is a LiteRT model, out of which no weights are taken")
    raise ValueError("it starts like none")


def _load_npy(file: BinaryIO) -> Any:
    header_of = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    major, _ = np.lib.format.read_magic(file)
    _, _, dtype = header_of[major](file)
    if not dtype.hasobject:
        raise ValueError(f"it is one array of {dtype}, not a dictionary of arrays")
    loaded = load_arrays(file)
    return loaded.item() if isinstance(loaded, np.ndarray) and loaded.ndim == 0 else loaded


def dump_npy(content: Any) -> bytes:
    """As `np.save` writes an object."""
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(file, header)
    boxed = np.array(None, dtype=object)
    boxed[()] = content  # a list is one object too
    return file.getvalue() + _pickled(boxed)


def _load_lz4(file: BinaryIO) -> Any:
    unpacking = _lz4().LZ4FrameDecompressor()
    unpacked = unpacking.decompress(file.read(), max_length=MOST)
    if not unpacking.eof:
        raise RefusedError(f"it is cut off, or unpacks to more than {MOST >> 20} MiB")
    return load_arrays(io.BytesIO(unpacked))


def dump_lz4(content: Any) -> bytes:
    """As `joblib.dump` writes to a name that ends in `.lz4`; `joblib.load` reads it."""
    packed: bytes = _lz4().compress(_pickled(content))
    return packed


def _lz4() -> Any:
    try:
        import lz4.frame
    except ImportError:
        raise UserError("lz4 files need a package of their own: `pip install lz4`.") from None
    return lz4.frame


def _pickled(content: Any) -> bytes:
    # numpy 2 has given this module a name that no numpy before 1.26 knows; all know the old one.
    pickled = pickle.dumps(content, PROTOCOL)
    return pickled.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def _load_zip(file: BinaryIO) -> Any:
    """What torch writes since 1.6: the pickle, and a file for each storage."""
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
        held = {key: archive.read(f"{top}data/{key}") for key in keys}
    return _filled(content, tensors, held)


def refuse_if_large(archive: zipfile.ZipFile) -> None:
    """Before anything of it is unpacked."""
    if sum(entry.file_size for entry in archive.infolist()) > MOST:
        raise RefusedError(f"it unpacks to more than {MOST >> 20} MiB")


def _load_torch(file: BinaryIO) -> Any:
    """What torch wrote before 1.6: five pickles, then the storages in the order of the last."""
    for _ in range(2):
        load_tensors(file)
    if not load_tensors(file)[0]["little_endian"]:
        raise RefusedError(BIG_ENDIAN)
    content, tensors = load_tensors(file)
    sizes = {t.place[0].key: np.dtype(t.place[0].dtype).itemsize for t in tensors}
    held: dict[str, bytes] = {}
    for key in load_tensors(file)[0]:
        (count,) = struct.unpack("<q", file.read(8))
        if not 0 <= count * sizes[key] <= MOST:
            raise RefusedError("a tensor of it is too large")
        held[key] = file.read(count * sizes[key])
    return _filled(content, tensors, held)


def _filled(content: Any, tensors: list[Tensor], held: Mapping[str, bytes]) -> Any:
    for tensor in tensors:
        tensor.fill(held[tensor.place[0].key])
    return content


def dump_torch(arrays: Mapping[str, NDArray[np.float32]]) -> bytes:
    """As `torch.save` writes a state dict of float tensors; `torch.load` reads it."""
    program = [b"\x80\x02", ORDERED, b"("]
    parts = {}
    for number, (name, array) in enumerate(arrays.items()):
        parts[f"data/{number}"] = array.astype("<f4").tobytes()
        program += [_opcodes(name), _tensor_opcodes(str(number), array)]
    parts |= {"data.pkl": b"".join(program) + b"u.", "byteorder": b"little", "version": b"3\n"}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            # With an entry of its own, no time of day gets in: the same arrays, the same bytes.
            archive.writestr(zipfile.ZipInfo(f"weights/{name}"), content)
    return file.getvalue()


ORDERED = b"ccollections\nOrderedDict\n)R"


def _tensor_opcodes(key: str, array: NDArray[np.float32]) -> bytes:
    """`_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`."""
    steps = np.ascontiguousarray(array).strides
    strides = tuple(step // array.itemsize for step in steps)
    storage = [b"(", _opcodes("storage"), b"ctorch\nFloatStorage\n", _opcodes(key)]
    storage += [_opcodes("cpu"), _opcodes(array.size), b"tQ"]
    rest = [_opcodes(0), _opcodes(array.shape), _opcodes(strides), _opcodes(False), ORDERED]
    return b"".join([b"ctorch._utils\n_rebuild_tensor_v2\n(", *storage, *rest, b"tR"])


def _opcodes(value: Any) -> bytes:
    """The part of a pickle that pushes a plain value, without its start and its stop.

    Of protocol 2, as torch writes them and its own careful reader expects.
    """
    return pickle.dumps(value, 2)[2:-1]


def _refuse_hdf5(file: BinaryIO) -> Any:
    raise RefusedError("it is an HDF5 file of Keras: save `model.get_weights()` with `np.save`")


READERS: dict[bytes, Callable[[BinaryIO], Any]] = {
    NPY: _load_npy,
    LZ4: _load_lz4,
    ZIP: _load_zip,
    HDF5: _refuse_hdf5,
    TORCH: _load_torch,  # before the plain pickle that it starts like
    PICKLE: load_arrays,
}
