"""Check of labels before anything is cut: what they hold, what is wrong or suspicious in them."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from configs.record_settings import DataSettings
from configs.settings import Settings
from data_prep import box_units, image_check, label_sheet, label_warnings
from data_prep.annotations import Annotation, LabelSet
from data_prep.image_check import ImageFacts
from data_prep.image_headers import TURNED
from data_prep.label_report import SourceFigures, report
from data_prep.readers import READERS
from data_prep.readers.entries import first_sentences
from data_prep.sources import Images, check_counts, fingerprint, label_sets, labelled_images
from mtcnn_detector.boxes import FloatArray, iou, longer_sides
from mtcnn_detector.errors import UserError
from mtcnn_detector.files import write_atomically

KEPT = Path("labels") / "images.json"  # below the run's folder
SHOWN = KEPT.with_name("sheet.txt")  # fingerprint of the labels and images that the sheet shows
REPORT, SHEET = "labels.md", "labels.jpg"
DOUBLE = 0.9  # IoU from which on two boxes of an image are one face labelled twice
OUTSIDE_BOX = 0.3  # sides of its box by which a landmark may lie outside
MAX_PRINTED = 60
WITH_FIVE = "with five landmarks"


class Checked(NamedTuple):
    """What a check found."""

    digests: dict[str, str]  # of the images' contents, by key
    problems: dict[str, str]  # path of each image that cannot be used -> sentence


def check_labels(settings: Settings, run: Path, loud: bool = True) -> Checked:
    """Check the labels of a recipe's training sources; see `check`.

    Args:
        settings: the recipe.
        run: the run's folder, which gets `labels.md` and `labels.jpg`.
        loud: whether notes and figures are printed.
    """
    data = settings.data
    sets = label_sets(Path(data.folder), data.train, data.landmarks)
    images = labelled_images(settings, 0, sets)
    checked = check(settings, sets, images, run, loud)
    try:
        total = sum(map(len, images.values()))
        refuse_broken(checked.problems, total, data.max_broken_fraction)
        check_counts(images, data.validation_fraction)
    except UserError as error:  # for those who cut records; here is nothing to stop
        if loud:
            print(f"warning: no records can be cut: {error}", file=sys.stderr)
    return checked


def check(
    settings: Settings, sets: Mapping[str, LabelSet], images: Images, run: Path, loud: bool
) -> Checked:
    """Look at the labels and images of a recipe; write `labels.md` and `labels.jpg` into the run.

    Args:
        settings: the recipe.
        sets: the labels of its sources.
        images: the images of both parts.
        run: the run's folder, in which facts about images are kept: a second check takes seconds.
        loud: whether notes and figures are printed.

    Raises:
        UserError: as the readers; or labels do not fit their images; or more images than
            `max_broken_fraction` cannot be used.
    """
    paths = [one.image for labels in sets.values() for one in labels.annotations]
    facts = image_check.look_at(paths, run / KEPT)
    for name, labels in sets.items():
        _check_boxes(name, labels, facts)
    held_out = {one.annotation.key for one in images["validation"]}
    problems = {name: _problems(labels.annotations, facts) for name, labels in sets.items()}
    sources = [
        _source(name, labels, facts, settings.data, held_out)._replace(
            left_out=[*problems[name].values(), *labels.of_no_image]
        )
        for name, labels in sets.items()
    ]
    general = [*label_warnings.copies(images, facts), *label_warnings.no_landmarks(settings, sets)]
    text = report(sources, sets, general)
    write_atomically(run / REPORT, text.encode(errors="backslashreplace"))  # names of files
    every = [one for labels in sets.values() for one in labels.annotations]
    # The report does not tell whether the sheet is old: boxes that move leave its figures equal.
    looked_at = [(facts[one.image].digest, facts[one.image].problem) for one in every]
    shown = hashlib.sha256(f"{fingerprint(images)} {looked_at}".encode()).hexdigest()
    if _changed(run / SHOWN, shown) or not (run / SHEET).exists():
        label_sheet.write(run / SHEET, [one for one in every if not facts[one.image].problem])
        write_atomically(run / SHOWN, shown.encode())
    if loud:
        _print(sources, sets, general, run)
    used = [one.annotation for part in images.values() for one in part]
    return Checked({one.key: facts[one.image].digest for one in used}, _problems(used, facts))


def refuse_broken(problems: Mapping[str, str], total: int, allowed: float) -> None:
    """Raise UserError where more than the allowed fraction of images cannot be used."""
    if len(problems) > allowed * total:
        first = first_sentences([*problems.values()])
        raise UserError(
            f"{len(problems)} of {total} images cannot be used: {first}. Mend them and "
            "repeat the command, or raise data.max_broken_fraction."
        )


def _problems(
    annotations: Sequence[Annotation], facts: Mapping[Path, ImageFacts]
) -> dict[str, str]:
    found = {}
    for annotation in annotations:
        fact = facts[annotation.image]
        if annotation.problem is not None:
            sentence, name = annotation.problem.removesuffix("."), annotation.image.name
            found[str(annotation.image)] = sentence + f", of {name}" * (name not in sentence)
        elif fact.problem is not None:
            found[str(annotation.image)] = f"{annotation.image} {fact.problem}"
        elif (outside := annotation.box_outside(*_size(annotation, fact))) is not None:
            found[str(annotation.image)] = outside
    return found


def _size(annotation: Annotation, fact: ImageFacts) -> tuple[int, int]:
    """Width and height of an image in the view that its labels count."""
    turned = annotation.upright and fact.orientation in TURNED
    return (fact.height, fact.width) if turned else (fact.width, fact.height)


def _check_boxes(name: str, labels: LabelSet, facts: Mapping[Path, ImageFacts]) -> None:
    """Refuse corners in place of sizes in formats whose files list no sizes of images."""
    if READERS[labels.format].of_tools:
        return  # looked at when they were read
    known = [one for one in labels.annotations if facts[one.image].width]
    sizes = [_size(one, facts[one.image]) for one in known for _ in one.boxes]
    boxes = np.concatenate([np.zeros((0, 4)), *(one.boxes for one in known)])
    xywh = np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    where = f"{name} ({known[0].where})" if known else name
    box_units.refuse_corners(xywh, np.array(sizes, np.float64).reshape(-1, 2), where)


def _source(
    name: str,
    labels: LabelSet,
    facts: Mapping[Path, ImageFacts],
    data: DataSettings,
    held_out: set[str],
) -> SourceFigures:
    annotations, min_face = labels.annotations, data.min_face
    found = [facts[one.image] for one in annotations]
    boxes = np.concatenate([one.boxes for one in annotations])
    ignored = np.concatenate([one.ignored for one in annotations])
    landmarks = np.concatenate([one.landmarks for one in annotations])
    points = np.isfinite(landmarks).all(axis=2)
    sides = longer_sides(boxes[~ignored])
    figures: dict[str, int | str] = {
        "images": len(annotations),
        "missing": sum(fact.unreadable and not fact.mtime_ns for fact in found),
        "unreadable": sum(fact.unreadable and fact.mtime_ns > 0 for fact in found),
        "truncated or damaged": sum(bool(f.problem) and not f.unreadable for f in found),
        "with damaged labels": sum(one.problem is not None for one in annotations),
        "identical files": len(found) - len({f.digest or id(f) for f in found}),
        "without a face": sum(
            not len(one.boxes) and not one.dropped and not one.problem for one in annotations
        ),
        "left out, all boxes empty": sum(a.all_empty for a in annotations),
        "held out": sum(one.key in held_out for one in annotations),
        "faces": int((~ignored).sum()),
        "ignored": int(ignored.sum()),
        f"below min_face ({min_face} px)": int((sides < min_face).sum()),
        "across the border": _across(annotations, facts),
        "empty boxes, dropped": sum(one.dropped for one in annotations),
        "labelled twice": sum(_doubles(one.boxes) for one in annotations),
    }
    if data.landmarks:
        figures |= {
            WITH_FIVE: int(points.all(axis=1).sum()),
            "with some landmarks": int((points.any(axis=1) & ~points.all(axis=1)).sum()),
            "landmarks outside their box": _outside(boxes, landmarks),
        }
    categories = ", ".join(f"{key} {count}" for key, count in labels.categories.items())
    if categories:
        figures["objects by category"] = categories
    return SourceFigures(
        name, figures, sides, label_warnings.warnings(annotations, found, figures, min_face)
    )


def _across(annotations: Sequence[Annotation], facts: Mapping[Path, ImageFacts]) -> int:
    count = 0
    for one in annotations:
        size = np.array(_size(one, facts[one.image]))
        if size.all() and len(one.boxes):
            beyond = (one.boxes[:, :2] < -1) | (one.boxes[:, 2:] > size + 1)
            count += int(beyond.any(axis=1).sum())
    return count


def _doubles(boxes: FloatArray) -> int:
    if not 2 <= len(boxes) <= 1000:
        return 0
    return int((np.triu(iou(boxes, boxes), 1) > DOUBLE).any(axis=0).sum())


def _outside(boxes: FloatArray, landmarks: FloatArray) -> int:
    """Faces with a landmark that lies far outside their box."""
    room = OUTSIDE_BOX * (boxes[:, 2:] - boxes[:, :2])[:, None]
    low, high = boxes[:, None, :2] - room, boxes[:, None, 2:] + room
    return int(((landmarks < low) | (landmarks > high)).any(axis=(1, 2)).sum())


def _changed(path: Path, content: str) -> bool:
    return not path.exists() or path.read_text(encoding="utf-8") != content


def _print(
    sources: Sequence[SourceFigures],
    sets: Mapping[str, LabelSet],
    general: Sequence[str],
    run: Path,
) -> None:
    for source in sources:
        more = len(source.left_out) - MAX_PRINTED
        rest = [f"and {more} more, see {run / REPORT}."] if more > 0 else []
        left_out = [f"left out: {sentence}" for sentence in source.left_out[:MAX_PRINTED]]
        for sentence in [*sets[source.name].notes, *source.warnings, *left_out, *rest]:
            print(f"{source.name}: {sentence}", file=sys.stderr)
        figures = source.figures
        five = f"{figures[WITH_FIVE]} {WITH_FIVE}, " if WITH_FIVE in figures else ""
        print(
            f"labels: {source.name}: {figures['images']} images, {figures['faces']} faces, {five}"
            f"{figures['held out']} images held out."
        )
    for sentence in general:
        print(f"warning: {sentence}", file=sys.stderr)
    print(f"labels: see {run / REPORT} and {run / SHEET}.")
