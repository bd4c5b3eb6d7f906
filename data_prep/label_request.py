"""What a recipe says about the labels of a source, checked against the files."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data_prep.readers import READERS
from data_prep.readers.detection import NAMES, likely_format
from data_prep.readers.entries import BoxUnits, Entry
from mtcnn_detector.errors import UserError


@dataclass(frozen=True)
class LabelRequest:
    """Where the labels of a source are, and what a recipe says about them.

    Attributes:
        format: one of `READERS`, or `auto`.
        labels: files or folders.
        images: the folder that the listed paths are relative to.
        landmarks: a second file with the landmarks, for formats that have one.
        source: the name of the data set; begins every key.
        categories: those that count as faces; None for all of a file with one category.
        boxes: the meaning of a box's numbers, where the format leaves it open; None for its own.
        first_pixel: column and row of the first pixel, 0 or 1.
        exif: whether labels count `upright` or `stored` pixels; None to find out.
        landmark_names: names, in the file, of the five landmarks.
        columns: names of a table's columns by their meaning.
        use_landmarks: false: faces have no landmarks, whatever the labels hold.
    """

    format: str
    labels: tuple[Path, ...]
    images: Path
    landmarks: Path | None = None
    source: str = ""
    categories: Sequence[str] | None = None
    boxes: BoxUnits | None = None
    first_pixel: int = 0
    exif: str | None = None
    landmark_names: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    use_landmarks: bool = True


def checked_format(request: LabelRequest) -> str:
    """The format of a request's labels: the one it names, or the one that they look like.

    Raises:
        UserError: the format is unknown; or the labels look like another one or, with `auto`, like
            none; or a setting is given that is not for labels of the format.
    """
    format, first = request.format, request.labels[0]
    if format != "auto" and format not in READERS:
        known = ", ".join(READERS)
        raise UserError(f"unknown annotation format {format!r}: use one of {known}.")
    likely = likely_format(first)
    if format == "auto" and likely is None:
        raise UserError(
            f"{first} looks like no known annotation format: set format to one of "
            f"{', '.join(READERS)}."
        )
    chosen = likely if format == "auto" and likely else format
    if likely not in (None, chosen):
        raise UserError(
            f"{first} looks like a {likely} file (this is {NAMES[likely]}): set format: {likely}."
        )
    _check_settings(request, chosen)
    return chosen


def _check_settings(request: LabelRequest, format: str) -> None:
    if request.landmarks is not None and not READERS[format].landmarks:
        raise UserError(
            f"format {format} takes no landmarks file, but {request.landmarks} is given."
        )
    if request.boxes not in (None, "fractions") and not READERS[format].units:
        raise UserError(
            f"{request.labels[0]}: the format {format} itself says what its boxes mean: leave out "
            f"boxes: {request.boxes}."
        )
    if request.columns and format != "csv":
        raise UserError(f"columns: is for tables; {request.labels[0]} is read as {format}.")


def of_categories(entries: list[Entry], counts: Counter[str], request: LabelRequest) -> list[Entry]:
    """Entries with the faces of the wanted categories alone."""
    listed = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    if request.categories is None:
        if len(counts) > 1:
            first = "face" if "face" in counts else counts.most_common(1)[0][0]
            setting = f"{request.source or 'NAME'}.categories=[{first}]"
            raise UserError(
                f"{request.labels[0]}: {listed}: name those that are meant, for example "
                f'categories: [{first}] in the recipe, or SET="data.train.{setting}" (for LABELS=, '
                f'SET="data.validation.{setting}").'
            )
        return entries
    folded = {name.casefold() for name in counts}
    missing = [name for name in request.categories if name.casefold() not in folded]
    if missing:
        raise UserError(
            f"{request.labels[0]} has no category {', '.join(missing)}; it has: {listed or 'none'}."
        )
    chosen = {name.casefold() for name in request.categories}
    wanted = {name for name in counts if name.casefold() in chosen}
    return [e._replace(faces=[f for f in e.faces if f.category in wanted]) for e in entries]
