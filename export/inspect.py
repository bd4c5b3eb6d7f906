"""Tells what a weights file is: whose layout, which nets, their shapes, whether our checks pass."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from export.formats import FORMATS
from mtcnn_detector.architecture import cell_map
from mtcnn_detector.backend import CompiledNet
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.external_layouts import Layout
from mtcnn_detector.weights.layout_detection import Found
from mtcnn_detector.weights.net_weights import refuse_unless_paper_net
from mtcnn_detector.weights.weight_files import LAYOUTS, TrainedNet


def inspect(path: Path) -> bool:
    """Print it; whether all checks pass.

    Raises:
        UserError: the file is of no known layout; the sentence says what it resembles.
    """
    found = weight_files.look(path)
    for file in weight_files.files(path):
        print(f"{file}: {file.stat().st_size:,} bytes, read without running anything in it")
    passed = True
    for name, held in found.items():
        print("\n".join(_described(name, held)))
        for check, fault in _checks(name, held):
            print(f"  ok: {check}" if fault is None else f"  FAILED: {check}: {fault}")
            passed = passed and fault is None
    print(_told_together(found))
    return passed


def _described(name: NetName, held: Found) -> Iterator[str]:
    net, weights = held.trained
    count = sum(array.size for array in weights.values())
    whose = LAYOUTS[held.layout].whose if held.layout in LAYOUTS else "our own"
    yield f"{name}: {whose} layout; {len(weights)} arrays, {count:,} numbers, {net.size} pixels"
    if net.convolutional:
        cells = cell_map(net, net.size)
        yield f"  a cell of its map sees {cells.size} pixels from {cells.offset} + {cells.stride} x"
    for key, array in weights.items():
        low, high = float(array.min()), float(array.max())
        yield f"  {key:<16} {array.shape!s:<18} {low:+.3f} to {high:+.3f}"


def _checks(name: NetName, held: Found) -> Iterator[tuple[str, str | None]]:
    """Each check, and what is wrong if it fails."""
    checks: dict[str, Callable[[NetName, TrainedNet, str], None]] = {
        "written in its layout and read again it is the same": _same_again,
        "its outputs are finite numbers that change with the pixels": _speaks,
    }
    for told, check in checks.items():
        try:
            check(name, held.trained, held.layout)
        except UserError as error:
            yield told, str(error)
        else:
            yield told, None


def _same_again(name: NetName, trained: TrainedNet, layout: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        if layout in LAYOUTS:
            content = LAYOUTS[layout].part(name, trained)
            path.write_bytes(_dumped(LAYOUTS[layout], name, content))
        else:
            weight_files.write_own(path, trained, name)
        again = weight_files.read(path)[name]
    for key, array in trained.weights.items():
        if not np.array_equal(again.weights[key], array):
            raise UserError(f"{key} differs")


def _dumped(layout: Layout, name: NetName, part: object) -> bytes:
    return layout.dump({layout.keys[name]: part} if layout.keys else part)


def _speaks(name: NetName, trained: TrainedNet, _: str) -> None:
    size = trained.net.size
    crops = np.random.default_rng(0).integers(0, 256, (32, size, size, 3), np.uint8)
    outputs = CompiledNet(name, trained)(
        crops // np.arange(1, 33, dtype=np.uint8)[:, None, None, None]
    )
    for head, values in outputs._asdict().items():
        if values is None:
            continue
        if not np.isfinite(values).all():
            raise UserError(f"{head} has values that are not finite")
        if np.ptp(values, axis=0).max() < 1e-6:
            raise UserError(f"{head} is the same for all pixels")


def _told_together(found: dict[NetName, Found]) -> str:
    unfit = {}
    for key in FORMATS:
        for name, held in found.items():
            try:
                if key in LAYOUTS:
                    refuse_unless_paper_net(LAYOUTS[key].whose, name, held.trained.net)
            except UserError as error:
                unfit[key] = str(error)
    lines = [f"can be part of an export as {', '.join(key for key in FORMATS if key not in unfit)}"]
    lines += [f"not as {key}: {reason}" for key, reason in unfit.items()]
    return "\n".join(lines)
