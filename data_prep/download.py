"""The download of WIDER FACE: resumed where it broke off, checked, unpacked."""

import hashlib
import re
import shutil
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from mtcnn_detector.errors import UserError

HUB = "https://huggingface.co/datasets/wider_face/resolve/main/"
LICENCE = """\
WIDER FACE is for non-commercial research only (CC BY-NC-ND 4.0): S. Yang, P. Luo, C. C. Loy,
X. Tang, 'WIDER FACE: A Face Detection Benchmark', CVPR 2016, http://shuoyang1213.me/WIDERFACE/.
The annotations are the Chinese University of Hong Kong's, the images their owners'.
By going on you accept these terms."""
TIMEOUT = 30  # seconds without a byte after which a connection counts as broken
PAUSES = (2, 5, 15, 30, 60)  # seconds before each new attempt, counted anew after any progress
CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class RemoteFile:
    """An archive and the one folder that it holds."""

    path: str  # below the base URL
    folder: str
    size: int | None = None  # bytes
    sha256: str | None = None


# Sizes and sums as the data sets library of the Hub records them for these addresses; TensorFlow
# Datasets has the same for the authors' own copies.
WIDER_FILES = (
    RemoteFile(
        "data/WIDER_train.zip",
        "WIDER_train",
        1_465_602_149,
        "e23b76129c825cafae8be944f65310b2e1ba1c76885afe732f179c41e5ed6d59",
    ),
    RemoteFile(
        "data/WIDER_val.zip",
        "WIDER_val",
        362_752_168,
        "f9efbd09f28c5d2d884be8c0eaef3967158c866a593fc36ab0413e4b2a58a17a",
    ),
    RemoteFile(
        "data/wider_face_split.zip",
        "wider_face_split",
        3_591_642,
        "c7561e4f5e7a118c249e0a5c5c902b0de90bbf120d7da9fa28d99041f68a8a5c",
    ),
)


class BrokenConnectionError(Exception):
    """The server could not be reached, or the connection ended early: worth another attempt."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects; keeps the SHA-256 that the Hub announces on its way to the real server."""

    sha256: str | None = None

    def redirect_request(self, *args: Any) -> urllib.request.Request | None:
        """(request, body, code, message, headers, address) -> the next request."""
        announced = args[4].get("X-Linked-ETag", "").strip('"')
        if re.fullmatch("[0-9a-f]{64}", announced):
            self.sha256 = announced
        return super().redirect_request(*args)


def download_wider(
    folder: Path, base_url: str = HUB, files: Sequence[RemoteFile] = WIDER_FILES
) -> None:
    """Bring WIDER FACE into `folder`/wider; what is there already is left alone.

    Whenever it stops, the same call goes on where it stopped.

    Raises:
        UserError: The server lacks a file, stays unreachable, or sends a damaged archive.
        OSError: The disk is full.
    """
    if not re.match("https?://", base_url):
        raise UserError(f"--url (URL=) {base_url!r} must begin with http:// or https://.")
    wider = folder / "wider"
    missing = [file for file in files if not (wider / file.folder).is_dir()]
    if not missing:
        print(f"{wider} is complete: nothing to do.")
        return
    print(LICENCE)
    wider.mkdir(parents=True, exist_ok=True)
    for file in missing:
        archive = wider / PurePosixPath(file.path).name
        if not archive.exists():
            _download(file, f"{base_url.rstrip('/')}/{file.path}", archive)
        _unpack(archive, wider / file.folder)
        archive.unlink()


def _download(file: RemoteFile, url: str, archive: Path) -> None:
    """Fetch `url` into `archive` by way of `<archive>.part`, with new attempts when it breaks."""
    part = archive.with_name(archive.name + ".part")
    pauses = iter(PAUSES)
    while True:
        before = _size(part)
        try:
            announced = _fetch(url, part, file.size)
            break
        except BrokenConnectionError as error:
            pauses = iter(PAUSES) if _size(part) > before else pauses
            pause = next(pauses, None)
            if pause is None:
                raise UserError(f"{url}: {error}; the same command goes on from here.") from error
            print(f"{url}: {error}; trying again in {pause} s.")
            time.sleep(pause)
    _verify(part, url, file.sha256 or announced)
    part.replace(archive)


def _fetch(url: str, part: Path, size: int | None) -> str | None:
    """Append to `part` what it lacks of `url`; return the SHA-256 that the server announces.

    Raises:
        BrokenConnectionError: The rest did not arrive; `part` holds what did.
        UserError: The server has no such file, or one of another size than `size`.
    """
    redirects = _Redirects()
    with _open(url, _size(part), redirects) as response:
        total = _total(response)
        if size is not None and total not in (None, size):
            raise UserError(f"{url} has {total} bytes instead of {size}: it is another file.")
        if response.status != 416:
            _append(response, part, total)
        elif total != _size(part):
            part.unlink()
            raise BrokenConnectionError("what had arrived is longer than the file; starting over")
    if total is not None and _size(part) < total:
        raise BrokenConnectionError(f"the connection ended after {_size(part)} of {total} bytes")
    return redirects.sha256


def _open(url: str, start: int, redirects: _Redirects) -> Any:
    """The response to a request for the bytes of `url` from `start` on; 416 is one, too."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with _broken_connections():
            return urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        if error.code >= 500 or error.code in (408, 429):
            raise BrokenConnectionError(f"the server answers {error.code}") from error
        raise UserError(
            f"{url}: the server answers {error.code} {error.reason}: check --url (URL=)."
        ) from error


@contextmanager
def _broken_connections() -> Iterator[None]:
    """Tell faults of the network from those of the disk: both are OSErrors."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except (OSError, HTTPException) as error:
        raise BrokenConnectionError(f"no connection ({error})") from error


def _total(response: Any) -> int | None:
    """The size of the whole file in bytes, from the headers of a whole or partial response."""
    ranged = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    if ranged:
        return int(ranged[1])
    length = response.headers.get("Content-Length")
    return int(length) if length and response.status == 200 else None


def _append(response: Any, part: Path, total: int | None) -> None:
    """Write the response to the end of `part`, or over it if the server sends the whole file."""
    start = _size(part) if response.status == 206 else 0
    progress = tqdm(
        total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, dynamic_ncols=True
    )
    with progress, part.open("ab" if start else "wb") as output:
        while True:
            with _broken_connections():
                chunk = response.read1(CHUNK)
            if not chunk:
                return
            output.write(chunk)
            progress.update(len(chunk))


def _verify(part: Path, url: str, sha256: str | None) -> None:
    if sha256 is None:
        return  # the sums inside the archive are still checked when it is unpacked
    with part.open("rb") as arrived:
        found = hashlib.file_digest(arrived, "sha256").hexdigest()
    if found != sha256:
        part.unlink()
        raise UserError(
            f"{url} arrived damaged (SHA-256 {found} instead of {sha256}) and was removed: "
            "repeat the command."
        )


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the member `folder.name` of `archive` as `folder`: wholly, or not at all."""
    scratch = folder.with_name(folder.name + ".unpacking")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
            _check_members(names, folder.name)
            for name in tqdm(names, desc=f"unpacking {archive.name}", unit=" files"):
                opened.extract(name, scratch)
        (scratch / folder.name).rename(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        archive.unlink()
        raise UserError(
            f"{archive} is damaged ({error}) and was removed: repeat the command."
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_members(names: Sequence[str], folder: str) -> None:
    """Raise BadZipFile for a member outside the archive's folder, or if there is none inside."""
    paths = [PurePosixPath(name.replace("\\", "/")) for name in names]
    outside = [path for path in paths if path.is_absolute() or ".." in path.parts]
    if outside:
        raise zipfile.BadZipFile(f"{outside[0]} would lie outside the folder")
    if not any(path.parts[0] == folder for path in paths if path.parts):
        raise zipfile.BadZipFile(f"it holds no folder {folder}")


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
