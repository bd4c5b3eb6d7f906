"""Three nets, from wherever they come, into the files that other packages load."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from export import calibration
from export.formats import FORMATS, INT8, Format, Nets
from mtcnn_detector.backend import CompiledNet
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import TrainedNet
from pipeline import manifest

DEFAULT = "ipazc"
LEAST = 0.5  # share of the faces that int8 must find again


def merge(
    run: Path,
    given: Mapping[NetName, Path],
    force: bool,
    kind: str = DEFAULT,
    pictures: Path | None = None,
) -> None:
    """Write the run's nets, or those of the files given instead, in one of `FORMATS`.

    Args:
        run: the run's folder, in which the result lies too.
        given: weights files, or folders of them, to take nets from.
        force: replace an earlier export.
        kind: which format.
        pictures: a folder of pictures for int8, which takes the ranges of its values from them.

    Raises:
        UserError: a net is missing, the format cannot hold it, or the written file differs.
    """
    form, suffix = FORMATS[kind], "" if kind == DEFAULT else f"-{kind}"
    sources = {name: given.get(name, run / name / "weights.npz") for name in NETS}
    for name in NETS:
        if name not in given:
            manifest.require(run / name, f"train-{name}")
    if (kind == INT8) != (pictures is not None):
        raise UserError(
            f"{INT8} and no other format needs PICTURES=, a folder of pictures with faces."
        )
    trained = {name: weight_files.read_net(sources[name], name) for name in NETS}
    command = "export-weights" + (f" FORMAT={kind}" if suffix else "")
    stage = manifest.Stage(run / f"export{suffix}", _recipe(sources, pictures), command)
    target, made = run / form.target, manifest.read_manifest(stage.folder)
    # A stage that was killed may have written it already.
    ours = made is not None and made.get("made") in (None, manifest.digest_of(target))
    if target.exists() and not ours and not force:
        raise UserError(
            f"{target} was not made by an export, or was changed since: move it away, or replace "
            f"it by `make {command} FORCE=1`."
        )
    if not stage.begin(force or not target.exists()):
        return
    draft = stage.folder / target.name
    facts, told = _written(draft, form, trained, pictures)
    manifest.put(draft, target)
    files = {name: str(path) for name, path in sources.items()}
    stage.finish({"file": str(target), "made": manifest.digest_of(target), "from": files, **facts})
    print(f"{command}: {target}; {told} {form.loads.format(target)}")


def _recipe(sources: Mapping[NetName, Path], pictures: Path | None) -> dict[str, Any]:
    """What decides the content of what is written, wherever it lies."""
    inputs: dict[str, list[Path]] = {n: weight_files.files(path) for n, path in sources.items()}
    if pictures is not None:
        inputs |= {"pictures": calibration.chosen(pictures)}
    return {name: manifest.digest(paths)[:16] for name, paths in inputs.items()}


def _written(
    draft: Path, form: Format, trained: Nets, pictures: Path | None
) -> tuple[dict[str, Any], str]:
    """Write the nets and run what was written: what the manifest and the person are told."""
    if pictures is None:
        form.write(draft, trained, {})
        difference = _check(draft, form, trained)
        told = f"run again from there, its outputs differ by {difference:.1e} at most."
        return {"difference": difference}, told
    images = calibration.read_pictures(pictures)
    form.write(draft, trained, calibration.seen_by(trained, images))
    same = calibration.compare(trained, lambda name: form.runner(draft, name), images)
    if same.both < LEAST * same.before:
        raise UserError(
            f"{draft}: of {same.before} faces on {len(images)} pictures only {same.both} are found "
            "again: give other PICTURES=, like those that it is for, or another FORMAT=."
        )
    return same._asdict(), f"{same.both} of {same.before} faces on {len(images)} pictures are " + (
        f"found as before, and {same.after - same.both} others."
    )


def _check(path: Path, form: Format, trained: Nets) -> float:
    """The largest difference between the nets before and after, on random pixels."""
    worst = 0.0
    for name in NETS:
        before, after = CompiledNet(name, trained[name]), form.runner(path, name)
        for pixels in _random_pixels(trained[name]):
            for a, b in zip(before(pixels), after(pixels), strict=True):
                if (a is None) != (b is None):
                    raise UserError(
                        f"{path}: what was written has lost or gained {name}'s landmarks."
                    )
                if a is not None and b is not None:
                    worst = max(worst, float(np.abs(a - b).max()))
    if not worst <= form.tolerance:
        raise UserError(f"{path}: what was written differs from the nets by {worst:.1e}.")
    return worst


def _random_pixels(trained: TrainedNet) -> list[np.ndarray[Any, Any]]:
    """Crops, and a picture that is not square for a net that runs over pictures."""
    size, rng = trained.net.size, np.random.default_rng(0)
    shapes = [(64, size, size, 3)]
    if trained.net.convolutional:
        shapes.append((1, 3 * size + 1, 5 * size, 3))
    return [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
