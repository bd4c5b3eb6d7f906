"""Unpacks chosen members of a zip archive, each atomically, and counts the images in them."""

import errno
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from data_prep.archives import Member
from data_prep.readers import READERS
from data_prep.readers.detection import likely_format
from data_prep.readers.entries import ReadOptions
from mtcnn_detector.errors import UserError
from mtcnn_detector.pixels import SUFFIXES

BEGINNING = 4096  # bytes of a page in which its title is looked for


class BadArchiveError(Exception):
    """An archive is damaged, or is another one than expected."""


def unpack(archive: Path, folder: Path, members: Mapping[str, Member]) -> None:
    """Unpack `members`, by their paths below `folder`, in order.

    Raises:
        BadArchiveError: it is no zip file, is damaged, lacks a member, or a member has fewer images
            than it should; or a member would lie outside the folder.
    """
    with _damage(archive), zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
        _refuse_outside(names)
        for path, member in members.items():
            _unpack_one(opened, _below(names, member.member), member, folder / path)


@contextmanager
def _damage(archive: Path) -> Iterator[None]:
    """Turn what `zipfile` raises into BadArchiveError."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
        raise BadArchiveError(_page(archive) or str(error)) from error
    except RuntimeError as error:  # encrypted, or compressed in a way that `zipfile` lacks
        raise BadArchiveError(f"{error}; unpack it and pack it anew as a plain zip") from error
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # places in the file that cannot be
            raise
        raise BadArchiveError(str(error)) from error


def _page(archive: Path) -> str | None:
    """A sentence about a web page, such as a server sends where one has to log in."""
    with archive.open("rb") as file:
        text = file.read(BEGINNING).decode("utf-8", errors="replace").lstrip("\ufeff \t\r\n")
    if not re.match("<(!doctype|html|head|!--)", text, re.IGNORECASE):
        return None
    found = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
    title = " ".join(found[1].split())[:80] if found else ""
    return f"a web page{f', {title!r},' if title else ''} in place of the archive, not a zip file"


def _refuse_outside(names: Sequence[str]) -> None:
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    outside = [path for path in paths if path.is_absolute() or ".." in path.parts]
    if outside:
        raise BadArchiveError(f"{outside[0]} would lie outside the folder")


def _below(names: Sequence[str], member: str) -> list[str]:
    """The names of a file, or of all in a folder."""
    found = [name for name in names if name == member or name.startswith(f"{member}/")]
    if not found:
        kind = "file" if PurePosixPath(member).suffix else "folder"
        raise BadArchiveError(f"it holds no {kind} {member}")
    return found


def _unpack_one(
    opened: zipfile.ZipFile, names: Sequence[str], member: Member, target: Path
) -> None:
    scratch = target.with_name(target.name + ".unpacking")
    shutil.rmtree(scratch, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shown = tqdm(
            names, desc=f"unpacking {member.member}", unit=" files", disable=len(names) == 1
        )
        for name in shown:
            opened.extract(name, scratch)
        unpacked = scratch / member.member
        if member.lines:
            _keep_lines(unpacked, member.lines.encode())
        _check_images(unpacked, member)
        unpacked.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _keep_lines(file: Path, start: bytes) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(line for line in lines if line.startswith(start)))


def _check_images(unpacked: Path, member: Member) -> None:
    if not member.images:
        return
    count = _count_images(unpacked)
    if count < member.images:
        verb = "holds" if unpacked.is_dir() else "lists"
        raise BadArchiveError(
            f"{member.member} {verb} {count:,} {f'{member.lines} ' if member.lines else ''}images "
            f"instead of {member.images:,}"
        )


def _count_images(unpacked: Path) -> int:
    """Images in a folder and below, or listed in a file of annotations."""
    if unpacked.is_dir():
        return sum(path.suffix.lower() in SUFFIXES for path in unpacked.rglob("*"))
    options = ReadOptions()
    try:
        format = likely_format(unpacked)
        entries = READERS[format].read(unpacked, options) if format else []
    except UserError as error:
        raise BadArchiveError(str(error).rstrip(".")) from None
    if options.damages:  # a published archive has none: it is another one, or was cut off
        raise BadArchiveError(options.damages[0].rstrip("."))
    return len({entry.path for entry in entries})
