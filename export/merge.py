"""Three nets, from wherever they come, into what ipazc's mtcnn 0.1.x or our detector loads."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from configs import stages
from configs.errors import UserError
from configs.settings import NETS, NetName
from models import layouts
from models.engine import Engine
from models.layouts import Trained

TOLERANCE = 1e-5


class Target(NamedTuple):
    """What an export makes."""

    name: str  # in the run's folder
    write: Callable[[Path, Mapping[NetName, Trained]], None]
    use: str


TARGETS = {
    "ipazc": Target(
        "mtcnn_weights.npy", layouts.write_ipazc, "MTCNN(weights_file={path!r}) loads it"
    ),
    "own": Target(
        "mtcnn_weights",
        layouts.write_own_folder,
        "`python -m models --weights {path}` detects with it, no other package can",
    ),
}


def merge(run: Path, given: Mapping[NetName, Path], force: bool, layout: str = "ipazc") -> None:
    """Write one of `TARGETS` from the run's nets, or from the files given instead.

    Raises:
        UserError: a net is missing, the layout cannot hold it, or the written file differs.
    """
    sources = {name: given.get(name, run / name / "weights.npz") for name in NETS}
    for name in NETS:
        if name not in given:
            stages.require(run / name, f"train-{name}")
    trained = {name: _net_of(name, sources[name]) for name in NETS}
    recipe: dict[str, Any] = {
        name: {"file": str(path), "sha256": stages.digest([path])[:16]}
        for name, path in sources.items()
    }
    made = TARGETS[layout]
    stage = stages.Stage(run / "export", recipe, "export-weights")
    target = run / made.name
    if not stage.begin(force or not target.exists()):
        return
    draft = stage.folder / target.name
    made.write(draft, trained)
    difference = _check(draft, trained)
    if target.is_dir():
        shutil.rmtree(target)  # what nets of the same recipe made
    draft.replace(target)
    stage.finish({"file": str(target), "difference": difference})
    print(
        f"export-weights: {target}; read back, its outputs differ by {difference:.1e} at most. "
        f"{made.use.format(path=str(target))}."
    )


def _net_of(name: NetName, path: Path) -> Trained:
    found = layouts.read(path)
    if name not in found:
        raise UserError(f"{path} holds {', '.join(found)}, but no {name}.")
    return found[name]


def _check(path: Path, trained: Mapping[NetName, Trained]) -> float:
    """The largest difference between the nets before and after the file, on random pixels."""
    written = layouts.read(path)
    worst = 0.0
    for name in NETS:
        size = trained[name].net.size
        crops = np.random.default_rng(0).integers(0, 256, (64, size, size, 3), np.uint8)
        before, after = (Engine(name, nets[name])(crops) for nets in (trained, written))
        for a, b in zip(before, after, strict=True):
            if a is not None and b is not None:
                worst = max(worst, float(np.abs(a - b).max()))
    if not worst <= TOLERANCE:
        raise UserError(f"{path}: what was written differs from the nets by {worst:.1e}.")
    return worst
