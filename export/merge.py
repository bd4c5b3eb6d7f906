"""Merges three trained nets into one export, and checks what was written by running it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.settings import ExportSettings, Settings
from export import calibration, context_check, exported_cascade, working_point
from export.deployment import Nets
from export.formats import CASCADE, FORMATS, INT8, ExportFormat
from mtcnn_detector.backend import CompiledNet, Outputs
from mtcnn_detector.cascade import Cascade
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import TrainedNet
from pipeline import folders, manifest
from pipeline.survival import require_survival

NO_LANDMARKS = "the last net has no landmark head: faces are found without landmarks"
DEFAULT = "ipazc"
AS_TRAINED = ExportSettings()  # no shifts
MIN_FOUND_AGAIN = 0.5  # fraction of the faces that int8 must find again
MAX_SHIFT, MIN_SAME_BOXES = 0.5, 0.95  # pixels, and fraction of boxes, of the exported cascade


def export_weights(
    settings: Settings,
    run: Path,
    sources: Mapping[NetName, Path] | None = None,
    force: bool = False,
    format_name: str | None = None,
    calibration_images: Path | None = None,
) -> None:
    """Export a run's nets as its recipe says; the run is locked meanwhile. See `merge`.

    Args:
        settings: the recipe: its layout, where no format is named, and its shifts.
        run: the run's folder, which also receives the export.
        sources: weights files, or folders of them, to take nets from instead of the run.
        force: replace an earlier export.
        format_name: a key of `FORMATS`; None: the recipe's `export.layout`.
        calibration_images: for int8: a folder of images with faces.

    Raises:
        UserError: as `merge`; too few faces survive the run's nets; or there is no such format
            or net.
    """
    name = format_name or settings.export.layout
    _refuse_unknown("format", name, FORMATS)
    for net in sources or {}:
        _refuse_unknown("net", net, NETS)
    if not sources:
        require_survival(run, NETS[-1], settings.data.min_survival)
    with folders.locked(run):
        merge(run, sources or {}, force, name, calibration_images, settings.export)
    for sentence in context_check.mismatches(settings, sources or {}):
        print(f"export-weights: note: {sentence}")


def merge(
    run: Path,
    sources: Mapping[NetName, Path],
    force: bool,
    format_name: str = DEFAULT,
    calibration_images: Path | None = None,
    settings: ExportSettings = AS_TRAINED,
) -> None:
    """Write the run's nets, or those of other files in their place, in one of `FORMATS`.

    Args:
        run: the run's folder, which also receives the export.
        sources: weights files, or folders of them, to take nets from instead of the run.
        force: replace an earlier export.
        format_name: a key of `FORMATS`.
        calibration_images: for int8: a folder of images with faces.
        settings: the recipe's shifts of the run's own nets; those of other files stay as they are.

    Raises:
        UserError: a net is missing, the format cannot hold it, or the written file differs.
    """
    if (format_name == INT8) != (calibration_images is not None):
        raise UserError(
            f"{INT8} and no other format needs CALIBRATION=, a folder of images with faces."
        )
    export_format = FORMATS[format_name]
    paths = _paths(run, sources)
    own = [name for name in NETS if name not in sources]
    moved = {name: found for name in own if (found := working_point.shifts(name, settings))}
    nets = {name: weight_files.read_net(path, name) for name, path in paths.items()}
    nets |= {name: working_point.shifted(nets[name], name, settings) for name in moved}
    recipe = _input_digests(paths, calibration_images) | ({"shifts": moved} if moved else {})
    stage = _stage(run, recipe, sources, format_name, calibration_images)
    target = run / export_format.target
    made = (manifest.read_manifest(stage.folder) or {}).get("made")
    if not force:
        _refuse_unless_exported(target, made, stage)
    if not stage.begin(force or not target.exists()):
        return
    stage.note({"made": made})  # where this export fails, the target is what the last one made
    draft = stage.folder / target.name
    facts, summary = _write(draft, format_name, nets, calibration_images)
    stage.note({"made": manifest.digest_tree(draft)})
    folders.replace(draft, target)
    stage.finish(_facts(target, paths, calibration_images, nets) | facts)
    command = stage.command + (f" FORMAT={format_name}" if format_name != DEFAULT else "")
    print(f"{command}: {target}; {summary} {export_format.usage.format(target)}")
    if not nets[NETS[-1]].net.landmarks:
        print(f"{command}: note: {NO_LANDMARKS}{export_format.without_landmarks}.")


def _refuse_unknown(kind: str, word: str, known: Iterable[str]) -> None:
    """Refuse a word of a script that the command line would not have taken."""
    if word not in known:
        raise UserError(f"there is no {kind} {word!r}; one of {', '.join(known)} is meant.")


def _facts(
    target: Path,
    paths: Mapping[NetName, Path],
    calibration_images: Path | None,
    nets: Mapping[NetName, TrainedNet],
) -> dict[str, Any]:
    """What the manifest says of the written file and of where it is from."""
    sources: dict[str, str] = {name: str(path) for name, path in paths.items()}
    if calibration_images is not None:
        sources["calibration"] = str(calibration_images)
    facts: dict[str, Any] = {
        "file": str(target),
        "made": manifest.digest_tree(target),
        "from": sources,
    }
    return facts if nets[NETS[-1]].net.landmarks else facts | {"landmarks": False}


def _stage(
    run: Path,
    recipe: Mapping[str, Any],
    sources: Mapping[NetName, Path],
    format_name: str,
    calibration_images: Path | None,
) -> manifest.Stage:
    """The export's folder, one for each format, and the command that makes it."""
    suffix = "" if format_name == DEFAULT else f"-{format_name}"
    variables = {"FORMAT": format_name} if suffix else {}
    variables |= {name.upper(): str(path) for name, path in sources.items()}
    if calibration_images is not None:
        variables["CALIBRATION"] = str(calibration_images)
    return manifest.Stage(run / f"export{suffix}", recipe, "export-weights", variables)


def _paths(run: Path, sources: Mapping[NetName, Path]) -> dict[NetName, Path]:
    """The weights file of each net; raises `UserError` where the run's own is not complete."""
    for name in NETS:
        if name not in sources:
            manifest.require_complete(run / name, f"train-{name}")
    return {name: sources.get(name, run / name / "weights.npz") for name in NETS}


def _input_digests(
    paths: Mapping[NetName, Path], calibration_images: Path | None
) -> dict[str, Any]:
    """Digests of the files that decide the content of the export, wherever they lie."""
    inputs: dict[str, list[Path]] = {n: weight_files.files(path) for n, path in paths.items()}
    if calibration_images is not None:
        inputs["calibration"] = calibration.image_files(calibration_images)
    return {name: manifest.digest(files)[:16] for name, files in inputs.items()}


def _refuse_unless_exported(target: Path, made: str | None, stage: manifest.Stage) -> None:
    """Keep a file that no export made, or that was changed since; `made` is the digest of one."""
    if target.exists() and made != manifest.digest_tree(target):
        raise UserError(
            f"{target} was not made by an export, or was changed since: move it away, or replace "
            f"it by `{stage.again}`."
        )


def _write(
    draft: Path, format_name: str, nets: Nets, calibration_images: Path | None
) -> tuple[dict[str, Any], str]:
    """Write the nets and check what was written; facts for the manifest, and a sentence."""
    if calibration_images is not None:
        return _write_calibrated(draft, FORMATS[format_name], nets, calibration_images)
    if format_name == CASCADE:
        return _write_cascade(draft, FORMATS[format_name], nets)
    return _write_nets(draft, FORMATS[format_name], nets)


def _write_nets(draft: Path, export_format: ExportFormat, nets: Nets) -> tuple[dict[str, Any], str]:
    """Write the nets and compare outputs; as `_write`."""
    export_format.write(draft, nets, {})
    difference = _max_difference(draft, export_format, nets)
    if not difference <= export_format.tolerance:
        raise UserError(f"{draft}: the written file differs from the nets by {difference:.1e}.")
    summary = f"run again from there, its outputs differ by {difference:.1e} at most."
    return {"difference": difference}, summary


def _write_calibrated(
    draft: Path, export_format: ExportFormat, nets: Nets, calibration_images: Path
) -> tuple[dict[str, Any], str]:
    """Write int8 nets and compare the faces that they find; as `_write`."""
    images = calibration.read_images(calibration_images)
    export_format.write(draft, nets, calibration.batches(nets, images))
    counts = exported_cascade.compare(nets, lambda name: export_format.load(draft, name), images)
    if not counts.before:
        raise UserError(
            f"no face is found on the {len(images)} images of CALIBRATION=, so int8 cannot be "
            "checked: name a folder of images with faces."
        )
    if counts.both < MIN_FOUND_AGAIN * counts.before:
        raise UserError(
            f"{draft}: of {counts.before} faces on {len(images)} images only {counts.both} are "
            "found again: name other images by CALIBRATION=, like those it is for, or another "
            "FORMAT=."
        )
    summary = (
        f"{counts.both} of {counts.before} faces on {len(images)} images are found as before, "
        f"and {counts.after - counts.both} others."
    )
    return counts._asdict(), summary


def _write_cascade(
    draft: Path, export_format: ExportFormat, nets: Nets
) -> tuple[dict[str, Any], str]:
    """Write the cascade and compare its faces with ours on a random image; as `_write`."""
    from export.tensorflow_cascade import load_cascade

    export_format.write(draft, nets, {})
    size = nets[NETS[0]].net.size
    # Thresholds of 0, for many boxes; one level at scale 1, which is resized nowhere.
    settings = DetectorSettings(size, 0.01, (0.0, 0.0, 0.0))
    image = np.random.default_rng(0).integers(0, 256, (4 * size, 6 * size, 3), np.uint8)
    expected = Cascade(nets, settings).detect(image).boxes
    found = load_cascade(draft)(image, settings).boxes
    differences = np.abs(expected[:, None] - found[None]).max(axis=2)
    again = int((differences.min(axis=1, initial=np.inf) <= MAX_SHIFT).sum())
    if len(found) != len(expected) or again < MIN_SAME_BOXES * len(expected):
        raise UserError(
            f"{draft}: the written cascade finds {len(found)} boxes on a random image, {again} of "
            f"the {len(expected)} that our detector finds."
        )
    summary = f"on a random image it finds {again} of {len(expected)} boxes as our detector."
    return {"boxes": len(expected), "same": again}, summary


def _max_difference(path: Path, export_format: ExportFormat, nets: Nets) -> float:
    """The maximum absolute difference of outputs before and after, on random pixels."""
    largest = 0.0
    for name in NETS:
        before, after = CompiledNet(name, nets[name]), export_format.load(path, name)
        for pixels in _random_pixels(nets[name]):
            expected, outputs = before(pixels), after(pixels)
            if (expected.landmarks is None) != (outputs.landmarks is None):
                raise UserError(f"{path}: the written file has lost or gained {name}'s landmarks.")
            largest = max(largest, _difference(expected, outputs))
    return largest


def _difference(outputs: Outputs, others: Outputs) -> float:
    pairs = zip(outputs, others, strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs if a is not None and b is not None)


def _random_pixels(trained: TrainedNet) -> list[NDArray[np.uint8]]:
    """Crops; and for a net that runs over images an image that is not square."""
    size, rng = trained.net.size, np.random.default_rng(0)
    shapes = [(64, size, size, 3)]
    if trained.net.convolutional:
        shapes.append((1, 3 * size + 1, 5 * size, 3))
    return [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
