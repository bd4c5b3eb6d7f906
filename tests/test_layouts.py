"""Weights files: both ways without loss, refused when they do not fit, harmless when hostile."""

import errno
import io
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import UserError
from configs.settings import NETS, Layer, Net, NetName
from models import architecture, layouts
from models.architecture import PAPER_NETS
from models.layouts import Trained, Weights
from models.unpickle import load_npy

ROOT = Path(__file__).parents[1]


def documented(widths: list[tuple[int, ...]], heads: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Kernel shapes -> all arrays: kernel, bias and alpha of each layer; kernel, bias of heads."""
    shapes: list[tuple[int, ...]] = []
    for kernel in widths:
        alpha = (1, 1, kernel[-1]) if len(kernel) == 4 else (kernel[-1],)
        shapes += [kernel, kernel[-1:], alpha]
    last = widths[-1]
    for outputs in heads:
        kernel = (1, 1, last[-1], outputs) if len(last) == 4 else (last[-1], outputs)
        shapes += [kernel, (outputs,)]
    return shapes


# What the package's build_pnet, build_rnet and build_onet take, in this order.
IPAZC = {
    "pnet": documented([(3, 3, 3, 10), (3, 3, 10, 16), (3, 3, 16, 32)], (2, 4)),
    "rnet": documented([(3, 3, 3, 28), (3, 3, 28, 48), (2, 2, 48, 64), (576, 128)], (2, 4)),
    "onet": documented(
        [(3, 3, 3, 32), (3, 3, 32, 64), (3, 3, 64, 64), (2, 2, 64, 128), (1152, 256)], (2, 4, 10)
    ),
}


def drawn(net: Net, seed: int) -> Trained:
    """A net with random weights."""
    rng = np.random.default_rng(seed)
    shapes = architecture.shapes(net)
    return Trained(net, {key: rng.normal(0, 1, s).astype(np.float32) for key, s in shapes})


def all_drawn(seed: int = 0) -> dict[NetName, Trained]:
    """The three nets of the paper with random weights."""
    return {name: drawn(PAPER_NETS[name], seed + i) for i, name in enumerate(NETS)}


def saved(path: Path, content: Any) -> Path:
    """What another program may have written under this name."""
    np.save(path, np.array(content, dtype=object), allow_pickle=True)
    return path


def pickled(path: Path, program: bytes) -> Path:
    """An `.npy` whose pickle is this program."""
    file = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(file, header)
    path.write_bytes(file.getvalue() + program)
    return path


def told(path: Path) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(UserError) as caught:
        layouts.read(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert sentence.endswith((".", "?"))
    assert "\n" not in sentence
    assert len(sentence) < 400
    return sentence


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_ipazcs_layout_gives_back_what_went_in(tmp_path_factory: Any, seed: int) -> None:
    path = tmp_path_factory.mktemp("layout") / "mtcnn_weights.npy"
    nets = all_drawn(seed)
    layouts.write_ipazc(path, nets)
    assert list(path.parent.iterdir()) == [path]
    found = layouts.read(path)
    assert list(found) == list(NETS)
    for name, trained in nets.items():
        assert found[name].net == trained.net
        assert list(found[name].weights) == list(trained.weights)
        for key, array in trained.weights.items():
            np.testing.assert_array_equal(found[name].weights[key], array)
            assert found[name].weights[key].dtype == np.float32


def test_ipazcs_layout_is_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "mtcnn_weights.npy"
    nets = all_drawn()
    layouts.write_ipazc(path, nets)
    table = np.load(path, allow_pickle=True)
    assert (table.shape, table.dtype) == ((), object)
    content = table.tolist()
    assert list(content) == ["pnet", "rnet", "onet"]
    for name in NETS:
        assert type(content[name]) is list
        assert [array.shape for array in content[name]] == IPAZC[name]
        assert {(type(a), a.dtype.name) for a in content[name]} == {(np.ndarray, "float32")}
    # The package feeds its images transposed: rows of kernels are columns of the picture.
    held = nets["pnet"].weights["layer3/kernel"]
    np.testing.assert_array_equal(content["pnet"][3][2, 0], held[0, 2])
    np.testing.assert_array_equal(content["pnet"][-4], nets["pnet"].weights["face/kernel"])
    np.testing.assert_array_equal(content["pnet"][-2], nets["pnet"].weights["box/kernel"])
    np.testing.assert_array_equal(content["onet"][-2], nets["onet"].weights["points/kernel"])


@pytest.mark.parametrize(("name", "place", "channels"), [("rnet", 9, 64), ("onet", 12, 128)])
def test_the_first_dense_layer_takes_columns_before_rows(
    tmp_path: Path, name: NetName, place: int, channels: int
) -> None:
    path = tmp_path / "mtcnn_weights.npy"
    nets = all_drawn()
    layouts.write_ipazc(path, nets)
    written = np.load(path, allow_pickle=True).tolist()[name][place]
    held = nets[name].weights[f"layer{len(PAPER_NETS[name].layers)}/kernel"]
    for h, w, c in ((0, 1, 0), (2, 0, 5), (1, 2, channels - 1), (2, 2, 7)):
        ours, theirs = (h * 3 + w) * channels + c, (w * 3 + h) * channels + c
        np.testing.assert_array_equal(written[theirs], held[ours])


def test_training_heads_are_left_out_of_ipazcs_layout(tmp_path: Path) -> None:
    nets = all_drawn()
    nets["pnet"] = drawn(replace(PAPER_NETS["pnet"], points=True), 5)
    layouts.write_ipazc(tmp_path / "w.npy", nets)
    assert len(np.load(tmp_path / "w.npy", allow_pickle=True).tolist()["pnet"]) == 13


def test_a_file_of_one_net_gives_that_net(tmp_path: Path) -> None:
    arrays = [np.full(shape, 0.5, np.float32) for shape in IPAZC["rnet"]]
    assert list(layouts.read(saved(tmp_path / "w.npy", {"rnet": arrays}))) == ["rnet"]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_files_of_every_python_are_read(tmp_path: Path, protocol: int) -> None:
    arrays = [np.full(s, 0.5, np.float32) for s in IPAZC["pnet"]]
    table = np.array({"pnet": arrays}, dtype=object)
    path = pickled(tmp_path / "w.npy", pickle.dumps(table, protocol))
    held = layouts.read(path)["pnet"].weights["layer1/kernel"]
    assert np.all(held == 0.5)


def test_a_file_with_wide_and_foreign_numbers_is_read(tmp_path: Path) -> None:
    kinds = [">f4", "<f8", "<f2"]
    arrays = [
        np.asfortranarray(np.full(shape, i % 7, kinds[i % 3]))
        for i, shape in enumerate(IPAZC["pnet"])
    ]
    arrays[0][0, 1] = 9  # as first index the column of a picture
    held = layouts.read(saved(tmp_path / "w.npy", {"pnet": arrays}))["pnet"].weights
    values = list(held.values())
    assert [v.flat[-1] for v in values] == [i % 7 for i in range(len(arrays))]
    assert {v.dtype for v in values} == {np.dtype(np.float32)}
    assert np.all(held["layer1/kernel"][1, 0] == 9)


OWN = {
    **{f"training {name}": replace(PAPER_NETS[name], points=True) for name in NETS},
    "another": Net(24, (Layer(conv=3, padding="same", stride=2), Layer(dense=4)), points=False),
}


@pytest.mark.parametrize("net", OWN.values(), ids=OWN.keys())
def test_our_layout_gives_back_what_went_in(tmp_path: Path, net: Net) -> None:
    trained = drawn(net, 3)
    layouts.write_own(tmp_path / "weights.npz", trained)
    ((name, found),) = layouts.read(tmp_path / "weights.npz").items()
    assert PAPER_NETS[name].size == net.size
    assert found.net == net
    assert list(found.weights) == list(trained.weights)
    for key, array in trained.weights.items():
        np.testing.assert_array_equal(found.weights[key], array)


def changed(name: NetName, change: Callable[[Weights], object]) -> dict[NetName, Trained]:
    """The three nets, one of them with other arrays."""
    nets = all_drawn()
    change(nets[name].weights)
    return nets


REFUSED: list[tuple[NetName, str, Any]] = [
    ("pnet", "layer1/kernel", np.zeros((3, 3, 3, 12), np.float32)),
    ("rnet", "layer6/kernel", np.zeros((577, 128), np.float32)),
    ("onet", "points/bias", np.zeros(8, np.float32)),
    ("onet", "points/kernel", None),
    ("rnet", "prelu3/alpha", np.full((1, 1, 64), np.nan, np.float32)),
    ("onet", "box/bias", np.array([0, np.inf, 0, 0], np.float32)),
    ("pnet", "box/bias", np.array([0, 1e39, 0, 0])),  # too large for float32
    ("pnet", "face/bias", np.zeros(2, int)),
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
        layouts.write_ipazc(path, changed(name, change))
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
    ("onet", replace(PAPER_NETS["onet"], points=False), r"onet.*points/kernel"),
]


@pytest.mark.parametrize(("name", "net", "sentence"), UNFIT)
def test_a_net_that_the_layout_cannot_hold_is_refused_by_its_layer(
    tmp_path: Path, name: NetName, net: Net, sentence: str
) -> None:
    nets = all_drawn() | {name: drawn(net, 0)}
    with pytest.raises(UserError, match=sentence):
        layouts.write_ipazc(tmp_path / "w.npy", nets)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", ["own", "ipazc"])
def test_a_full_disk_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: str
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"as before")

    def half_way(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:100])
        raise OSError(errno.ENOSPC, "no space left", str(self))

    monkeypatch.setattr(Path, "write_bytes", half_way)
    with pytest.raises(OSError, match="no space left"):
        if write == "own":
            layouts.write_own(path, drawn(PAPER_NETS["pnet"], 0))
        else:
            layouts.write_ipazc(path, all_drawn())
    assert path.read_bytes() == b"as before"


ARRAYS = [np.zeros(shape, np.float32) for shape in IPAZC["pnet"]]
DAMAGED: list[tuple[Any, str]] = [
    ([ARRAYS], "dictionary of pnet, rnet and onet"),
    ({"PNet": {}}, "dictionary of pnet, rnet and onet"),
    ({"pnet": {"pnet": ARRAYS}}, "list of 13 arrays as pnet; this file has a dict of 1"),
    ({"pnet": ARRAYS[:-1]}, "list of 13 arrays as pnet; this file has a list of 12"),
    ({"pnet": None}, "list of 13 arrays as pnet"),
    ({"pnet": [*ARRAYS[:3], ARRAYS[0], *ARRAYS[4:]]}, r"pnet's array layer3/kernel should be"),
    ({"pnet": [*ARRAYS[:1], [0.0] * 10, *ARRAYS[2:]]}, "pnet's array layer1/bias.*it is list"),
    ({"pnet": [*ARRAYS[:-1], np.zeros(4, int)]}, "pnet's array box/bias.*it is int"),
    ({"pnet": [*ARRAYS[:-1], np.full(4, np.nan)]}, "pnet's array box/bias.*not finite"),
    ({"pnet": [*ARRAYS[:-1], np.full(4, None)]}, "pnet's array box/bias.*it is object"),
]


@pytest.mark.parametrize(("content", "sentence"), DAMAGED)
def test_files_of_another_structure_are_told(tmp_path: Path, content: Any, sentence: str) -> None:
    path = saved(tmp_path / "w.npy", content)
    with pytest.raises(UserError, match=sentence):
        layouts.read(path)
    told(path)


def test_files_that_are_no_weights_are_told(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    assert "no such weights file" in told(path)
    for content in (b"", b"P5 92 112", b"\x93NUMPY", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x09\x00ab"):
        path.write_bytes(content)
        assert "no weights file" in told(path)
    (tmp_path / "folder").mkdir()
    assert "cannot be read" in told(tmp_path / "folder")
    np.save(tmp_path / "plain.npy", np.zeros(5, np.float32))
    assert "one array of float32" in told(tmp_path / "plain.npy")


def test_a_truncated_file_is_told(tmp_path: Path) -> None:
    layouts.write_ipazc(tmp_path / "w.npy", all_drawn())
    layouts.write_own(tmp_path / "w.npz", drawn(PAPER_NETS["pnet"], 0))
    for name in ("w.npy", "w.npz"):
        whole = (tmp_path / name).read_bytes()
        for length in (1, 7, 60, 130, 1000, len(whole) // 2, len(whole) - 1):
            (tmp_path / "cut").write_bytes(whole[:length])
            told(tmp_path / "cut")


@pytest.mark.parametrize("name", ["w.npy", "w.npz"])
def test_a_damaged_file_is_told_or_does_no_harm(tmp_path: Path, name: str) -> None:
    net = Net(12, (Layer(conv=2),), points=False)
    layouts.write_own(tmp_path / "w.npz", drawn(net, 0))
    saved(tmp_path / "w.npy", {"pnet": ARRAYS})
    whole = (tmp_path / name).read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        spoilt = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 9)):
            spoilt[place] = rng.integers(256)
        (tmp_path / "spoilt").write_bytes(spoilt)
        try:
            layouts.read(tmp_path / "spoilt")
        except UserError:
            refused += 1
    assert refused > 0


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
    layouts.write_own(path, drawn(PAPER_NETS["pnet"], 0))
    with np.load(path) as held:
        content = dict(held) | {key.replace("__", "/"): value for key, value in change.items()}
    np.savez(path, **{key: value for key, value in content.items() if value is not None})
    return path


def test_our_layout_with_wrong_arrays_is_told(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    assert "layer1/bias should be float32 (10,); it is float32 (9,)" in told(
        resaved(path, layer1__bias=np.zeros(9, np.float32))
    )
    assert "face/kernel" in told(resaved(path, face__kernel=None))
    assert "not finite" in told(resaved(path, face__bias=np.full(2, np.nan)))
    assert "box/bias" in told(resaved(path, box__bias=np.full(4, "text")))
    layouts.write_own(path, drawn(replace(PAPER_NETS["pnet"], size=14), 0))
    assert "no net of the cascade looks at 14 pixels" in told(path)
    with zipfile.ZipFile(resaved(path, box__bias=None), "a") as archive:
        archive.writestr("box/bias", b"no array")  # numpy gives such a member as bytes
    assert "box/bias" in told(path)


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


def test_a_hostile_pickle_is_refused_without_running(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    np.load(saved(tmp_path / "w.npy", Calls(os.system, f"touch {mark}")), allow_pickle=True)
    assert mark.exists(), "what is tested here would do no harm anyway"
    mark.unlink()
    for wanted, thing in hostile(mark):
        first = [thing, *ARRAYS[1:]]
        for content in (thing, {"pnet": thing}, {"pnet": first}, {"pnet": ARRAYS, "x": [(thing,)]}):
            sentence = told(saved(tmp_path / "w.npy", content))
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
    "notes for gigabytes": (b"\x80\x04Nr\xff\xff\xff\x7f.", "more memory than it could fill"),
    "bytes for gigabytes": (
        b"\x80\x04\x8e\x00\x00\x00\x00\xff\x00\x00\x00A.",
        "expected 1095216660480 bytes",
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
from configs.errors import UserError
from models import layouts
for path in sys.argv[1:]:
    try:
        layouts.read(Path(path))
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
    held = load_npy(io.BytesIO(file.getvalue() + program), "x")
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
