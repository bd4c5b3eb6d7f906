"""Annotations of images in one form, whatever the format of the file that lists them."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from data_prep import face_checks, landmark_sides, orientation
from data_prep.box_units import in_pixels
from data_prep.face_checks import corners
from data_prep.image_headers import read_header
from data_prep.image_paths import ImageFinder
from data_prep.label_request import LabelRequest, checked_format, of_categories
from data_prep.readers import READERS, Reader, keypoints, read_entries
from data_prep.readers.entries import (
    UNKNOWN,
    Entry,
    FaceLabel,
    ReadOptions,
    Split,
    first_names,
    images_below,
)
from mtcnn_detector import pixels
from mtcnn_detector.boxes import BoolArray, FloatArray
from mtcnn_detector.errors import UserError

JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Annotation:
    """One image and its N faces, in pixels of the image; N may be 0 (all background)."""

    image: Path
    key: str  # "<source>/<path below the images folder>": the same on every machine
    boxes: FloatArray  # (N, 4) float32 windows x1 y1 x2 y2, half-open, 0-based
    ignored: BoolArray  # (N,) neither a positive nor background
    landmarks: FloatArray  # (N, 5, 2) float32 x y, NaN where unknown; order as in `TEN_LANDMARKS`
    where: str  # the place in the file that lists it, for messages
    upright: bool = False  # whether pixels are counted on the image rotated as its EXIF data say
    split: Split | None = None  # if the set brings its own
    dropped: int = 0  # boxes without a positive width and height
    problem: str | None = None  # why its labels cannot be used; it has no boxes then

    @property
    def all_empty(self) -> bool:
        """Whether all its boxes are empty: where its faces are is not known."""
        return self.dropped > 0 and not len(self.boxes)

    def load(self) -> pixels.Image | None:
        """The pixels (H, W, 3) that the labels count; None where image or labels are unusable."""
        return None if self.problem else pixels.read_image(self.image, self.upright)

    def load_checked(self) -> pixels.Image | str:
        """The pixels; or why the image is left out: it does not load, or its boxes do not fit."""
        if self.all_empty:
            return f"{self.where}: all boxes of {self.image} are empty"
        image = self.load()
        if image is None:
            return self.problem or f"{self.image} is missing or unreadable"
        outside = self.box_outside(*image.shape[1::-1])
        return image if outside is None else outside

    def why_left_out(self) -> str | None:
        """Why `load_checked` gives no pixels; None if it gives them.

        A sound header says of a JPEG file that it gives pixels: such a file is not decoded.
        """
        header = read_header(self.image) if self.image.suffix.lower() in JPEG else None
        if header is not None and not (header.unusual or self.problem or self.all_empty):
            size = header.upright_size if self.upright else (header.width, header.height)
            return self.box_outside(*size)
        image = self.load_checked()
        return image.removesuffix(".") if isinstance(image, str) else None

    def box_outside(self, width: int, height: int) -> str | None:
        """A sentence about the first box outside its image, or far beyond it; None if all fit."""
        size = np.array([width, height])
        first, last = self.boxes[:, :2], self.boxes[:, 2:]
        outside = (first >= size) | (last <= 0) | (first < -size) | (last > 2 * size)
        if not outside.any():
            return None
        box = ", ".join(f"{value:g}" for value in self.boxes[outside.any(axis=1)][0])
        return (
            f"{self.where}: the face ({box}) lies outside its image {self.image} of {width} x "
            f"{height} pixels"
        )


@dataclass(frozen=True)
class LabelSet:
    """The annotations of a source, and sentences about how they were read.

    Attributes:
        annotations: of every image; a `problem` marks those whose labels cannot be used.
        notes: on how the labels were read.
        categories: number of objects of each, those left out too.
        format: one of `READERS`.
        damages: sentences on labels that cannot be used, those that belong to no image too.
    """

    annotations: list[Annotation]
    notes: list[str]
    categories: Mapping[str, int]
    format: str
    damages: Sequence[str] = ()

    @property
    def of_no_image(self) -> list[str]:
        """The damages that belong to no image."""
        known = {one.problem for one in self.annotations}
        return [sentence for sentence in self.damages if sentence not in known]

    def require_whole(self) -> list[Annotation]:
        """The annotations; raises UserError where some labels cannot be used."""
        if self.damages:
            raise UserError(self.damages[0])
        return self.annotations


def read(
    format: str, labels: Path, images: Path, landmarks: Path | None = None, source: str = ""
) -> list[Annotation]:
    """`read_labels` of one file without further settings; raises UserError for any damage."""
    return read_labels(LabelRequest(format, (labels,), images, landmarks, source)).require_whole()


def read_labels(request: LabelRequest) -> LabelSet:
    """Read annotations, in the order of their files; images are sought, headers read.

    An image that is listed twice gets the faces of both places. Boxes without a positive width
    and height are dropped, images without boxes are kept. Where a label is damaged, its image gets
    a `problem`, and the others are read on.

    Raises:
        UserError: a file is missing, of another format, or damaged so that it is not known what
            is lost, or half of its images or of its labels are damaged; names the line. Or the
            labels contradict the images (fractions, corners in place of sizes, landmarks of other
            images), have several categories and none is chosen, or no keypoint of a name in
            `landmark_names`.
    """
    format = checked_format(request)
    options = ReadOptions(
        request.landmarks if request.use_landmarks else None,
        request.landmark_names,
        request.columns,
        request.images,
        request.use_landmarks,
    )
    entries = read_entries(format, request.labels, options)
    finder = ImageFinder(request.images)
    entries, paths = finder.find_all(entries, options)
    _check_damages(entries, paths, options.damages, request.labels[0], format)
    if request.use_landmarks:
        names = sorted(options.names_seen)
        keypoints.require_names(names, request.landmark_names, str(request.labels[0]))
    _note_listing(entries, paths, request.images, READERS[format], options)
    if not request.use_landmarks:
        entries = [one._replace(faces=_without_landmarks(one.faces)) for one in entries]
    counts = Counter(f.category for e in entries for f in e.faces if f.category is not None)
    entries = of_categories(entries, counts, request)
    views = orientation.decide(
        [request.images / path for path in paths], entries, READERS[format].of_tools, request.exif
    )
    entries = in_pixels(entries, views.sizes, request.boxes, request.labels[0], request.first_pixel)
    faces = [face for entry in entries for face in entry.faces]
    shifted = face_checks.check_noses(faces, request.landmarks or request.labels[0])
    annotations = _merged(entries, paths, views.upright, request)
    face_checks.refuse_empty(faces, request.labels[0])
    notes = [*options.notes, finder.note(), *views.notes, shifted]
    landmarks = [one.landmarks for one in annotations]
    notes += [landmark_sides.exchange_if_mirrored(landmarks), landmark_sides.note_order(landmarks)]
    said = [note for note in notes if note]
    return LabelSet(annotations, said, counts, format, tuple(options.damages))


def _note_listing(
    entries: Sequence[Entry],
    paths: Sequence[PurePosixPath],
    images: Path,
    reader: Reader,
    options: ReadOptions,
) -> None:
    """Note images that are listed twice, and those that no label file belongs to."""
    places: dict[PurePosixPath, list[str]] = defaultdict(list)
    for entry, path in zip(entries, paths, strict=True):
        places[path].append(entry.where)
    twice = [f"{path} at {' and '.join(w[:2])}" for path, w in places.items() if len(w) > 1]
    if twice and not reader.face_rows:
        options.note(
            f"{len(twice)} images are listed more than once ({first_names(twice)}): they get the "
            "faces of all places."
        )
    if reader.one_image and images.is_dir():
        names = [
            one.name
            for one in images_below(images)
            if PurePosixPath(one.relative_to(images).as_posix()) not in places
        ]
        options.note_unlabelled(names, f"one without a face, of the suffix {reader.suffixes[0]},")


def _check_damages(
    entries: Sequence[Entry],
    paths: Sequence[PurePosixPath],
    damages: Sequence[str],
    file: Path,
    format: str,
) -> None:
    """Refuse labels of which half are damaged: they are of another kind than they are read as.

    That is half of the images; or, of damages that belong to no image, half of all labels, among
    which an image without a face counts as one.
    """
    damaged = {path for one, path in zip(entries, paths, strict=True) if one.problem}
    of_no_image = len(damages) - sum(one.problem is not None for one in entries)
    labels = sum(max(len(one.faces), 1) for one in entries)
    if damages and (2 * len(damaged) >= len(set(paths)) or of_no_image >= labels):
        raise UserError(damages[0])
    if not entries:
        raise UserError(f"{file} lists no image: expected a {format} file.")


def _without_landmarks(faces: Sequence[FaceLabel]) -> list[FaceLabel]:
    return [face._replace(landmarks=UNKNOWN) for face in faces]


def _merged(
    entries: Sequence[Entry],
    paths: Sequence[PurePosixPath],
    upright: Sequence[bool],
    request: LabelRequest,
) -> list[Annotation]:
    by_path: dict[PurePosixPath, list[int]] = defaultdict(list)
    for number, path in enumerate(paths):
        by_path[path].append(number)
    return [
        _annotation(
            request.images / path,
            PurePosixPath(request.source, path).as_posix(),
            [entries[number] for number in places],
            upright[places[0]],
        )
        for path, places in by_path.items()
    ]


def _annotation(image: Path, key: str, entries: Sequence[Entry], upright: bool) -> Annotation:
    problem = next((entry.problem for entry in entries if entry.problem), None)
    faces = [] if problem else [face for entry in entries for face in entry.faces]
    boxes = corners(faces)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    ignored = np.array([face.ignored for face in faces], np.bool_)
    landmarks = np.array([face.landmarks for face in faces], np.float32).reshape(-1, 5, 2)
    first = entries[0]
    labels = (boxes[kept], ignored[kept], landmarks[kept])
    dropped = int((~kept & ~ignored).sum())
    return Annotation(image, key, *labels, first.where, upright, first.split, dropped, problem)
