"""Download of research data: each archive by itself, verified, unpacked, resumable."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from configs.record_settings import DataSettings, Source
from data_prep.archives import Archive, DownloadSet, Member
from data_prep.http_download import NotOnServerError, fetch
from data_prep.unpack import BadArchiveError, unpack
from mtcnn_detector.errors import UserError
from pipeline import folders
from pipeline.make_command import make_command

TERMS = "By going on you accept these terms."


@dataclass(frozen=True)
class Missing:
    """An archive that could not be had, and why."""

    page: str
    archive: Archive
    problem: str


def download_wider(folder: Path, base_url: str | None, wider: DownloadSet) -> None:
    """Download WIDER FACE into `folder`/wider; what is there already is left alone.

    Whenever it stops, the same call goes on where it stopped.

    Args:
        folder: the folder of the data.
        base_url: another copy of the dataset's repository; its `data/` holds the archives.
        wider: the archives.

    Raises:
        UserError: The server lacks a file, stays unreachable, or sends a damaged archive.
        OSError: The disk is full.
    """
    if base_url is not None and not base_url.startswith(("http://", "https://")):
        raise UserError(f"--url (URL=) {base_url!r} must begin with http:// or https://.")
    archives = [archive for archive in wider.archives.values() if archive.missing(folder)]
    if not archives:
        print(f"{folder / 'wider'} is complete: nothing to do.")
        return
    print(f"{wider.licence}{TERMS}")
    for archive in archives:
        if base_url is not None:
            name = PurePosixPath(archive.file).name
            archive = replace(archive, urls=(f"{base_url.rstrip('/')}/data/{name}",))
        try:
            obtain(folder, archive)
        except NotOnServerError as error:
            raise UserError(f"{str(error).rstrip('.')}: check --url (URL=).") from error


def download_data(folder: Path, data: DataSettings, sets: Mapping[str, DownloadSet]) -> None:
    """Download what a recipe's sources name; each archive is independent of the others.

    What is there already is left alone. An archive that cannot be had is named at the end, with
    the place where a person gets it and the one where it belongs.

    Args:
        folder: the folder of the data.
        data: the sources of the recipe.
        sets: the archives that are published.

    Raises:
        UserError: an archive is missing that a source needs which is not optional.
        OSError: The disk is full.
    """
    sources = [*data.train.values(), *data.validation.values()]
    if not data.landmarks:
        sources = [replace(one, landmarks=None) for one in sources if not one.landmarks_only]
    named = [path for source in sources for path in _paths(source)]
    needed = [path for source in sources if not source.optional for path in _paths(source)]
    wanted = {
        name: replace(one, archives={key: a for key, a in one.archives.items() if a.brings(named)})
        for name, one in sets.items()
    }
    if not any(one.archives for one in wanted.values()):
        print("The recipe's sources are in none of the archives that can be downloaded.")
        return
    missing = [failed for one in wanted.values() for failed in _download_set(folder, one)]
    for failed in missing:
        print(_by_hand(folder, failed), file=sys.stderr)
    lost = [failed.archive.file for failed in missing if failed.archive.brings(needed)]
    if lost:
        raise UserError(
            f"the recipe needs what is in {', '.join(lost)}, which could not be had; "
            "what is not named above is there."
        )
    rest = " but what is named above, which the recipe can do without" if missing else ""
    print(f"{folder} holds everything that can be downloaded for the recipe{rest}.")


def _download_set(folder: Path, one: DownloadSet) -> list[Missing]:
    """Download the archives of a set whose content is not there; those that cannot be had."""
    archives = [archive for archive in one.archives.values() if archive.missing(folder)]
    if archives:
        print(f"{one.licence}{TERMS}", flush=True)
    failed = []
    for archive in archives:
        try:
            obtain(folder, archive)
        except UserError as error:
            failed.append(Missing(one.page, archive, str(error)))
    return failed


def obtain(folder: Path, archive: Archive) -> None:
    """Fetch an archive from the first address that has it, and unpack it below `folder`.

    An archive that lies at its place already, put there by hand, is unpacked as it is.

    Raises:
        UserError: no address sends the archive.
        OSError: The disk is full.
    """
    with folders.locked(folder):
        members = {path: archive.unpack[path] for path in archive.missing(folder)}
        if members:  # else another command has brought them meanwhile
            _obtain(folder, archive, members)


def _obtain(folder: Path, archive: Archive, members: Mapping[str, Member]) -> None:
    file = folder / archive.file
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists():
        try:
            unpack(file, folder, members)
        except BadArchiveError as error:
            raise UserError(f"{file} is damaged ({error}): remove it.") from error
    else:
        _from_addresses(folder, archive, members)
    file.unlink()
    for part in file.parent.glob(f"{file.name}*.part"):  # of addresses that broke off
        part.unlink()


def _from_addresses(folder: Path, archive: Archive, members: Mapping[str, Member]) -> None:
    """Fetch and unpack an archive; the archive stays."""
    problems = []
    for place, url in enumerate(archive.urls):
        try:
            _from_address(url, place, folder, archive, members)
            return
        except UserError as error:
            if len(archive.urls) == 1:
                raise
            problems.append(str(error))
    raise UserError(" ".join(problems))


def _from_address(
    url: str, place: int, folder: Path, archive: Archive, members: Mapping[str, Member]
) -> None:
    file = folder / archive.file
    # What one server sent is not gone on with at another, whose file may differ.
    own = file.with_name(f"{file.name}.{place + 1}") if place else file
    fetch(url, own, archive.size, archive.sha256)
    own.replace(file)
    try:
        unpack(file, folder, members)
    except BadArchiveError as error:
        file.unlink()
        if len(archive.urls) > 1:
            raise UserError(f"{url}: {error}.") from error
        raise UserError(
            f"{file} is damaged ({error}) and was removed: repeat the command."
        ) from error


def _paths(source: Source) -> list[str]:
    """Everything that a source names below the folder of the data."""
    paths = [*source.label_files, source.images]
    if source.landmarks is not None:
        paths.append(source.landmarks)
    if source.wider_ground_truth is not None:  # a folder that holds other files, too
        paths.append(f"{source.wider_ground_truth}/wider_face_val.mat")
    return paths


def _by_hand(folder: Path, missing: Missing) -> str:
    archive = missing.archive
    return (
        f"missing: {missing.problem}\n"
        f"  By hand: get the archive from {missing.page}, save it as {folder / archive.file}, and "
        f"repeat `{make_command('data')}`."
    )
