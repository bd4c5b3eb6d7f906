"""File formats of weights: numpy's `.npy`, joblib's `.lz4`, plain pickles and torch's `.pt`.

Their content is lists and dictionaries of arrays; which array is which is not known here (see
`layout`).
"""

import io
import pickle
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from ..errors import UserError
from . import torch_files
from .safe_pickle import MAX_BYTES, RefusedError, load_arrays

NPY, LZ4, PICKLE, ZIP = b"\x93NUMPY", b"\x04\x22\x4d\x18", b"\x80", b"PK\x03\x04"
LITERT = b"TFL3"  # after four other bytes
HDF5 = b"\x89HDF\r\n\x1a\n"
PROTOCOL = 3  # of pickles: the last in which a module's name is a line that can be replaced


def load(file: BinaryIO) -> Any:
    """The content of a file of any of these formats.

    Raises:
        RefusedError: it wants to run something, or more memory than any weights need.
        Exception: of any other kind, where it is damaged or no weights file.
    """
    head = file.read(len(torch_files.LEGACY))
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
    """An object as `np.save` writes it."""
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(file, header)
    boxed = np.array(None, dtype=object)
    boxed[()] = content  # a list is one object too
    return file.getvalue() + _pickled(boxed)


def _load_lz4(file: BinaryIO) -> Any:
    decompressor = _lz4().LZ4FrameDecompressor()
    content = decompressor.decompress(file.read(), max_length=MAX_BYTES)
    if not decompressor.eof:
        raise RefusedError(f"it is cut off, or unpacks to more than {MAX_BYTES >> 20} MiB")
    return load_arrays(io.BytesIO(content))


def dump_lz4(content: Any) -> bytes:
    """An object as `joblib.dump` writes it to a name in `.lz4`; `joblib.load` reads it."""
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


def _refuse_hdf5(file: BinaryIO) -> Any:
    raise RefusedError("it is an HDF5 file of Keras: save `model.get_weights()` with `np.save`")


READERS: dict[bytes, Callable[[BinaryIO], Any]] = {  # by their first bytes
    NPY: _load_npy,
    LZ4: _load_lz4,
    ZIP: torch_files.load_zip,
    HDF5: _refuse_hdf5,
    torch_files.LEGACY: torch_files.load_legacy,  # before plain pickles, whose start it shares
    PICKLE: load_arrays,
}
