"""Published archives of data sets: their addresses, licences and contents, from a YAML file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from configs.recipe import read_tree
from mtcnn_detector.errors import UserError
from mtcnn_detector.schema import Schema
from mtcnn_detector.validation import require

DOWNLOADS = Path(__file__).with_name("downloads.yaml")


@dataclass(frozen=True)
class Member:
    """A file or folder of an archive that is unpacked.

    Attributes:
        member: its path in the archive.
        lines: of a text file, only those lines that begin so.
        images: so many images it has at least: those in a folder, those that a file lists.
    """

    member: str
    lines: str = ""
    images: int = 0


@dataclass(frozen=True)
class Archive:
    """A zip archive.

    Attributes:
        urls: its addresses, in the order in which they are tried.
        file: the path of the archive below the folder of the data, until it is unpacked.
        unpack: what is taken from it, by path below the folder of the data.
        size: bytes, where known.
        sha256: in hexadecimal, where known.
        instead: a path below the folder of the data; with it there, the archive is not needed.
    """

    urls: tuple[str, ...]
    file: str
    unpack: dict[str, Member]
    size: int | None = None
    sha256: str | None = None
    instead: str | None = None

    def __post_init__(self) -> None:
        require(bool(self.urls), "urls", "names no address")
        web = all(url.startswith(("http://", "https://")) for url in self.urls)
        require(web, "urls", "must begin with http:// or https://")
        for path in (self.file, *self.unpack):
            parts = PurePosixPath(path).parts
            below = bool(parts) and parts[0] != "/" and ".." not in parts
            require(
                below, "file" if path == self.file else "unpack", "must be paths below the data"
            )

    def missing(self, folder: Path) -> list[str]:
        """What the archive brings that is not in the folder of the data, in order."""
        if self.instead is not None and (folder / self.instead).exists():
            return []
        return [path for path in self.unpack if not (folder / path).exists()]

    def brings(self, paths: Iterable[str]) -> bool:
        """Whether it brings one of the paths below the data, or what is above or below it."""
        brought = [PurePosixPath(path) for path in self.unpack]
        return any(
            one == path or one in path.parents or path in one.parents
            for path in map(PurePosixPath, paths)
            for one in brought
        )


@dataclass(frozen=True)
class DownloadSet:
    """Archives with one licence, and the page where a person finds them."""

    licence: str
    page: str
    archives: dict[str, Archive]


def load(path: Path = DOWNLOADS) -> Mapping[str, DownloadSet]:
    """The data sets of a file; one that says `base: other.yaml` changes only what it names.

    Raises:
        UserError: the file is missing or not YAML, or a key is unknown, missing or cannot have its
            value.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file; DOWNLOADS= names one.")
    schema = Schema(str(path))
    return {name: schema.build(DownloadSet, value, name) for name, value in read_tree(path).items()}
