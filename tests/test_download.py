"""The download of WIDER FACE against a local server that misbehaves in every expected way."""

import errno
import hashlib
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import http_download
from data_prep.archives import Archive, DownloadSet, Member, load
from data_prep.download import download_wider
from data_prep.unpack import unpack
from mtcnn_detector.errors import UserError
from tests.http_server import Server, archive_of, serving


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


IMAGE = np.random.default_rng(0).bytes(300_000)
TRAIN = archive_of({"WIDER_train/images/0--Parade/a.jpg": IMAGE, "WIDER_train/b.jpg": b"b"})
SPLIT = archive_of({"wider_face_split/wider_face_train_bbx_gt.txt": b"x\n", "__MACOSX/y": b"y"})
ARCHIVES = {"/data/WIDER_train.zip": TRAIN, "/data/wider_face_split.zip": SPLIT}


def remote(name: str, size: int | None = None, sha256: str | None = None) -> Archive:
    """An archive of one folder, below the base URL that the tests give."""
    unpack = {f"wider/{name}": Member(name)}
    return Archive(("http://unused/",), f"wider/{name}.zip", unpack, size, sha256)


FILES = (remote("WIDER_train"), remote("wider_face_split"))


def download(folder: Path, url: str, files: Sequence[Archive]) -> None:
    """`download_wider` of some archives."""
    licence = load()["wider"].licence
    download_wider(folder, url, DownloadSet(licence, "http://page", {f.file: f for f in files}))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server(dict(ARCHIVES))) as state:
        yield state


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waiting; the list of the pauses that would have been."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(http_download, "PAUSES", (1, 2))
    return slept


def complete(folder: Path) -> bool:
    """All is unpacked, and nothing else is left but the lock of the folder."""
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert {name: found[name].read_bytes() for name in found} == {
        "wider/WIDER_train/images/0--Parade/a.jpg": IMAGE,
        "wider/WIDER_train/b.jpg": b"b",
        "wider/wider_face_split/wider_face_train_bbx_gt.txt": b"x\n",
        ".lock": b"",
    }
    return {p.name for p in (folder / "wider").iterdir()} == {"WIDER_train", "wider_face_split"}


def part_of(folder: Path) -> Path:
    return folder / "wider" / "WIDER_train.zip.part"


def test_download_unpacks_and_shows_the_licence(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    download(tmp_path, server.url, FILES)
    assert complete(tmp_path)
    assert "research only" in capsys.readouterr().out
    server.archives.clear()
    download(tmp_path, server.url, FILES)
    assert "nothing to do" in capsys.readouterr().out
    assert server.starts == [0, 0]


def test_what_is_there_is_left_alone(server: Server, tmp_path: Path) -> None:
    own = tmp_path / "wider" / "WIDER_train" / "own.jpg"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"own")
    download(tmp_path, server.url.rstrip("/"), FILES)
    assert [p.name for p in own.parent.iterdir()] == ["own.jpg"]
    assert (tmp_path / "wider" / "wider_face_split").is_dir()


def test_broken_connection_goes_on_where_it_broke(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.breaks_after = [100_000, 50_000, 1, 70_000]  # more often than there are pauses
    download(tmp_path, server.url, FILES)
    assert complete(tmp_path)
    assert server.starts == [0, 100_000, 150_000, 150_001, 220_001, 0]
    assert pauses == [1, 1, 1, 1], "progress starts the pauses anew"


def test_a_dead_server_ends_with_a_sentence_and_keeps_what_arrived(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.breaks_after = [100_000, 0, 0]
    with pytest.raises(UserError, match=r"WIDER_train\.zip: .*100000 of .*the same command goes"):
        download(tmp_path, server.url, FILES)
    assert pauses == [1, 2]
    assert part_of(tmp_path).read_bytes() == TRAIN[:100_000]
    server.breaks_after = []
    download(tmp_path, server.url, FILES)
    assert complete(tmp_path)
    assert server.starts == [0, 100_000, 100_000, 100_000, 0]


def test_a_silent_server_counts_as_broken(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_download, "TIMEOUT", 0.1)
    server.breaks_after, server.silence = [100_000], 0.5
    download(tmp_path, server.url, FILES)
    assert complete(tmp_path)
    assert server.starts == [0, 100_000, 0]


def test_no_server_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no connection .*refused"):
        download(tmp_path, "http://127.0.0.1:1/", FILES)
    with pytest.raises(UserError, match="must begin with http"):
        download(tmp_path, "file:///etc/", FILES)


@pytest.mark.parametrize("host", ["[::1", "127.0.0.1:port", "127.0.0.1/ä", "127.0.0.1/a b"])
def test_an_address_that_is_none_is_said_at_once(tmp_path: Path, host: str) -> None:
    with pytest.raises(UserError, match=r"is no address: .*: check --url \(URL=\)\."):
        download_wider(tmp_path, f"http://{host}", DownloadSet("", "", {"a": FILES[0]}))


def test_a_server_that_ignores_range_starts_over(server: Server, tmp_path: Path) -> None:
    server.ignores_range = True
    server.breaks_after = [100_000]
    # A sum, since a zip file with something before it still unpacks.
    pinned = remote("WIDER_train", len(TRAIN), sha256(TRAIN))
    download(tmp_path, server.url, [pinned, FILES[1]])
    assert complete(tmp_path)
    assert server.starts == [0, 100_000, 0]


@pytest.mark.parametrize(("more", "starts"), [(b"", [0, 0]), (b"more", [4, 0, 0])])
def test_range_beyond_the_end(
    server: Server, tmp_path: Path, more: bytes, starts: list[int]
) -> None:
    """Killed between the last byte and the renaming; or a file that shrank on the server."""
    part_of(tmp_path).parent.mkdir()
    part_of(tmp_path).write_bytes(TRAIN + more)
    download(tmp_path, server.url, FILES)
    assert complete(tmp_path)
    assert server.starts == [len(TRAIN) + starts[0], *starts[1:]]


def test_temporary_faults_are_tried_again(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.answers = [503, 429]
    download(tmp_path, server.url, FILES)
    assert complete(tmp_path)
    assert pauses == [1, 2]


def test_a_missing_file_is_said_at_once(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    del server.archives["/data/WIDER_train.zip"]
    with pytest.raises(UserError, match=r"WIDER_train\.zip: the server answers 404 .*check --url"):
        download(tmp_path, server.url, FILES)
    assert pauses == []


def test_the_hubs_checksum_is_used(server: Server, tmp_path: Path) -> None:
    server.announced = f'"{sha256(TRAIN)}"'
    server.breaks_after = [1000]
    download(tmp_path, server.url, FILES[:1])
    server.announced = f'"{sha256(TRAIN)}"'  # wrong for the next file
    with pytest.raises(UserError, match=rf"{sha256(SPLIT)} instead of {sha256(TRAIN)}"):
        download(tmp_path, server.url, FILES)
    assert [p.name for p in (tmp_path / "wider").iterdir()] == ["WIDER_train"]
    server.announced = '"3858f62230ac3c915f300c664312c63f"'  # no SHA-256: says nothing
    download(tmp_path, server.url, FILES)
    assert complete(tmp_path)


def test_a_corrupt_file_is_removed(server: Server, tmp_path: Path) -> None:
    server.archives["/data/WIDER_train.zip"] = TRAIN[:5000] + b"!" + TRAIN[5001:]
    pinned = remote("WIDER_train", len(TRAIN), sha256(TRAIN))
    for file, said in ((pinned, "damaged .SHA-256"), (FILES[0], "damaged .Bad CRC-32")):
        with pytest.raises(UserError, match=f"{said}.* was removed: repeat the command"):
            download(tmp_path, server.url, [file])
        assert list((tmp_path / "wider").iterdir()) == []
    server.archives["/data/WIDER_train.zip"] = TRAIN
    download(tmp_path, server.url, [pinned, FILES[1]])
    assert complete(tmp_path)


def test_another_size_is_refused_before_the_download(server: Server, tmp_path: Path) -> None:
    pinned = remote("WIDER_train", len(TRAIN) + 1)
    with pytest.raises(UserError, match=rf"has {len(TRAIN)} bytes instead of {len(TRAIN) + 1}"):
        download(tmp_path, server.url, [pinned])
    assert not part_of(tmp_path).exists()


def test_a_page_instead_of_an_archive(server: Server, tmp_path: Path) -> None:
    server.says_length = False
    server.archives["/data/WIDER_train.zip"] = b"<html>please log in</html>"
    with pytest.raises(UserError, match=r"WIDER_train\.zip is damaged .*not a zip file"):
        download(tmp_path, server.url, FILES)


@pytest.mark.parametrize(
    "name", ["WIDER_train/../../../evil", "/evil", "WIDER_train\\..\\..\\evil"]
)
def test_members_outside_the_folder_are_refused(server: Server, tmp_path: Path, name: str) -> None:
    hostile = archive_of({"WIDER_train/a.jpg": b"a", name: b"evil"})
    server.archives["/data/WIDER_train.zip"] = hostile
    with pytest.raises(UserError, match="would lie outside the folder"):
        download(tmp_path / "data", server.url, FILES)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "data" / ".lock"]


def test_an_archive_of_something_else(server: Server, tmp_path: Path) -> None:
    server.archives["/data/WIDER_train.zip"] = SPLIT
    with pytest.raises(UserError, match="it holds no folder WIDER_train"):
        download(tmp_path, server.url, FILES)


def test_ctrl_c_keeps_what_arrived(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    server.breaks_after = [100_000]
    with monkeypatch.context() as patched:
        patched.setattr(time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(tmp_path, server.url, FILES)
    download(tmp_path, server.url, FILES)
    assert complete(tmp_path)
    assert server.starts == [0, 100_000, 0]


def test_two_commands_at_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits, and finds that all is there; both would append to one file."""

    def slowly(*arguments: Any) -> None:
        second.start()
        second.join(0.2)
        assert second.is_alive(), "it waits"
        monkeypatch.setattr("data_prep.download.unpack", unpack)
        unpack(*arguments)

    monkeypatch.setattr("data_prep.download.unpack", slowly)
    second = threading.Thread(target=download, args=(tmp_path, server.url, FILES[:1]))
    download(tmp_path, server.url, FILES[:1])
    second.join()
    download(tmp_path, server.url, FILES)
    assert complete(tmp_path)
    assert server.starts == [0, 0]


def _damaged(kind: str) -> bytes:
    """An archive that `zipfile` does not unpack, each for another reason."""
    content = bytearray(archive_of({"WIDER_train/a.jpg": b"a"}))
    central = content.find(b"PK\1\2")
    if kind == "encrypted":
        content[6] |= 1
        content[central + 8] |= 1
    elif kind == "another compression":  # Windows packs files above 2 GB as Deflate64
        content[8] = content[central + 10] = 9
    elif kind == "a name of another encoding":
        content[central + 9] |= 8
        content[central + 46] = 0xFF
    else:  # the end tells a place of the list before the beginning
        content[content.find(b"PK\5\6") + 16] += 100
    return bytes(content)


@pytest.mark.parametrize(
    "kind", ["encrypted", "another compression", "a name of another encoding", "a wrong place"]
)
def test_archives_that_cannot_be_unpacked(server: Server, tmp_path: Path, kind: str) -> None:
    server.archives["/data/WIDER_train.zip"] = _damaged(kind)
    with pytest.raises(UserError, match=r"WIDER_train\.zip is damaged \(.*repeat the command"):
        download(tmp_path, server.url, FILES)


def test_killed_while_unpacking(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is unpacked by halves has no final name, and the archive is not fetched again."""
    extract = zipfile.ZipFile.extract

    def dies(self: zipfile.ZipFile, name: str, path: Path) -> str:
        if name.endswith("b.jpg"):
            raise KeyboardInterrupt
        return extract(self, name, path)

    with monkeypatch.context() as patched:
        patched.setattr(zipfile.ZipFile, "extract", dies)
        with pytest.raises(KeyboardInterrupt):
            download(tmp_path, server.url, FILES)
    assert [p.name for p in (tmp_path / "wider").iterdir()] == ["WIDER_train.zip"]
    left = tmp_path / "wider" / "WIDER_train.unpacking" / "WIDER_train" / "stale.jpg"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"of a kill -9")
    download(tmp_path, server.url, FILES)
    assert complete(tmp_path)
    assert server.starts == [0, 0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_full_disk_is_no_broken_connection(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    (tmp_path / "wider").mkdir()
    part_of(tmp_path).symlink_to("/dev/full")
    with pytest.raises(OSError) as caught:
        download(tmp_path, server.url, FILES)
    assert caught.value.errno == errno.ENOSPC
    assert pauses == []
