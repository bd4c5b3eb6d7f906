"""HTTP download: resumed where the connection broke, verified, atomic."""

import hashlib
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, InvalidURL
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mtcnn_detector.errors import UserError

TIMEOUT = 30  # seconds without a byte after which a connection counts as broken
PAUSES = (2, 5, 15, 30, 60)  # seconds before each new attempt, counted anew after any progress
CHUNK = 1 << 20  # bytes


class BrokenConnectionError(Exception):
    """The server could not be reached, or the connection ended early: worth another attempt."""


class NotOnServerError(UserError):
    """The server answers that it has no such file, or does not give it out."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects and keeps the SHA-256 that the Hub announces in one of them."""

    sha256: str | None = None

    def redirect_request(self, *args: Any) -> urllib.request.Request | None:
        """(request, body, code, message, headers, address) -> the next request."""
        announced = args[4].get("X-Linked-ETag", "").strip('"')
        if re.fullmatch("[0-9a-f]{64}", announced):
            self.sha256 = announced
        return super().redirect_request(*args)


def fetch(url: str, target: Path, size: int | None = None, sha256: str | None = None) -> None:
    """Download `url` as `target`, atomically; a later call resumes from `<target>.part`.

    Args:
        url: an address of http or https; redirects are followed.
        target: the file to write.
        size: its length in bytes, if known.
        sha256: its checksum in hexadecimal, if known; else the one that the server announces in
            `X-Linked-ETag`, as the Hugging Face Hub does.

    Raises:
        NotOnServerError: the server lacks the file.
        UserError: it has one of another size, or stays unreachable; or the checksum differs.
        OSError: the disk is full.
    """
    part = target.with_name(target.name + ".part")
    pauses = iter(PAUSES)
    while True:
        before = _size(part)
        try:
            announced = _resume(url, part, size)
            break
        except BrokenConnectionError as error:
            pauses = iter(PAUSES) if _size(part) > before else pauses
            pause = next(pauses, None)
            if pause is None:
                raise UserError(f"{url}: {error}; the same command goes on from here.") from error
            print(f"{url}: {error}; trying again in {pause} s.")
            time.sleep(pause)
    _verify(part, url, sha256 or announced)
    part.replace(target)


def _resume(url: str, part: Path, size: int | None) -> str | None:
    """Append the rest of `url` to `part`; returns the SHA-256 that the server announces.

    Raises:
        BrokenConnectionError: The connection broke; `part` holds the bytes received.
        NotOnServerError: The server has no such file.
        UserError: It has one of another size than `size`.
    """
    redirects = _Redirects()
    with _open(url, _size(part), redirects) as response:
        total = _total(response)
        if size is not None and total not in (None, size):
            page = response.headers.get_content_type() == "text/html"
            other = "a web page in place of the archive" if page else "another file"
            raise UserError(f"{url} has {total} bytes instead of {size}: it is {other}.")
        if response.status != 416:
            _append(response, part, total)
        elif total != _size(part):
            part.unlink()
            raise BrokenConnectionError("the part received is longer than the file; starting over")
    if total is not None and _size(part) < total:
        raise BrokenConnectionError(f"the connection ended after {_size(part)} of {total} bytes")
    return redirects.sha256


def _open(url: str, start: int, redirects: _Redirects) -> Any:
    """The response to a request for the bytes of `url` from `start` on; its status may be 416."""
    try:
        ranged = {"Range": f"bytes={start}-"} if start else {}
        request = urllib.request.Request(url, headers=ranged)
        with _broken_connections():
            return urllib.request.build_opener(redirects).open(request, timeout=TIMEOUT)
    except ValueError as error:
        raise NotOnServerError(f"{url} is no address: {error}.") from error
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        if error.code >= 500 or error.code in (408, 429):
            raise BrokenConnectionError(f"the server answers {error.code}") from error
        raise NotOnServerError(f"{url}: the server answers {error.code} {error.reason}.") from error


@contextmanager
def _broken_connections() -> Iterator[None]:
    """Separate errors of the network from those of the disk: both are OSErrors."""
    try:
        yield
    except urllib.error.HTTPError:
        raise
    except InvalidURL as error:
        raise ValueError(str(error)) from error
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
        return  # the checksums inside an archive are still checked when it is unpacked
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        part.unlink()
        raise UserError(
            f"{url} arrived damaged (SHA-256 {found} instead of {sha256}) and was removed: "
            "repeat the command."
        )


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0
