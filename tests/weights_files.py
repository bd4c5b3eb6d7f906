"""Random nets, and files as others may have written them: for the tests of weights files."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtcnn_detector import architecture
from mtcnn_detector.architecture import PAPER_NETS
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, Net, NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import TrainedNet


def drawn(net: Net, seed: int = 0) -> TrainedNet:
    """A net with random weights of a sensible size."""
    rng = np.random.default_rng(seed)
    weights = {}
    for key, shape in architecture.shapes(net):
        spread = np.sqrt(2 / np.prod(shape[:-1])) if key.endswith("kernel") else 0.1
        weights[key] = rng.normal(0, spread, shape).astype(np.float32)
    return TrainedNet(net, weights)


def all_drawn(seed: int = 0) -> dict[NetName, TrainedNet]:
    """The three nets of the paper with random weights."""
    return {name: drawn(PAPER_NETS[name], seed + i) for i, name in enumerate(NETS)}


def lively(name: NetName, seed: int, net: Net | None = None) -> TrainedNet:
    """A net (the paper's) with random weights under which no output is nearly constant."""
    rng = np.random.default_rng(seed)
    net = net or PAPER_NETS[name]
    weights = {}
    for key, shape in architecture.shapes(net):
        gain = {"cls": 0.2, "box": 4, "landmarks": 4}.get(key.partition("/")[0], 2)
        spread = np.sqrt(gain / np.prod(shape[:-1]))
        weights[key] = rng.normal(0, spread, shape).astype(np.float32)
        if key.endswith(("bias", "alpha")):
            weights[key] = rng.uniform(-0.3, 0.5, shape).astype(np.float32)
    return TrainedNet(net, weights)


def without_landmarks(seed: int) -> TrainedNet:
    """`lively`'s O-Net without its landmark head."""
    trained = lively(NETS[-1], seed)
    weights = {k: v for k, v in trained.weights.items() if not k.startswith("landmarks/")}
    return TrainedNet(replace(trained.net, landmarks=False), weights)


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


def told(path: Path, length: int = 400) -> str:
    """The sentence with which a file is refused."""
    with pytest.raises(UserError) as caught:
        weight_files.read(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert sentence.endswith((".", "?"))
    assert "\n" not in sentence
    assert len(sentence) < length
    return sentence


def assert_same(found: TrainedNet, wanted: TrainedNet) -> None:
    """The same settings and bit for bit the same arrays, by the same names in the same order."""
    assert found.net == wanted.net
    assert list(found.weights) == list(wanted.weights)
    for key, array in wanted.weights.items():
        np.testing.assert_array_equal(found.weights[key], array)
        assert found.weights[key].dtype == np.float32


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

ARRAYS = [np.zeros(shape, np.float32) for shape in IPAZC["pnet"]]
