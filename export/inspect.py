"""Describes a weights file: layout, nets, arrays, whether our checks pass, possible exports."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from export.formats import FORMATS
from mtcnn_detector import exported
from mtcnn_detector.architecture import cell_map
from mtcnn_detector.backend import CompiledNet, Outputs
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, Net, NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.layout_detection import Found
from mtcnn_detector.weights.net_weights import refuse_unless_paper_net
from mtcnn_detector.weights.weight_files import LAYOUTS, TrainedNet

MIN_SPREAD = 1e-6  # of an output over different inputs
NO_LANDMARKS = "  no landmark head: a detector finds faces without landmarks"
OUTPUTS_VARY = "its outputs are finite numbers that change with the pixels"


def inspect(path: Path) -> bool:
    """Print the description; whether all checks pass.

    Raises:
        UserError: the file is of no known layout; the sentence names the most similar one.
    """
    if exported.is_export(path):
        return _inspect_exported(path)
    nets = weight_files.look(path)
    for file in weight_files.files(path):
        print(f"{file}: {file.stat().st_size:,} bytes, read without running anything in it")
    passed = True
    for name, found in nets.items():
        print("\n".join(_description(name, found)))
        checks = {
            "written in its layout and read again it is the same": partial(
                _refuse_unless_same_when_written, name, found
            ),
            OUTPUTS_VARY: partial(_refuse_unless_outputs_vary, CompiledNet(name, found.trained)),
        }
        passed = _run_checks(checks) and passed
    print(_possible_exports(nets))
    return passed


def _inspect_exported(path: Path) -> bool:
    """`inspect` of a folder of ONNX, LiteRT or SavedModel nets."""
    passed = True
    for name, net in exported.load(path).items():
        model = exported.model_path(path, name) or path
        heads = ", ".join(
            head for head, values in _on_noise(net)._asdict().items() if values is not None
        )
        kind = "SavedModel" if model.is_dir() else model.suffix[1:]
        print(f"{name}: {model}, an exported net ({kind}); {net.net.size} pixels, gives {heads}")
        if _lacks_landmarks(name, net.net):
            print(NO_LANDMARKS)
        if net.net.convolutional:
            print(_cells(net.net))
        passed = _run_checks({OUTPUTS_VARY: partial(_refuse_unless_outputs_vary, net)}) and passed
    print("weights cannot be taken out of an exported net: export the run anew in another format")
    return passed


def _description(name: NetName, found: Found) -> Iterator[str]:
    net, weights = found.trained
    count = sum(array.size for array in weights.values())
    owner = LAYOUTS[found.layout].owner if found.layout in LAYOUTS else "our own"
    yield f"{name}: {owner} layout; {len(weights)} arrays, {count:,} numbers, {net.size} pixels"
    if net.convolutional:
        yield _cells(net)
    if _lacks_landmarks(name, net):
        yield NO_LANDMARKS + "; its arrays in the file are zeros" * (found.layout in LAYOUTS)
    for key, array in weights.items():
        low, high = float(array.min()), float(array.max())
        yield f"  {key:<16} {array.shape!s:<18} {low:+.3f} to {high:+.3f}"


def _lacks_landmarks(name: NetName, net: Net) -> bool:
    return name == NETS[-1] and not net.landmarks


def _cells(net: Net) -> str:
    cells = cell_map(net, net.size)
    return f"  a cell of its map sees {cells.size} pixels from {cells.offset} + {cells.stride} x"


def _run_checks(checks: Mapping[str, Callable[[], None]]) -> bool:
    """Print the result of each check; whether all pass."""
    passed = True
    for title, check in checks.items():
        try:
            check()
        except UserError as error:
            print(f"  FAILED: {title}: {error}")
            passed = False
        else:
            print(f"  ok: {title}")
    return passed


def _refuse_unless_same_when_written(name: NetName, found: Found) -> None:
    trained = found.trained
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights"
        if found.layout in LAYOUTS:
            path.write_bytes(_serialized(name, trained, found.layout))
        else:
            weight_files.write_own(path, trained, name)
        again = weight_files.read(path)[name]
    for key, array in trained.weights.items():
        if not np.array_equal(again.weights[key], array):
            raise UserError(f"{key} differs")


def _serialized(name: NetName, trained: TrainedNet, layout: str) -> bytes:
    target = LAYOUTS[layout]
    part = target.part(name, trained)
    return target.dump({target.keys[name]: part} if target.keys else part)


def _refuse_unless_outputs_vary(net: CompiledNet) -> None:
    for head, values in _on_noise(net)._asdict().items():
        if values is None:
            continue
        if not np.isfinite(values).all():
            raise UserError(f"{head} has values that are not finite")
        if np.ptp(values, axis=0).max() < MIN_SPREAD:
            raise UserError(f"{head} is the same for all pixels")


def _on_noise(net: CompiledNet) -> Outputs:
    """Outputs on 32 random crops, each of another contrast."""
    size = net.net.size
    noise = np.random.default_rng(0).integers(0, 256, (32, size, size, 3), np.uint8)
    return net(noise // np.arange(1, 33, dtype=np.uint8)[:, None, None, None])


def _possible_exports(nets: dict[NetName, Found]) -> str:
    """Which formats can hold the nets, and why the others cannot."""
    reasons = {}
    for key in FORMATS:
        for name, found in nets.items():
            try:
                if key in LAYOUTS:
                    refuse_unless_paper_net(LAYOUTS[key].owner, name, found.trained.net)
            except UserError as error:
                reasons[key] = str(error)
    lines = [f"can be part of an export as {', '.join(k for k in FORMATS if k not in reasons)}"]
    lines += [f"not as {key}: {reason}" for key, reason in reasons.items()]
    return "\n".join(lines)
