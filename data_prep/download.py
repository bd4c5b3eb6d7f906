"""Download of WIDER FACE: archives fetched, verified and unpacked."""

import re
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from data_prep.http_download import fetch
from mtcnn_detector.errors import UserError

HUB = "https://huggingface.co/datasets/wider_face/resolve/main/"
LICENCE = """\
WIDER FACE is for non-commercial research only (CC BY-NC-ND 4.0): S. Yang, P. Luo, C. C. Loy,
X. Tang, 'WIDER FACE: A Face Detection Benchmark', CVPR 2016, http://shuoyang1213.me/WIDERFACE/.
The annotations are the Chinese University of Hong Kong's, the images their owners'.
By going on you accept these terms."""


@dataclass(frozen=True)
class RemoteFile:
    """An archive below the base URL and the folder that it contains."""

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


def download_wider(
    folder: Path, base_url: str = HUB, files: Sequence[RemoteFile] = WIDER_FILES
) -> None:
    """Download WIDER FACE into `folder`/wider; folders that exist already are left alone.

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
            fetch(f"{base_url.rstrip('/')}/{file.path}", archive, file.size, file.sha256)
        _unpack(archive, wider / file.folder)
        archive.unlink()


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the member `folder.name` of `archive` as `folder`, atomically."""
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
