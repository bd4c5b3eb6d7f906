"""Hostile and damaged weights files are refused, and nothing in them runs."""

import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtcnn_detector.architecture import PAPER_NETS
from mtcnn_detector.errors import UserError
from mtcnn_detector.weights import safe_pickle, serialization, weight_files
from tests.torch_files import old_torch, torch_file
from tests.weights_files import all_drawn, drawn, pickled, saved, told

ROOT = Path(__file__).parents[1]


def all_kinds(folder: Path) -> list[Path]:
    """A file of each kind: ours, and P-Net's or the only one of every layout."""
    weight_files.write_own(folder / "w.npz", drawn(PAPER_NETS["pnet"], 0))
    for layout in weight_files.LAYOUTS:
        weight_files.write(layout, folder / layout, all_drawn())
    old_torch(folder / "old.pt")
    written = [weight_files.files(folder / layout)[0] for layout in weight_files.LAYOUTS]
    return [folder / "w.npz", folder / "old.pt", *written]


def test_a_truncated_file_is_told(tmp_path: Path) -> None:
    for path in all_kinds(tmp_path):
        whole = path.read_bytes()
        assert weight_files.read(path)
        for length in (1, 7, 60, 130, 1000, len(whole) // 2, len(whole) - 1):
            (tmp_path / "cut").write_bytes(whole[:length])
            told(tmp_path / "cut")


def test_a_damaged_file_is_told_or_does_no_harm(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for path in all_kinds(tmp_path):
        whole = path.read_bytes()[:30_000]  # the kinds of one file hold all three nets
        whole += path.read_bytes()[len(whole) :]
        refused = 0
        for _ in range(60):
            spoilt = bytearray(whole)
            for place in rng.integers(0, min(len(whole), 3000), rng.integers(1, 9)):
                spoilt[place] = rng.integers(256)
            (tmp_path / "spoilt").write_bytes(spoilt)
            try:
                weight_files.read(tmp_path / "spoilt")
            except UserError:
                refused += 1
        assert refused > 0, path.name


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile(mark: Path) -> Iterator[tuple[str, Any]]:
    """Objects that make the file `mark` when a pickle of them is read, or try something else."""
    code = f"open({str(mark)!r}, 'w').close()"
    yield "posix.system", Calls(os.system, f"touch {mark}")
    yield "builtins.exec", Calls(exec, code)
    yield "builtins.eval", Calls(eval, code)
    yield "builtins.getattr", Calls(getattr, "text", "join")
    yield "numpy.load", Calls(np.load, str(mark))
    yield "numpy.memmap", Calls(np.memmap, str(mark), np.uint8, "w+", 0, (4,))
    yield "scalar", np.float64(3)
    yield "numpy.f2py", np.f2py.main
    yield "subprocess.Popen", Calls(subprocess.Popen, ["touch", str(mark)])
    yield "slice", slice(1)
    yield "test_layouts.Calls", Calls


def as_npy(path: Path, thing: Any) -> Path:
    return pickled(path, pickle.dumps(thing))


def as_lz4(path: Path, thing: Any) -> Path:
    path.write_bytes(pytest.importorskip("lz4.frame").compress(pickle.dumps(thing)))
    return path


def as_joblib(path: Path, thing: Any) -> Path:
    joblib = pytest.importorskip("joblib")
    joblib.dump(thing, path, compress="lz4")
    return path


def as_pickle(path: Path, thing: Any) -> Path:
    path.write_bytes(pickle.dumps(thing))
    return path


def as_torch(path: Path, thing: Any) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/data.pkl", pickle.dumps(thing, 2))
        archive.writestr("weights/version", "3\n")
    return path


def as_old_torch(path: Path, thing: Any) -> Path:
    def spoil(parts: list[bytes]) -> None:
        parts[3] = pickle.dumps(thing, 2)

    return old_torch(path, spoil)


KINDS = [as_npy, as_lz4, as_joblib, as_pickle, as_torch, as_old_torch]


@pytest.mark.parametrize("kind", KINDS)
def test_a_hostile_pickle_is_refused_without_running(
    tmp_path: Path, kind: Callable[[Path, Any], Path]
) -> None:
    mark, path = tmp_path / "ran", tmp_path / "weights"
    pickle.loads(pickle.dumps(Calls(os.system, f"touch {mark}")))
    assert mark.exists(), "what is tested here would do no harm anyway"
    mark.unlink()
    for wanted, thing in hostile(mark):
        for content in (thing, {"pnet": thing}, {"pnet": [thing]}, {"x": [(thing,)]}):
            sentence = told(kind(path, content))
            assert "is refused: it wants to run" in sentence
            assert wanted.rpartition(".")[2] in sentence
            assert not mark.exists()


START = b"\x80\x04cnumpy._core.multiarray\n_reconstruct\n(tR"


def states(shape: bytes, dtype: bytes, content: bytes) -> bytes:
    """A pickle that gives an array this state."""
    return START + b"(K\x01" + shape + dtype + b"\x89" + content + b"tb."


OBJECTS = b"cnumpy\ndtype\n(\x8c\x02O8\x89\x88tR"
FLOATS = b"cnumpy\ndtype\n(\x8c\x02f4\x89\x88tR"
NO_FLAGS = b"(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
ADDRESS = b"C\x08AAAAAAAA"
UNFIT_STATE, UNFIT_TYPE = "shape of an array does not fit", "holds values of the type"
WILD = {
    "objects at an address, from a buffer": (
        b"\x80\x04cnumpy\nndarray\n()\x8c\x01O" + ADDRESS + b"tR.",
        "a dictionary of pnet, rnet and onet",  # what it gives is an empty array
    ),
    "objects at an address, their type told a lie": (
        states(b")", OBJECTS + NO_FLAGS, ADDRESS),
        UNFIT_STATE,
    ),
    "more numbers than content": (states(b"J\xff\xff\xff\x7f\x85", FLOATS, ADDRESS), UNFIT_STATE),
    "lengths that overflow": (
        states(b"(" + b"J\x00\x00\x00\x40" * 4 + b"t", FLOATS, b"C\x00"),
        UNFIT_STATE,
    ),
    "negative lengths": (
        states(b"(J\xff\xff\xff\xffJ\xfe\xff\xff\xfft", FLOATS, ADDRESS),
        UNFIT_STATE,
    ),
    "a type with fields": (states(b")", FLOATS.replace(b"f4", b"V4"), b"C\x04AAAA"), UNFIT_TYPE),
    "a type that holds addresses": (
        states(b")", b"cnumpy\ndtype\n(\x8c\x04O,O8tR", ADDRESS),
        UNFIT_TYPE,
    ),
    "notes for gigabytes": (b"\x80\x04Nr\xff\xff\xff\x7f.", "no layout that we know"),
    "bytes for gigabytes": (
        b"\x80\x04\x8e\x00\x00\x00\x00\xff\x00\x00\x00A.",
        "is damaged (EOFError)",
    ),
    "a state for the reader itself": (
        b"\x80\x04c_codecs\nencode\nN}\x8c\x08__code__K\x01s\x86bcnumpy\nndarray\n(K\x01tb.",
        "is damaged",
    ),
}

READ_APART = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
from mtcnn_detector.errors import UserError
from mtcnn_detector.weights import weight_files
for path in sys.argv[1:]:
    try:
        weight_files.read(Path(path))
    except UserError as error:
        print(error, flush=True)
"""


def test_a_pickle_cannot_reach_into_memory(tmp_path: Path) -> None:
    """In another process: numpy's own unpickling dies of some of these."""
    paths = [pickled(tmp_path / f"{name}.npy", program) for name, (program, _) in WILD.items()]
    done = subprocess.run(
        [sys.executable, "-c", READ_APART, *paths], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-500:]
    sentences = done.stdout.splitlines()
    for path, sentence, (_, reason) in zip(paths, sentences, WILD.values(), strict=True):
        assert sentence.startswith(str(path))
        assert reason in sentence


def test_arrays_that_python_2_wrote_are_read() -> None:
    """There bytes were text, and come as such; the other projects' files are of that time."""
    numbers = np.array([1.5, -200.25], "<f4")
    content = b"U\x08" + numbers.tobytes()
    program = states(b"K\x02\x85", FLOATS.replace(b"\x8c\x02f4", b"U\x02f4"), content)
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(file, header)
    held = serialization.load(io.BytesIO(file.getvalue() + program))
    np.testing.assert_array_equal(held, numbers)


def test_deep_and_entangled_pickles_are_told(tmp_path: Path) -> None:
    deep = b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b"."
    told(pickled(tmp_path / "w.npy", deep))
    # Thirty lists of twice the list before: 2 ** 30 elements for whoever walks through them.
    double = b"\x80\x04]" + b"".join(b"q%c](h%ch%ce" % (i, i, i) for i in range(30)) + b"."
    told(pickled(tmp_path / "w.npy", double))
    itself: list[Any] = []
    itself.append(itself)
    told(saved(tmp_path / "w.npy", {"pnet": itself}))


def test_a_state_never_reaches_a_stand_in(tmp_path: Path) -> None:
    """They serve the next file too."""
    names = [b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"c_codecs\nencode\n"]
    names += [b"ccollections\nOrderedDict\n", b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n"]
    for name in names:
        for state in (b"}\x8c\x01xK\x01s", b"N}\x8c\x01xK\x01s\x86"):
            path = tmp_path / "w.pkl"
            path.write_bytes(b"\x80\x04" + name + state + b"b.")
            assert "is damaged" in told(path)
    assert weight_files.read(all_kinds(tmp_path)[2])


class Shared:
    """An array whose numbers are those of others."""

    content = bytes(1 << 16)

    def __reduce__(self) -> Any:
        reduced: Any = np.zeros(0, np.uint8).__reduce__()
        make, given = reduced[:2]
        return make, given, (1, (len(self.content),), np.dtype(np.uint8), False, self.content)


def test_arrays_that_share_their_numbers_take_no_more_room_than_a_file_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.npy"
    path.write_bytes(pickle.dumps([Shared() for _ in range(20)]))
    assert path.stat().st_size < 1 << 17
    assert "is refused" not in told(path)  # it is only no layout that we know
    monkeypatch.setattr(safe_pickle, "MAX_BYTES", 1 << 20)
    assert "its arrays take more than 1 MiB" in told(path)


def test_so_do_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.pt").write_bytes(torch_file())
    assert weight_files.read(tmp_path / "w.pt")
    monkeypatch.setattr(safe_pickle, "MAX_BYTES", 1 << 12)
    assert "its arrays take more than" in told(tmp_path / "w.pt")
