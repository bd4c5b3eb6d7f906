"""What is evaluated, as the command line names it: weights, other weights, an own data set."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from data_prep.annotations import likely_format
from data_prep.formats import READERS
from mtcnn_detector.errors import UserError
from mtcnn_detector.weights import weight_files
from pipeline import manifest

SHIPPED = Path("mtcnn/data/mtcnn_weights.npy")  # within the folder that mtcnn 0.1.1 lies in
CONSUMER = Path(__file__).parents[1] / ".consumers" / "mtcnn-0.1.1"
POINT_FORMATS = ("mtfl", "celeba")  # one labelled face a picture, whoever else is on it


def weights_files(weights: Path, against: str | None) -> dict[str, Path]:
    """The files to put side by side, by the labels of their columns, the one asked for first.

    Args:
        weights: The file that the figures are about.
        against: The file to stand beside it; None for the one that mtcnn 0.1.1 ships, where it
            is found; `none` for no other.

    Raises:
        UserError: a file that was named is missing.
    """
    _require_file(weights, "WEIGHTS")
    if against == "none":
        return {weights.name: weights}
    other = shipped() if against is None else Path(against)
    if other is None:
        return {weights.name: weights}
    _require_file(other, "AGAINST")
    if _digest(weights) == _digest(other):
        return {weights.name: weights}
    label = "mtcnn 0.1.1" if against is None else other.name
    same = label == weights.name
    return {str(weights) if same else weights.name: weights, str(other) if same else label: other}


def exported(run: Path) -> Path:
    """What `make export-weights` made: the package's file, or the folder of our own layout."""
    file, folder = run / "mtcnn_weights.npy", run / "mtcnn_weights"
    return folder if folder.exists() and not file.exists() else file


def _require_file(path: Path, variable: str) -> None:
    if not path.exists():
        raise UserError(
            f"{path} is not there: `make export-weights` writes a run's weights, "
            f"{variable}= names other ones."
        )


def _digest(weights: Path) -> str:
    return manifest.digest(weight_files.files(weights))


def shipped() -> Path | None:
    """The weights that mtcnn 0.1.1 ships, where it is installed or lies in `.consumers`."""
    package = importlib.util.find_spec("mtcnn")
    folders = [CONSUMER]
    if package is not None and package.origin is not None:
        folders.append(Path(package.origin).parents[1])
    return next((folder / SHIPPED for folder in folders if (folder / SHIPPED).is_file()), None)


def overrides(data: Path | None, images: Path | None, format: str | None) -> list[str]:
    """The settings, as `key.path=value`, that evaluate an own data set in place of the recipe's.

    Args:
        data: A labels file; or a folder laid out as the recipe's `data.folder`; None: the recipe's.
        images: The folder that the listed paths are relative to; None for that of the labels.
        format: The labels' format; None to tell it from the file.

    Raises:
        UserError: the labels are missing, or their format cannot be told; or there are none that
            the other two could belong to.
    """
    if (data is None or data.is_dir()) and (images or format):
        raise UserError("IMAGES= and FORMAT= say more about DATA=, a labels file: name it, too.")
    if data is None:
        return []
    if data.is_dir():
        return [f"data.folder={json.dumps(str(data))}"]
    if not data.is_file():
        raise UserError(f"DATA={data} is not there: it names a labels file, or a data folder.")
    format = format or likely_format(data)
    if format is None:
        known = ", ".join(READERS)
        raise UserError(f"cannot tell the format of {data}: FORMAT= names it, one of {known}.")
    source: dict[str, Any] = {"format": format, "labels": str(data.resolve())}
    source["images"] = str((images or data.parent).resolve())
    if format in POINT_FORMATS:
        source["sample_types"] = ["landmark"]
    return [f"data.validation={json.dumps({data.stem: source})}"]
