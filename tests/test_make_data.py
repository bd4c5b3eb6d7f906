"""`make data` against a local server: archives in the official layouts, and all that goes wrong."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs import recipe
from configs.record_settings import DataSettings
from data_prep import http_download
from data_prep.archives import DOWNLOADS, load
from data_prep.download import download_data
from data_prep.sources import read_sources
from mtcnn_detector.errors import UserError
from tests.data_sets import MTCNN
from tests.http_server import Server, archive_of, serving
from tests.published import Published, archives, drawn, of_scenes, small, write_downloads

ROOT = Path(__file__).parents[1]
SPLIT = "wider/wider_face_split"
PAGE = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"


class Site:
    """The server, and a folder of data that is filled from it."""

    def __init__(self, server: Server, tmp_path: Path) -> None:
        self.server, self.folder, self.sets = server, tmp_path / "data", small()
        server.archives = archives(self.sets)
        server.redirects = {"/page?dl=1": "/retinaface_gt_v1.1.zip"}
        self.downloads = write_downloads(tmp_path / "local.yaml", server.url, self.sets)
        self.data = recipe.load(MTCNN).data

    def download(self, data: DataSettings | None = None) -> None:
        download_data(self.folder, data or self.data, load(self.downloads))

    def files(self) -> set[str]:
        """All files but images and the lock, by their paths; empty folders are not seen."""
        found = (p for p in self.folder.rglob("*") if p.is_file() and p.suffix != ".jpg")
        return {path.relative_to(self.folder).as_posix() for path in found} - {".lock"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(http_download, "PAUSES", (1,))
    with serving(Server()) as server:
        yield Site(server, tmp_path)


WIDER = {f"{SPLIT}/wider_face_{part}_bbx_gt.txt" for part in ("train", "val")}
TOOLS = {f"{SPLIT}/wider_{level}_val.mat" for level in ("face", "easy", "medium", "hard")}
LANDMARKS = {f"{SPLIT}/retinaface_train_label.txt"}
MTFL = {
    f"{half}_landmarks/{part}ImageList.txt" for half in ("lfw", "net") for part in ("train", "test")
}


def test_everything_that_the_recipe_names_arrives(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """Broken off half-way, and redirected."""
    site.server.breaks_after = [700]
    site.download()
    assert site.files() == WIDER | TOOLS | LANDMARKS | MTFL, "and no archive is left"
    assert site.server.starts == [0, 700, 0, 0, 0, 0, 0]
    output = capsys.readouterr().out
    for licence in ("WIDER FACE is for", "evaluation tools", "RetinaFace's five", "5,590 LFW"):
        assert output.count(licence) == 1
    assert f"{site.folder} holds everything that can be downloaded for the recipe.\n" in output
    train = read_sources(site.folder, site.data.train)
    held_out = read_sources(site.folder, site.data.validation)
    names = {name: [one.key for one in found] for name, found in train.items()}
    assert names["wider"] == [f"wider/{name}" for name in site.sets.train]
    assert names["lfw"] == [f"lfw/lfw_5590/{name}" for name in site.sets.lfw_train]
    assert names["net_7876"] == [f"net_7876/net_7876/{name}" for name in site.sets.net_train]
    every = [one for found in (*train.values(), *held_out.values()) for one in found]
    assert all(one.image.is_file() for one in every)
    assert len({one.image for one in every}) == len(every) == 12, "no held-out image is trained on"
    face = site.sets.net_train["9_0_0.jpg"].faces[0]
    assert np.allclose(train["net_7876"][0].landmarks.reshape(-1), face[4:])
    assert np.allclose(train["wider"][0].landmarks[0], np.reshape(face[4:], (5, 2)), atol=0.01)


def test_a_second_run_asks_for_nothing(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.download()
    capsys.readouterr()
    site.server.archives, site.server.redirects, site.server.starts = {}, {}, []
    site.download()
    assert site.server.starts == []
    assert (
        capsys.readouterr().out
        == f"{site.folder} holds everything that can be downloaded for the recipe.\n"
    )


def test_the_next_address_is_tried_after_a_page(site: Site) -> None:
    """As where Dropbox has closed a link, or Google Drive asks for a confirmation."""
    site.server.archives["/page?dl=1"] = PAGE
    del site.server.redirects["/page?dl=1"]
    site.download()
    assert site.files() == WIDER | TOOLS | LANDMARKS | MTFL


def test_what_one_server_sent_is_not_gone_on_with_at_another(site: Site) -> None:
    """The first address dies half-way, and the second has another file of the name."""
    site.server.archives = {"/page?dl=1": b"!" * 900, **site.server.archives}
    site.server.redirects = {}
    named = replace(site.data, validation={}, train={"wider": site.data.train["wider"]})
    for name in ("WIDER_train.zip", "wider_face_split.zip"):
        (site.folder / "wider").mkdir(parents=True, exist_ok=True)
        (site.folder / "wider" / name).write_bytes(site.server.archives[f"/{name}"])
    site.server.breaks_after = [100, 0]
    site.download(named)
    assert site.server.starts == [0, 100, 0]
    assert site.files() == WIDER | LANDMARKS


def test_what_the_recipe_needs_is_named_and_ends_in_an_error(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.server.archives["/retinaface_gt_v1.1.zip"] = PAGE
    with pytest.raises(
        UserError,
        match=r"in wider/retinaface_gt_v1\.1\.zip, which .* is not named above is there",
    ):
        site.download()
    assert site.files() == WIDER | TOOLS | MTFL
    errors = capsys.readouterr().err
    file = site.folder / "wider" / "retinaface_gt_v1.1.zip"
    for url in (f"{site.server.url}page?dl=1", f"{site.server.url}retinaface_gt_v1.1.zip"):
        page = "a web page, 'Google Drive - Quota exceeded', in place of the archive"
        assert f"{url}: {page}, not a zip file." in errors
    by_hand = (
        f"from https://github.com/deepinsight/insightface (detection/retinaface), save it as {file}"
    )
    assert by_hand in errors and "repeat `make data`" in errors
    assert errors.count("By hand:") == 1
    file.write_bytes(archives(site.sets)["/retinaface_gt_v1.1.zip"])
    site.server.starts = []
    site.download()
    assert site.files() == WIDER | TOOLS | LANDMARKS | MTFL
    assert site.server.starts == []


def test_what_is_optional_is_named_without_an_error(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    del site.server.archives["/mtfl_train.zip"], site.server.archives["/WIDER_val.zip"]
    site.download()
    assert site.files() == WIDER | TOOLS | LANDMARKS
    assert not (site.folder / "lfw_landmarks").exists()
    output, errors = capsys.readouterr()
    assert f"{site.server.url}mtfl_train.zip: the server answers 404 Not Found." in errors
    assert f"save it as {site.folder / 'mtfl_train.zip'}, and repeat" in errors
    assert f"save it as {site.folder / 'wider' / 'WIDER_val.zip'}, and repeat" in errors
    assert "which the recipe can do without.\n" in output


def test_an_unreachable_server_costs_only_what_it_has(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    text = site.downloads.read_text()
    site.downloads.write_text(text.replace(f"{site.server.url}WIDER_train", "http://127.0.0.1:1/W"))
    with pytest.raises(UserError, match=r"in wider/WIDER_train\.zip, which"):
        site.download()
    assert re.search("http://127.0.0.1:1/W.zip: no connection .*refused", capsys.readouterr().err)
    assert site.files() == WIDER | TOOLS | LANDMARKS | MTFL


@pytest.mark.parametrize(
    ("name", "members", "problem"),
    [
        (
            "mtfl_train.zip",
            {"lfw_5590/a.jpg": b"a", "lfw_5590/Thumbs.db": b"b"},
            "lfw_5590 holds 1 images instead of 3",
        ),
        ("mtfl_train.zip", {"net_7876/a.jpg": b"a"}, "it holds no folder lfw_5590"),
        ("retinaface_gt_v1.1.zip", {"label.txt": b"# a"}, "it holds no file train/label.txt"),
        (
            "retinaface_gt_v1.1.zip",
            {"train/label.txt": b"# a.jpg\n1 2 3\n# b.jpg\n"},
            r"retinaface_train_label\S*label.txt:2: expected 20 numbers",
        ),
        (
            "retinaface_gt_v1.1.zip",
            {"train/label.txt": b"# a.jpg\n# b.jpg\n# b.jpg\n"},
            "train/label.txt lists 2 images instead of 3",
        ),
        ("wider_face_split.zip", {"../evil": b"x"}, "evil would lie outside the folder"),
    ],
)
def test_an_archive_of_something_else_is_refused(
    site: Site,
    name: str,
    members: dict[str, bytes],
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    site.server.archives[f"/{name}"] = archive_of(members)
    required = name != "mtfl_train.zip"
    try:
        site.download()
        assert not required
    except UserError as error:
        assert required and name in str(error)
    assert re.search(rf"missing: .*{problem}", capsys.readouterr().err)
    assert not list(site.folder.rglob("*.zip*"))
    assert not [path for path in site.folder.rglob("*") if "unpacking" in path.name]
    brought = {"mtfl": MTFL, "reti": LANDMARKS, "wide": WIDER}[name[:4]]
    assert site.files() == (WIDER | TOOLS | LANDMARKS | MTFL) - brought


def test_a_wrong_list_leaves_its_source_out(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """A source counts as there once its list is, so the images come first."""
    sets = site.sets._replace(lfw_test={}, net_test={})
    site.server.archives["/mtfl_train.zip"] = archives(sets)["/mtfl_train.zip"]
    site.server.archives["/mtfl_train.zip"] = archive_of(
        {
            **{f"lfw_5590/{i}.jpg": b"i" for i in range(3)},
            "testImageList.txt": b"net_7876\\a.jpg 1 2 3 4" + b" 1" * 10,
        }
    )
    site.download()
    assert "testImageList.txt lists 0 lfw_5590 images instead of 1" in capsys.readouterr().err
    assert site.files() == WIDER | TOOLS | LANDMARKS


def test_a_wrong_archive_put_there_by_hand_is_kept(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    file = site.folder / "mtfl_train.zip"
    file.parent.mkdir()
    file.write_bytes(PAGE)
    site.download()
    assert file.read_bytes() == PAGE
    assert f"{file} is damaged (a web page" in (errors := capsys.readouterr().err)
    assert "not a zip file): remove it." in errors


def test_an_existing_folder_of_lfw_is_left_alone(site: Site) -> None:
    """Its images may be of another size than MTFL's, and its lists fit them."""
    own = site.folder / "lfw_landmarks"
    (own / "lfw_5590").mkdir(parents=True)
    for name in ("trainImageList.txt", "testImageList.txt"):
        (own / name).write_text("own")
    site.download()
    assert (own / "trainImageList.txt").read_text() == "own"
    assert not list((own / "lfw_5590").iterdir())
    assert len(list((site.folder / "net_landmarks" / "net_7876").iterdir())) == 4


def test_the_whole_set_unpacked_by_hand_is_one_source(site: Site) -> None:
    for half in ("lfw_5590", "net_7876"):
        (site.folder / "lfw_landmarks" / half).mkdir(parents=True)
    site.download()
    assert not (site.folder / "net_landmarks").exists()
    assert site.server.starts == [0] * 5


def test_only_what_the_recipe_names_is_downloaded(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = replace(site.data.train["wider"], landmarks=None)
    site.download(replace(site.data, train={"wider": plain}, validation={}))
    assert site.files() == WIDER
    assert not (site.folder / "wider" / "WIDER_val").exists()
    assert "RetinaFace" not in capsys.readouterr().out
    site.download(recipe.load(MTCNN, ["data.landmarks=false"]).data)
    assert site.files() == WIDER | TOOLS, "no set that is for landmarks alone"
    site.server.starts = []
    site.download(recipe.load(ROOT / "configs" / "demo.yaml").data)
    assert "in none of the archives" in capsys.readouterr().out
    assert site.server.starts == []


def test_a_recipe_without_landmarks_needs_none(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.download(replace(site.data, landmarks=False, validation={}))
    assert site.files() == WIDER
    assert "RetinaFace" not in capsys.readouterr().out


def test_a_file_of_addresses_names_only_what_it_changes(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror.yaml"
    change = "wider: {archives: {train: {urls: [http://mirror/WIDER_train.zip]}}}"
    mirror.write_text(f"base: {DOWNLOADS}\n{change}\n")
    ours, theirs = load(), load(mirror)
    archive = theirs["wider"].archives["train"]
    assert archive.urls == ("http://mirror/WIDER_train.zip",)
    assert (
        replace(archive, urls=ours["wider"].archives["train"].urls)
        == (ours["wider"].archives["train"])
    )
    assert theirs["mtfl"] == ours["mtfl"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("urls: [ftp://mirror/x.zip]", "urls must begin with http"),
        ("urls: []", "urls names no address"),
        ("url: x", "url"),
        ("file: ../x.zip", "file must be paths below the data"),
        ("unpack: {/etc/passwd: {member: x}}", "unpack must be paths below the data"),
    ],
)
def test_a_wrong_file_of_addresses_is_refused(tmp_path: Path, change: str, problem: str) -> None:
    mirror = tmp_path / "mirror.yaml"
    mirror.write_text(f"base: {DOWNLOADS}\nwider: {{archives: {{train: {{{change}}}}}}}\n")
    with pytest.raises(UserError, match=rf"mirror\.yaml: .*wider\.archives\.train\.{problem}"):
        load(mirror)
    with pytest.raises(UserError, match=r"none\.yaml: there is no such file; DOWNLOADS= names one"):
        load(tmp_path / "none.yaml")


def test_the_archives_fit_the_default_recipe() -> None:
    """Everything that the sources name is brought by an archive, and by one only."""
    data = recipe.load(MTCNN).data
    brought = [path for one in load().values() for a in one.archives.values() for path in a.unpack]
    assert len(set(brought)) == len(brought)
    for source in (*data.train.values(), *data.validation.values()):
        for path in (*source.label_files, source.landmarks):
            assert path is None or path in brought
        assert any(
            Path(path).is_relative_to(source.images) or path in source.images for path in brought
        )


TINY = """
base: {root}/configs/mtcnn.yaml
data: {{folder: {folder}/data, validation_fraction: 0.3}}
pnet:
  records: {{negatives_per_image: 20, images_per_shard: 8}}
  train: {{steps: 10, batch: 64, steps_per_epoch: 5, warmup_steps: 2}}
"""


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`make` with the Python that runs the tests."""
    (folder / "ready").touch()  # newer than pyproject.toml: nothing is installed
    command = ["make", "--no-print-directory", "-C", str(ROOT), *words]
    command += [f"VENV={sys.prefix}", f"READY={folder / 'ready'}", f"RUN={folder / 'run'}"]
    command += [f"CONFIG={folder / 'tiny.yaml'}"]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_a_training_on_what_make_data_brought(tmp_path: Path) -> None:
    """A few scenes, landmarks of all three sources; the other stages are test_pipeline's."""
    from data_prep import sample_faces

    sample_faces.compose(tmp_path / "scenes", 24, 4, seed=3)
    scenes = of_scenes(tmp_path / "scenes", "train")
    scenes = [one for one in scenes if one.faces]
    names = {f"0--Scene/{i}.jpg": one for i, one in enumerate(scenes[:12])}
    held_out = of_scenes(tmp_path / "scenes", "val")
    sets = Published(
        names,
        {f"0--Scene/v{i}.jpg": one for i, one in enumerate(held_out)},
        {f"Ann_{i:04}.jpg": one for i, one in enumerate(scenes[12:17])},
        {"Bob_0001.jpg": scenes[17]},
        {f"{i}_0_0.jpg": one for i, one in enumerate(scenes[18:-1])},
        {"9_1_0.jpg": scenes[-1]},
    )
    (tmp_path / "tiny.yaml").write_text(TINY.format(root=ROOT, folder=tmp_path))
    with serving(Server(archives(sets))) as server:
        downloads = write_downloads(tmp_path / "local.yaml", server.url, sets)
        del server.archives["/WIDER_train.zip"]
        failed = make(tmp_path, "data", f"DOWNLOADS={downloads}")
        assert failed.returncode != 0
        assert "error: the recipe needs what is in wider/WIDER_train.zip" in failed.stderr
        command = f"make data CONFIG={tmp_path}/tiny.yaml RUN={tmp_path}/run DOWNLOADS={downloads}"
        assert f"repeat `{command}`" in failed.stderr
        server.archives = archives(sets)
        done = make(
            tmp_path, "data", "pnet-data", "train-pnet", "WORKERS=2", f"DOWNLOADS={downloads}"
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    manifest = json.loads((tmp_path / "run" / "records" / "pnet" / "manifest.json").read_text())
    assert manifest["complete"] and manifest["counts"]["train"]["landmark"] > 0
    report = (tmp_path / "run" / "labels.md").read_text()
    assert all(f"## {name} (" in report for name in ("wider", "lfw", "net_7876"))
    assert (tmp_path / "run" / "pnet" / "weights.npz").is_file()


def test_the_drawn_images_differ() -> None:
    """Else a test on held-out images would look at those that are trained on."""
    contents = [one.content for images in small() for one in images.values()]
    assert len(set(contents)) == len(contents) == 12
    assert drawn(1) == drawn(1)
