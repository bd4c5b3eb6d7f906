"""Reads an `.npy` of objects, which is a pickle, without running anything that is in it.

A pickle is a program: it names functions and calls them. Only five names are admitted here, and
they lead to the stand-ins below, because numpy's own classes can be called, or given a state,
so that they read and write anywhere in memory.
"""

import io
import math
import pickle
import pickletools
import re
from typing import Any, BinaryIO

import numpy as np

from configs.errors import UserError


def load_npy(file: BinaryIO, origin: str) -> Any:
    """The object in a file that `np.save` wrote; arrays, dictionaries, lists, text and numbers.

    Raises:
        UserError: it is damaged, or holds anything else; `origin` names the file in the sentence.
    """
    try:
        _skip_header(file)
        content = file.read()
        _refuse_wild_memory(content)
        loaded = _OnlyArrays(io.BytesIO(content), encoding="latin1").load()
    except _RefusedError as error:
        raise UserError(f"{origin} is refused: {error}.") from None
    except Exception as error:  # a damaged pickle can fail in any way
        raise UserError(f"{origin} is no weights file or is damaged ({error}).") from None
    return loaded.item() if isinstance(loaded, np.ndarray) and loaded.ndim == 0 else loaded


class _RefusedError(Exception):
    """The pickle wants more than to be read."""


def _skip_header(file: BinaryIO) -> None:
    header_of = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    major, _ = np.lib.format.read_magic(file)
    _, _, dtype = header_of[major](file)
    if not dtype.hasobject:
        raise ValueError(f"it is one array of {dtype}, not a dictionary of arrays")


def _refuse_wild_memory(content: bytes) -> None:
    """A few bytes can make the unpickler reserve gigabytes for notes that it never takes."""
    for code, argument, position in pickletools.genops(content):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > int(
            position or 0
        ):
            raise _RefusedError("it wants more memory than it could fill")


class _OnlyArrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        admitted = {
            ("numpy.core.multiarray", "_reconstruct"): _Array,
            ("numpy._core.multiarray", "_reconstruct"): _Array,
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): _latin1,
        }
        if (module, name) not in admitted:
            wanted = f"{module}.{name}"[:60]
            raise _RefusedError(f"it wants to run {wanted!r}; weights need no code")
        return admitted[module, name]


class _Dtype:
    """The type of an array's values: floats, whole numbers, true or false, or objects."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[fiub][1248]|O8", code):
            raise _RefusedError(f"it holds values of the type {code[:20]!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray[Any, Any]):
    """Empty until its state comes, which is compared with its content before numpy gets it."""

    def __new__(cls, *_: Any) -> "_Array":
        return super().__new__(cls, (0,), np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, lengths, described, by_columns, content = state
        shape, dtype = tuple(int(length) for length in lengths), described.dtype
        if isinstance(content, str):  # as Python 2 wrote bytes
            content = content.encode("latin1")
        form, size = (list, 1) if dtype.hasobject else (bytes, dtype.itemsize)
        fits = type(content) is form and len(content) == math.prod(shape) * size
        if not fits or min(shape, default=0) < 0:
            raise _RefusedError("the shape of an array does not fit its content")
        state = (1, shape, dtype, bool(by_columns), content)
        super().__setstate__(state)  # type: ignore[arg-type]


def _latin1(text: str, *_: Any) -> bytes:
    """What `_codecs.encode` does for bytes in pickles of the protocols 0 to 2."""
    return text.encode("latin1")
