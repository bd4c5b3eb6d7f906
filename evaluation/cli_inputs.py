"""Inputs of an evaluation from the command line: weights, weights to compare with, own labels."""

import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from configs import recipe
from data_prep.readers import READERS
from data_prep.readers.detection import likely_format
from evaluation.detections import digest_weights
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from pipeline import manifest
from pipeline.make_command import make_command

SHIPPED = Path("mtcnn/data/mtcnn_weights.npy")  # inside an installation of mtcnn 0.1.1
CONSUMER = Path(__file__).parents[1] / ".consumers" / "mtcnn-0.1.1"
ONE_FACE_FORMATS = ("mtfl", "celeba")  # one labelled face per image, whoever else is on it


def weights_files(weights: Path, against: str | None) -> dict[str, Path]:
    """The weights to compare, by the labels of their columns; `weights` first.

    Args:
        weights: The file, or folder of files, under evaluation.
        against: A file to compare with; None for the one that mtcnn 0.1.1 ships, where it is
            found; `none` for no comparison.

    Raises:
        UserError: a named file is missing, or an export is older than the nets of its run.
    """
    _require_file(weights, "WEIGHTS")
    label = _label(weights)
    other = shipped() if against is None else Path(against)
    if against == "none" or other is None:
        return {label: weights}
    _require_file(other, "AGAINST")
    if digest_weights(weights) == digest_weights(other):
        return {label: weights}
    other_label = "mtcnn 0.1.1" if against is None else _label(other)
    if label == other_label:
        return {str(weights): weights, str(other): other}
    return {label: weights, other_label: other}


def _label(weights: Path) -> str:
    """The name of the file; of a run's export, which is always of one name, the run's before it."""
    run = weights.resolve().parent.name
    return f"{run}/{weights.name}" if weights.stem == "mtcnn_weights" else weights.name


def exported(run: Path) -> Path:
    """The file that `make export-weights` writes, or the folder of the `own` layout."""
    file, folder = run / "mtcnn_weights.npy", run / "mtcnn_weights"
    return folder if folder.exists() and not file.exists() else file


def refuse_stale(weights: Path) -> None:
    """Refuse an export that is older than the nets of the run it lies in.

    Raises:
        UserError: the run's nets have changed since; holds the command that exports them anew.
    """
    run = weights.parent
    for folder in sorted(run.glob("export*")):
        made = manifest.read_manifest(folder)
        if made is None or Path(made.get("file", "")).name != weights.name:
            continue
        if changed := list(_changed_nets(run, made)):
            format = folder.name.removeprefix("export").removeprefix("-") or None
            others = {net.upper(): source for net, source in _other_sources(run, made).items()}
            if calibration := made.get("from", {}).get("calibration"):
                others["CALIBRATION"] = calibration
            again = make_command("export-weights", False, RUN=run, FORMAT=format, **others, FORCE=1)
            raise UserError(
                f"{weights} was exported before {', '.join(changed)} of {run} were trained as "
                f"they are now: `{again}` exports them anew."
            )


def _changed_nets(run: Path, made: dict[str, Any]) -> Iterator[str]:
    """The nets of the run whose weights are not those that were exported."""
    others = _other_sources(run, made)
    for net in NETS:
        own = run / net / "weights.npz"
        if net in others or not own.exists():
            continue
        if manifest.digest([own])[:16] != made["recipe"].get(net):
            yield net


def _other_sources(run: Path, made: dict[str, Any]) -> dict[NetName, Path]:
    """The files of the nets that were not the run's own; a run may have been moved since."""
    others: dict[NetName, Path] = {}
    for net in NETS:
        own, source = run / net / "weights.npz", Path(made.get("from", {}).get(net, ""))
        same = own.exists() and source.exists() and source.samefile(own)
        if source.name != own.name or (source.exists() and not same):
            others[net] = source
    return others


def _require_file(path: Path, variable: str) -> None:
    if not path.exists():
        raise UserError(
            f"{path} is not there: `{make_command('export-weights')}` writes a run's weights, "
            f"{variable}= names other ones."
        )
    refuse_stale(path)


def shipped() -> Path | None:
    """The weights that mtcnn 0.1.1 ships, where it is installed or in `.consumers`."""
    package = importlib.util.find_spec("mtcnn")
    folders = [CONSUMER]
    if package is not None and package.origin is not None:
        folders.append(Path(package.origin).parents[1])
    return next((folder / SHIPPED for folder in folders if (folder / SHIPPED).is_file()), None)


def overrides(
    data: Path | None, labels: Path | None, images: Path | None, labels_format: str | None
) -> list[str]:
    """The settings, as `key.path=value`, that evaluate other data in place of the recipe's.

    Args:
        data: A folder laid out as the recipe's `data.folder`; None for the recipe's.
        labels: A labels file, which takes the place of all sources; None for the recipe's.
        images: The folder that the listed paths are relative to; None for that of the labels.
        labels_format: The format of the labels; None to recognise it by the file's first lines.

    Raises:
        UserError: the data or labels are missing, or the labels' format is not recognised; or
            `images` or `labels_format` come without `labels`.
    """
    if labels is None and (images or labels_format):
        raise UserError("IMAGES= and LABELS_FORMAT= describe LABELS=, a labels file: name it, too.")
    if data is not None and not data.is_dir():
        raise UserError(f"DATA={data} is not a folder; LABELS= names a labels file.")
    settings = [] if data is None else [f"data.folder={json.dumps(str(data))}"]
    if labels is None:
        return settings
    if not labels.exists():
        raise UserError(f"LABELS={labels} is not there: it names a labels file or folder.")
    format = labels_format or likely_format(labels)
    if format is None:
        known = ", ".join(READERS)
        raise UserError(
            f"cannot tell the format of {labels}: LABELS_FORMAT= names it, one of {known}."
        )
    source: dict[str, Any] = {"format": format, "labels": str(labels.resolve())}
    source["images"] = str((images or labels.parent).resolve())
    if format in ONE_FACE_FORMATS:
        source["sample_types"] = ["landmark"]
    return [*settings, f"data.validation={json.dumps({source_name(labels): source})}"]


def source_name(labels: Path) -> str:
    """The name of the source that `LABELS=` makes, which settings can be named by."""
    named = labels if labels.name not in ("", "..") else labels.resolve()  # `.` has no name
    return re.sub(r"[^\w-]+", "-", named.stem)


def of_labels(settings: Sequence[str], labels: Path | None) -> tuple[list[str], list[str]]:
    """Settings apart: those of the run, and those that describe the source of `LABELS=`."""
    own = "" if labels is None else f"data.validation.{source_name(labels)}."
    every = recipe.split_overrides(settings)
    described = [one for one in every if own and one.startswith(own)]
    return [one for one in every if one not in described], described
