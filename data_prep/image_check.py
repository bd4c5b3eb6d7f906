"""Facts about image files (readable, whole, size, content digest), kept on the disk."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import IO, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from data_prep.image_headers import read_header
from data_prep.readers.entries import is_there
from mtcnn_detector.files import write_atomically

MAX_DECODED = 20_000  # images that are decoded to find damage inside: minutes, where there are more
QUIET_BELOW = 500  # images that are looked at without a progress bar
BATCH = 64  # images that are looked at together, by several threads
# Damage shows while a JPEG's code is read; at an eighth of its size little follows after that.
SMALL = cv2.IMREAD_REDUCED_GRAYSCALE_8
VERSION = 3  # of the facts on disk
UNREADABLE = "is missing or unreadable"  # begins the description of a file without an image
GIF = b"GIF8"
FOREIGN = {  # what the first bytes of a file that is no image we read say about it
    b"<!DO": "a web page",
    b"<htm": "a web page",
    GIF: "a GIF; convert it to PNG",
    b"%PDF": "a PDF",
    b"PK\x03\x04": "an archive",
    b"vers": "a Git LFS pointer; run `git lfs pull`",
}
THREADS = min(os.cpu_count() or 1, 8)
HEIF = (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc", b"ftypmsf1", b"ftypavif")


class ImageFacts(NamedTuple):
    """One file; `problem` goes on after its path, and is None for a sound image."""

    size: int = 0  # bytes
    mtime_ns: int = 0
    digest: str = ""  # of the content, 16 hexadecimal digits
    width: int = 0  # pixels, as stored
    height: int = 0
    orientation: int = 1  # EXIF's
    problem: str | None = None
    decoded: bool = False
    unusual: str = ""  # see `image_headers.Header`

    @property
    def unreadable(self) -> bool:
        """Whether there is no image."""
        return self.problem is not None and self.problem.startswith(UNREADABLE)


def look_at(paths: Sequence[Path], kept: Path) -> dict[Path, ImageFacts]:
    """Facts about images; those that have not changed since the last call come from `kept`."""
    known = _load(kept)
    facts: dict[Path, ImageFacts] = {}
    decode = len(paths) <= MAX_DECODED
    stale = []
    for path in dict.fromkeys(paths):
        fact, stat = known.get(str(path)), _stat(path)
        # What could not be read, such as a locked file, may be readable without being another one.
        current = fact is not None and fact.digest and (fact.size, fact.mtime_ns) == stat
        if fact is not None and current and (fact.decoded or not decode or fact.problem):
            facts[path] = fact
        else:
            stale.append(path)
    if stale:
        quiet = len(stale) < QUIET_BELOW
        with (
            os.fdopen(os.dup(2), "w") as shown,  # stderr, before it is captured
            tqdm(total=len(stale), desc="images", unit="img", file=shown, disable=quiet) as bar,
            _captured_stderr() as messages,
            ThreadPoolExecutor(THREADS) as threads,
        ):
            for start in range(0, len(stale), BATCH):
                batch = stale[start : start + BATCH]
                facts |= _inspect_all(batch, decode, threads, messages)
                bar.update(len(batch))
        _save(kept, known, facts)
    return facts


def _stat(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


def _inspect_all(
    paths: Sequence[Path], decode: bool, threads: ThreadPoolExecutor, messages: IO[bytes]
) -> dict[Path, ImageFacts]:
    """Facts about a batch of images.

    The decoders' warnings do not name a file: where there are any, each image is decoded alone.
    """
    before = _end(messages)
    facts = dict(zip(paths, threads.map(_inspect, paths, repeat(decode)), strict=True))
    if _end(messages) > before:
        for path, fact in facts.items():
            if fact.decoded and fact.problem is None:
                facts[path] = fact._replace(problem=_damage(path, messages))
    return facts


def _end(messages: IO[bytes]) -> int:
    return os.lseek(messages.fileno(), 0, os.SEEK_CUR)


def _inspect(path: Path, decode: bool) -> ImageFacts:
    """Facts about an image, without what the decoders warn of."""
    size, mtime = _stat(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = (
            "its link leads nowhere"
            if size == 0 and is_there(path, Path.is_symlink)
            else error.strerror
        )
        return ImageFacts(size, mtime, problem=f"{UNREADABLE}: {reason}")
    digest = hashlib.blake2b(content, digest_size=8).hexdigest()
    header = None if content.startswith(GIF) else read_header(path)  # not all OpenCVs read it
    facts = ImageFacts(size, mtime, digest, decoded=decode)
    if header is None:
        return facts._replace(problem=f"{UNREADABLE}: {_foreign(content)}")
    width, height, orientation, unusual = header
    facts = facts._replace(width=width, height=height, orientation=orientation, unusual=unusual)
    if _ends_early(content):
        return facts._replace(problem="ends early: it was cut off when it was copied")
    if decode and not _decodes(content):
        facts = facts._replace(problem=f"{UNREADABLE}: it does not decode")
    return facts


def _foreign(content: bytes) -> str:
    """What a file is that is not read as an image."""
    if not content:
        return "it is empty"
    if content[4:12] in HEIF:
        return "it is a HEIC or AVIF image; convert it to JPEG"
    kind = FOREIGN.get(content[:4].replace(b"<HTM", b"<htm"))
    return f"it is {kind}" if kind else "it is no image"


def _ends_early(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end; thumbnails and trailers have ends of their own."""
    if content.startswith(b"\xff\xd8"):
        return content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda")
    return content.startswith(b"\x89PNG") and b"IEND" not in content[-4096:]


def _decodes(content: bytes) -> bool:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), SMALL) is not None
    except cv2.error:
        return False


def _damage(path: Path, messages: IO[bytes]) -> str | None:
    """What the decoder complains about; None for a sound image."""
    before = _end(messages)
    _decodes(path.read_bytes())
    after = _end(messages)
    said = os.pread(messages.fileno(), after - before, before).decode(errors="replace")
    damaged = any(word in said for word in ("Corrupt", "Premature", "premature", "error"))
    return f"is damaged inside: {said.strip().splitlines()[0]}" if damaged else None


@contextlib.contextmanager
def _captured_stderr() -> Iterator[IO[bytes]]:
    """The file that stderr goes to meanwhile: the decoders of images write their warnings there."""
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield file
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _load(kept: Path) -> dict[str, ImageFacts]:
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            return {}
        return {path: ImageFacts(*values) for path, values in content["images"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # it is made anew


def _save(kept: Path, known: dict[str, ImageFacts], facts: dict[Path, ImageFacts]) -> None:
    images = {**known, **{str(path): fact for path, fact in facts.items()}}
    write_atomically(kept, json.dumps({"version": VERSION, "images": images}).encode())
