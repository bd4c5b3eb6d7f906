"""Images found below a folder by the paths that annotation tools write."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from data_prep.readers.entries import Entry, ReadOptions, is_there
from mtcnn_detector.errors import UserError
from mtcnn_detector.pixels import SUFFIXES

MAX_EXAMPLES = 6
UNWRITABLE = re.compile("[\0\ud800-\udfff]")  # what Python makes of a name that is no UTF-8


class ImageFinder:
    """Finds the images of one source; nothing is read from the disk where a path is right.

    Args:
        folder: the folder of the images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.renamed: dict[str, str] = {}  # path as listed -> path found, where they differ
        self.guessed: set[str] = set()  # places of entries whose folder is not that of their image
        self._by_name: dict[str, list[PurePosixPath]] | None = None

    def find_all(
        self, entries: Sequence[Entry], options: ReadOptions
    ) -> tuple[list[Entry], list[PurePosixPath]]:
        """Entries and the paths of their images; where none or several fit with a `problem`.

        A file that others list in its own folder is not the one that an entry means by its name in
        another folder.
        """
        found, paths = [], []
        for entry in entries:
            path = PurePosixPath(UNWRITABLE.sub("?", entry.path))
            try:
                path = _writable(self.find(entry), entry)
            except UserError as error:
                entry = entry if entry.problem else options.damaged(entry, error)
            found.append(entry)
            paths.append(path)
        owned = {p for p, one in zip(paths, found, strict=True) if one.where not in self.guessed}
        for place, (entry, path) in enumerate(zip(found, paths, strict=True)):
            if entry.where in self.guessed and path in owned:
                found[place], paths[place] = self._not_there(entry, path, options)
        return found, paths

    def _not_there(
        self, entry: Entry, other: PurePosixPath, options: ReadOptions
    ) -> tuple[Entry, PurePosixPath]:
        self.renamed.pop(entry.path, None)
        problem = UserError(
            f"{entry.where}: the image {entry.path!r} is not there; {other} is another one, whose "
            "labels are listed, too."
        )
        folder = self._relative(entry.near) or PurePosixPath()
        path = PurePosixPath(*_parts(entry.path))
        return (entry if entry.problem else options.damaged(entry, problem)), folder / path

    def find(self, entry: Entry) -> PurePosixPath:
        """The path of an entry's image below the folder; as listed, if no file fits.

        Raises:
            UserError: several files fit equally well; or none fits, and the path leads out of the
                folder.
        """
        for folder in (entry.near, self.folder):
            direct = self._direct(folder, entry.path) if folder else None
            if direct is not None:
                return direct
        for listed in filter(None, (entry.path, entry.other_path)):
            found = self._search(listed, entry)
            if found is not None:
                if found.with_suffix("") != PurePosixPath(entry.path):  # YOLO's have no suffix
                    self.renamed[entry.path] = found.as_posix()
                return found
        path = PurePosixPath(entry.path)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise UserError(
                f"{entry.where}: {entry.path!r} must be a path relative to the images folder, "
                "below it; nor is there a file of that name."
            )
        return path

    def _direct(self, folder: Path, listed: str) -> PurePosixPath | None:
        path = PurePosixPath(listed)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            return None
        if not is_there(folder / path, Path.is_file):
            return None
        if folder is self.folder:
            return path
        try:
            return PurePosixPath((folder / path).relative_to(self.folder).as_posix())
        except ValueError:
            return None

    def _search(self, listed: str, entry: Entry) -> PurePosixPath | None:
        """The one file that shares the longest end of its path with the listed one."""
        parts = _parts(listed)
        if not parts:
            return None
        # Label Studio puts eight digits before the name of a file that is uploaded.
        files = self._files_named(parts[-1]) or self._files_named(
            re.sub("^[0-9a-f]{8}-(?=.)", "", parts[-1])
        )
        if not files:
            return None
        near = self._relative(entry.near)
        mirrored = [*entry.near.parts, parts[-1]] if entry.near else []  # labels/x/a.xml
        ranks = [
            (
                _common_end(file, parts),
                near in file.parents if near else False,
                _common_end(file, mirrored),
            )
            for file in files
        ]
        best = [file for file, rank in zip(files, ranks, strict=True) if rank == max(ranks)]
        in_folder = len(parts) > 1 or near or entry.other_path  # that of the label, if it has one
        if in_folder and len(best[0].parts) > 1 and not any(max(ranks)):
            self.guessed.add(entry.where)
        if len(best) > 1:
            exact = [file for file in best if file.name == parts[-1]]
            best = exact if len(exact) == 1 else best
        if len(best) > 1:
            raise UserError(
                f"{entry.where}: {listed!r} fits several files below {self.folder}: "
                f"{', '.join(map(str, best[:3]))}."
            )
        return best[0]

    def _files_named(self, name: str) -> list[PurePosixPath]:
        """Files of this name in any letter case; else those with another suffix of images."""
        if self._by_name is None:
            self._by_name = _index(self.folder)
        found = self._by_name.get(_folded(name), [])
        if found:
            return found
        known = PurePosixPath(name).suffix.lower() in SUFFIXES  # and was converted since
        stem = PurePosixPath(name).stem if known else name
        return [
            file for suffix in SUFFIXES for file in self._by_name.get(_folded(stem + suffix), [])
        ]

    def _relative(self, near: Path | None) -> PurePosixPath | None:
        if near is None or near == self.folder:
            return None
        try:
            return PurePosixPath(near.relative_to(self.folder).as_posix())
        except ValueError:
            return None

    def note(self) -> str | None:
        """A sentence about images that were found under other paths than those listed."""
        if not self.renamed:
            return None
        pairs = list(self.renamed.items())
        # One example of each way in which they differ says more than three of one.
        shown = [f"{listed} is {found}" for listed, found in _different(pairs)]
        return (
            f"{len(pairs)} images are listed by other paths than they have below {self.folder}: "
            f"{'; '.join(shown)}{'; and so on' if len(pairs) > len(shown) else ''}."
        )


def _writable(path: PurePosixPath, entry: Entry) -> PurePosixPath:
    """The path; raises UserError where it cannot be written into any file."""
    if UNWRITABLE.search(str(path)):
        raise UserError(
            f"{entry.where}: the path {str(path)!r} is no UTF-8: rename the image, and its label."
        )
    return path


def _different(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    kinds: dict[str, tuple[str, str]] = {}
    for listed, found in pairs:
        marks = ("://", "\\", "%", ":", "/")
        mark = next((mark for mark in marks if mark in listed), "")
        kinds.setdefault(mark, (listed, found))
    return list(kinds.values())[:MAX_EXAMPLES]


def _index(folder: Path) -> dict[str, list[PurePosixPath]]:
    """Files below a folder by their name, letter case and Unicode's normal forms set aside."""
    by_name: dict[str, list[PurePosixPath]] = defaultdict(list)
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        base = PurePosixPath(Path(parent).relative_to(folder).as_posix())
        for name in sorted(names):
            by_name[_folded(name)].append(base / name)
    return dict(by_name)


def _parts(listed: str) -> list[str]:
    """The folders and the name of a path as a tool wrote it: of Windows, a URL, with %20."""
    if address := re.match(r"[a-z][a-z0-9+.\-]+://([^/?#]*)([^?#]*)", listed, re.IGNORECASE):
        listed = unquote(address[2] or address[1])
    elif re.search("%[0-9a-f]{2}", listed, re.IGNORECASE):
        listed = unquote(listed)
    parts = re.sub(r"^[a-zA-Z]:", "", listed.replace("\\", "/")).split("/")
    return [part for part in parts if part not in ("", ".", "..")]


def _common_end(file: PurePosixPath, parts: Sequence[str]) -> int:
    """How many parts, from the end of the folders on, two paths share."""
    mine, theirs = list(file.parts[:-1])[::-1], list(parts[:-1])[::-1]
    count = 0
    for one, other in zip(mine, theirs, strict=False):
        if _folded(one) != _folded(other):
            break
        count += 1
    return count


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
