"""A restricted unpickler for arrays and tensors: it runs nothing that a file names.

A pickle is a program that names functions and calls them. `find_class` has an allow-list, and its
names lead to substitutes, because numpy's own classes read and write anywhere in memory when they
are called or given a state by a hostile pickle. Every substitute is a class with its own
`__setstate__`, so that a state given to the class itself meets that method and fails.
"""

import io
import math
import pickle
import re
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np

MAX_BYTES = 1 << 28  # of a file, and of its arrays; the cascade's largest net has a hundredth


class RefusedError(Exception):
    """The file asks for a call, or for more memory than weights need."""


def load_arrays(file: BinaryIO) -> Any:
    """The object that a pickle describes, as Python 2 or 3, numpy or joblib wrote it.

    Raises:
        RefusedError: it wants to run something, or its arrays do not fit their content.
        Exception: of any other kind, where it is damaged.
    """
    # The bytes of joblib's arrays follow their description, between two instructions.
    budget = {"budget": _Budget()}
    inline = type("_InlineArray", (_InlineArray,), {"file": file} | budget)
    array = type("_Array", (_Array,), budget)
    allowed = {name: array if kind is _Array else kind for name, kind in ARRAYS.items()}
    allowed = {**allowed, ("joblib.numpy_pickle", "NumpyArrayWrapper"): inline}
    return _Unpickler(file, allowed).load()


def load_tensors(file: BinaryIO) -> tuple[Any, "list[Tensor]"]:
    """The object that a pickle of torch describes, and its tensors, which are still empty.

    Their values are outside of the pickle, by the keys of their storages: see `Tensor.fill`.
    """
    made: list[Tensor] = []
    tensor = type("_Tensor", (Tensor,), {"made": made, "budget": _Budget()})
    allowed = {**TENSORS, ("torch._utils", "_rebuild_tensor_v2"): tensor}
    return _Unpickler(file, allowed).load(), made


class Storage(NamedTuple):
    """A one-dimensional run of numbers elsewhere in the file."""

    key: str
    dtype: str
    length: int


# In pure Python: the C implementation sizes its memo by the largest index (ten bytes of pickle with
# index 2**26 take 1 GB, with 2**31 they take 34 GB), and reads ahead of joblib's inline arrays.
class _Unpickler(pickle._Unpickler):
    def __init__(self, file: BinaryIO, allowed: dict[tuple[str, str], Any]) -> None:
        super().__init__(file, encoding="latin1")
        self.allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            wanted = f"{module}.{name}"[:60]
            raise RefusedError(f"it wants to run {wanted!r}; weights need no code")
        return self.allowed[module, name]

    def persistent_load(self, pid: Any) -> Storage:
        _, dtype, key, _, count, *view = pid
        if dtype not in STORAGES.values() or not isinstance(key, str) or any(view):
            raise RefusedError("it keeps its values in a place of an unknown kind")
        return Storage(key, dtype, int(count))


class _Dtype:
    """The type of an array's values: floats, whole numbers, true or false, or objects."""

    def __init__(self, code: str, *_: Any) -> None:
        if not re.fullmatch(r"[fiub][1248]|O8", code):
            raise RefusedError(f"it holds values of the type {code[:20]!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


class _Budget:
    """Bytes that the arrays of one load may still take: many can share bytes of the file."""

    def __init__(self) -> None:
        self.left = MAX_BYTES

    def take(self, length: int) -> None:
        self.left -= length
        if self.left < 0:
            raise RefusedError(f"its arrays take more than {MAX_BYTES >> 20} MiB")


class _Array(np.ndarray[Any, Any]):
    """Empty until its state comes, which is checked against its content before numpy gets it."""

    budget = _Budget()

    def __new__(cls, *_: Any) -> Self:
        return super().__new__(cls, (0,), np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, lengths, described, fortran_order, content = state
        shape, dtype = tuple(int(length) for length in lengths), described.dtype
        self.budget.take(len(content) * (8 if dtype.hasobject else 1))
        if isinstance(content, str):  # as Python 2 wrote bytes
            content = content.encode("latin1")
        form, size = (list, 1) if dtype.hasobject else (bytes, dtype.itemsize)
        fits = type(content) is form and len(content) == math.prod(shape) * size
        if not fits or min(shape, default=0) < 0:
            raise RefusedError("the shape of an array does not fit its content")
        state = (1, shape, dtype, bool(fortran_order), content)
        super().__setstate__(state)  # type: ignore[arg-type]


class _InlineArray(_Array):
    """joblib's wrapper: the array's bytes follow it in the file, after padding for alignment."""

    file: BinaryIO = io.BytesIO()

    def __setstate__(self, state: Any) -> None:
        shape, described = tuple(state["shape"]), state["dtype"]
        length = math.prod(shape) * described.dtype.itemsize
        if described.dtype.hasobject or not 0 <= length <= MAX_BYTES:
            raise RefusedError("an array of it is too large or no array of numbers")
        if state.get("numpy_array_alignment_bytes") is not None:
            self.file.read(self.file.read(1)[0])
        content = self.file.read(length)
        super().__setstate__((1, shape, described, state["order"] == "F", content))


class _Latin1:
    """`_codecs.encode`, by which pickles of the protocols 0 to 2 hold bytes."""

    def __new__(cls, text: str, *_: Any) -> bytes:  # type: ignore[misc]
        return text.encode("latin1")

    def __setstate__(self, state: Any) -> None:
        raise RefusedError("it gives a state to what has none")


class Tensor(_Array):
    """A torch tensor: a strided view of a storage."""

    place: tuple[Storage, int, tuple[int, ...], tuple[int, ...]]
    made: "list[Tensor]" = []  # noqa: RUF012 (each load has its own)

    def __new__(cls, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Self:
        numbers = (offset, *shape, *strides)
        whole = all(type(number) is int and number >= 0 for number in numbers)
        if not isinstance(storage, Storage) or not whole or len(shape) != len(strides):
            raise RefusedError("it describes a tensor that cannot be")
        reach = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if math.prod(shape) > storage.length or (0 not in shape and reach >= storage.length):
            raise RefusedError("the shape of a tensor does not fit its content")
        tensor = super().__new__(cls)
        tensor.place = storage, offset, tuple(shape), tuple(strides)
        cls.made.append(tensor)
        return tensor

    def __setstate__(self, state: Any) -> None:
        raise RefusedError("it gives a state to what has none")

    def fill(self, content: bytes) -> None:
        """Copy the tensor's values out of the bytes of its storage."""
        storage, offset, shape, strides = self.place
        values = np.frombuffer(content, storage.dtype)
        if len(values) != storage.length:
            raise RefusedError("the shape of a tensor does not fit its content")
        self.budget.take(math.prod(shape) * values.itemsize)
        steps = [step * values.itemsize for step in strides]
        numbers = np.lib.stride_tricks.as_strided(values[offset:], shape, steps).tobytes()
        state = (1, shape, values.dtype, False, numbers)
        np.ndarray.__setstate__(self, state)  # type: ignore[arg-type]


class _Parameter:
    """torch's parameter: its tensor."""

    def __new__(cls, tensor: Any, *_: Any) -> Any:
        return tensor

    def __setstate__(self, state: Any) -> None:
        raise RefusedError("it gives a state to what has none")


class _Ordered(dict[Any, Any]):
    """An OrderedDict; the attributes that torch gives it are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


ARRAYS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _Latin1,
    ("collections", "OrderedDict"): _Ordered,
}

STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",  # counters beside the weights
}

TENSORS: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_parameter"): _Parameter,
    ("collections", "OrderedDict"): _Ordered,
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
}
