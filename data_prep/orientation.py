"""Whether labels count pixels of the stored image or of the upright one, as EXIF rotates it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.image_headers import Header, read_header
from data_prep.readers.entries import Entry, Size, first_names
from mtcnn_detector.errors import UserError

SETTING = "set exif: upright or exif: stored in the source"


class Views(NamedTuple):
    """For each entry, how its image is looked at."""

    upright: list[bool]
    sizes: list[Size | None]  # width and height of the image in that view; None if unknown
    notes: list[str]


def decide(
    images: Sequence[Path], entries: Sequence[Entry], of_tools: bool, exif: str | None
) -> Views:
    """The view of each entry's image.

    The width and height that a file lists decide; where they fit both views, the other images of
    the file; else tools are taken to show images upright, and research sets to count stored pixels.

    Args:
        images: the file of each entry's image.
        entries: the labels, with the listed sizes.
        of_tools: whether the format is written by annotation tools.
        exif: `upright` or `stored` from the recipe, which decides; None to find out.

    Raises:
        UserError: most listed sizes are not those of the images.
    """
    headers = [read_header(image) for image in images] if _needed(entries, of_tools, exif) else []
    if not headers:
        return Views([False] * len(entries), [entry.size for entry in entries], [])
    pairs = list(zip(headers, entries, strict=True))
    listed = [_from_size(header, entry.size) for header, entry in pairs]
    if exif is not None:
        upright = [exif == "upright"] * len(entries)
        notes = []
    else:
        fallback = _majority(listed, of_tools)
        upright = [fallback if one is None else one for one in listed]
        notes = _notes(images, pairs, listed, fallback)
        _check_sizes(images, pairs, notes)
    upright = [
        up and h is not None and h.orientation != 1 for up, h in zip(upright, headers, strict=True)
    ]
    return Views(
        upright, [_size(*pair, up) for pair, up in zip(pairs, upright, strict=True)], notes
    )


def _needed(entries: Sequence[Entry], of_tools: bool, exif: str | None) -> bool:
    """Whether headers are worth reading: lists of research sets count stored pixels."""
    return of_tools or exif == "upright" or any(e.units.startswith("frac") for e in entries)


def _from_size(header: Header | None, size: Size | None) -> bool | None:
    """Whether a listed size is that of the upright view; None where it fits both or neither."""
    if header is None or size is None or header.orientation == 1:
        return None
    stored, upright = (header.width, header.height), header.upright_size
    if stored == upright or tuple(size) not in (stored, upright):
        return None
    return tuple(size) == upright


def _majority(listed: Sequence[bool | None], of_tools: bool) -> bool:
    known = [one for one in listed if one is not None]
    return sum(known) * 2 > len(known) if known else of_tools


def _notes(
    images: Sequence[Path],
    pairs: Sequence[tuple[Header | None, Entry]],
    listed: Sequence[bool | None],
    fallback: bool,
) -> list[str]:
    rotated = [h is not None and h.orientation != 1 for h, _ in pairs]
    by_size = [image for image, one in zip(images, listed, strict=True) if one]
    assumed = [
        image
        for image, turned, one in zip(images, rotated, listed, strict=True)
        if turned and one is None
    ]
    notes = []
    if by_size:
        notes.append(
            f"{len(by_size)} images are stored rotated ({named(by_size)}); the listed width and "
            "height are those of the upright image, so the labels are taken to count its pixels."
        )
    if assumed:
        view = "the upright image" if fallback else "the image as it is stored"
        notes.append(
            f"warning: {len(assumed)} images have EXIF data that rotate them ({named(assumed)}), "
            f"and no size tells how they were labelled: pixels of {view} are assumed; {SETTING} "
            "(labels.jpg shows which is right)."
        )
    return notes


def _check_sizes(
    images: Sequence[Path], pairs: Sequence[tuple[Header | None, Entry]], notes: list[str]
) -> None:
    """Refuse labels of images of another size; a few such images are noted."""
    known = [(i, h, e.size) for i, (h, e) in enumerate(pairs) if h is not None and e.size]
    others = [
        (images[i], size, header)
        for i, header, size in known
        if tuple(size) not in ((header.width, header.height), header.upright_size)
    ]
    if not others:
        return
    image, size, header = others[0]
    sentence = (
        f"{len(others)} of {len(known)} images have another size than their labels list: {image} "
        f"has {header.width} x {header.height}, listed is {size[0]:g} x {size[1]:g}"
    )
    if len(others) * 2 > len(known):
        raise UserError(
            f"{sentence}: were they resized after they were labelled? If the listed sizes alone "
            f"are wrong, {SETTING}."
        )
    notes.append(f"warning: {sentence}.")


def _size(header: Header | None, entry: Entry, upright: bool) -> Size | None:
    if header is None:
        return entry.size
    return header.upright_size if upright else (header.width, header.height)


def named(paths: Sequence[Path]) -> str:
    """The first names of a list, for a message."""
    return first_names([path.name for path in paths])
