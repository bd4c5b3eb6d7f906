"""The check of labels: bad images and labels named one by one, figures, sheets, and its cost."""

import functools
import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tqdm import tqdm

from configs import recipe
from configs.record_settings import SAMPLE_TYPES
from configs.settings import Settings
from data_prep import crop_sheet, image_check, label_sheet, records
from data_prep.annotations import Annotation
from data_prep.build_records import prepare
from data_prep.crops import Crops
from data_prep.label_check import Checked, check
from data_prep.sources import label_sets, labelled_images, split_hash
from mtcnn_detector.errors import UserError
from tests.data_sets import MTCNN, manifest_of
from tests.label_files import Scene, coco_of, write_images

COUNTS = (
    "{negatives_per_image: 2, negatives_per_face: 1, positives_per_face: 2, parts_per_face: 1, "
)
COUNTS += "landmarks_per_face: 1, images_per_shard: 4}"


def scenes(count: int = 24) -> list[Scene]:
    boxes = [(20, 30, 40, 50), (120, 40, 50, 60)]
    return [Scene(f"{i:02}.jpg", 200 + i, 140, boxes[: 1 + i % 2]) for i in range(count)]


def write(folder: Path, content: dict[str, Any], **source: Any) -> Settings:
    """The settings of a recipe whose one source is the labels `content`."""
    (folder / "labels.json").write_text(json.dumps(content))
    own = {"format": "coco", "labels": "labels.json", "images": "images", **source}
    data = {"folder": str(folder), "max_broken_fraction": 0.9, "train": {"own": own}}
    lines = [f"base: {MTCNN}", f"data: {json.dumps(data)}", f"pnet: {{records: {COUNTS}}}"]
    (folder / "recipe.yaml").write_text("\n".join(lines))
    return recipe.load(folder / "recipe.yaml")


def run_check(settings: Settings, run: Path) -> Checked:
    sets = label_sets(Path(settings.data.folder), settings.data.train)
    return check(settings, sets, labelled_images(settings, 0, sets), run, loud=True)


def figures(run: Path) -> dict[str, str]:
    rows = [line.strip("| ").split(" | ") for line in (run / "labels.md").read_text().splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", scenes())
    return tmp_path


def test_a_sound_set(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checked = run_check(write(folder, coco_of(scenes())), folder / "run")
    assert checked.problems == {}
    assert len(set(checked.digests.values())) == 24
    found = figures(folder / "run")
    wanted = {"images": "24", "faces": "36", "with five landmarks": "36", "ignored": "0"}
    assert {key: found[key] for key in wanted} == wanted
    assert found["objects by category"] == "face 36"
    assert 0 < int(found["held out"]) < 12
    sheet = cv2.imread(str(folder / "run" / "labels.jpg"))
    assert sheet is not None and sheet.shape[1] > 1000
    printed = capsys.readouterr()
    assert "24 images, 36 faces, 36 with five landmarks" in printed.out
    assert printed.err == ""


def damaged(path: Path) -> None:
    """Overwrite a piece in the middle of the pixels."""
    content = bytearray(path.read_bytes())
    middle = (content.rfind(b"\xff\xda") + len(content)) // 2
    content[middle : middle + 60] = b"\xff\xc4" * 30
    path.write_bytes(content)


def thumbnail(content: bytes) -> bytes:
    """A JPEG with an EXIF segment that holds a whole small JPEG."""
    done, small = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))
    assert done
    body = b"Exif\x00\x00" + small.tobytes()
    return content[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + content[2:]


BROKEN = {
    "00.jpg": "is missing or unreadable: No such file",
    "01.jpg": "is missing or unreadable: it is empty",
    "02.jpg": "ends early",
    "03.jpg": "is damaged inside",
    "04.jpg": "it is a HEIC or AVIF image; convert it to JPEG",
    "05.jpg": "it is a web page",
    "06.jpg": "it is a GIF",
    "07.jpg": "it is a Git LFS pointer; run `git lfs pull`",
    "08.jpg": "it is no image",
    "09.jpg": "it is a PDF",
    "10.jpg": "it is an archive",
    "11.jpg": "is missing or unreadable: Is a directory",
    "12.png": "ends early",
    "13.jpg": "ends early",  # though its thumbnail has an end
    "14.jpg": "lies outside its image",
    "15.jpg": "lies outside its image",
}


def break_images(images: Path) -> None:
    half = (images / "02.jpg").read_bytes()
    (images / "00.jpg").unlink()
    (images / "01.jpg").write_bytes(b"")
    (images / "02.jpg").write_bytes(half[: len(half) // 2])
    damaged(images / "03.jpg")
    (images / "04.jpg").write_bytes(b"\x00\x00\x00\x18ftypheic" + b"\x00" * 100)
    (images / "05.jpg").write_bytes(b"<!DOCTYPE html><html>log in</html>")
    (images / "06.jpg").write_bytes(b"GIF89a")
    (images / "07.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (images / "08.jpg").write_bytes(b"hello")
    (images / "09.jpg").write_bytes(b"%PDF-1.4")
    (images / "10.jpg").write_bytes(b"PK\x03\x04" + b"\x00" * 50)
    (images / "11.jpg").unlink()
    (images / "11.jpg").mkdir()
    whole = cv2.imread(str(images / "12.jpg"))
    assert whole is not None
    cv2.imwrite(str(images / "12.png"), whole)
    content = (images / "12.png").read_bytes()
    (images / "12.png").write_bytes(content[: len(content) * 2 // 3])
    content = thumbnail((images / "13.jpg").read_bytes())
    (images / "13.jpg").write_bytes(content[: len(content) * 2 // 3])


def bad_content() -> dict[str, Any]:
    content = coco_of(scenes())
    content["images"][12]["file_name"] = "12.png"
    for label in content["annotations"]:
        outside = {15: [500, 20, 30, 40], 16: [20, 30, 4000, 50]}.get(label["image_id"])
        label["bbox"] = outside or label["bbox"]
    return content


def test_a_folder_of_bad_images(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each is named in one sentence, and none of the others is lost."""
    break_images(folder / "images")
    settings = write(folder, bad_content())
    checked = run_check(settings, folder / "run")
    found = {Path(path).name: sentence for path, sentence in checked.problems.items()}
    assert found.keys() == BROKEN.keys()
    for name, wanted in BROKEN.items():
        assert wanted in found[name] and name in found[name], found[name]
        assert "\n" not in found[name]
    table = figures(folder / "run")
    assert (table["missing"], table["unreadable"], table["truncated or damaged"]) == ("1", "9", "4")
    assert "Corrupt" not in capfd.readouterr().err.replace("damaged inside: Corrupt", "")
    prepare(settings, "pnet", folder / "run", 1, force=False)
    manifest = manifest_of(folder / "run")
    assert {Path(path).name for path in manifest["broken"]} == BROKEN.keys()
    assert manifest["images"] == 24


def test_too_many_stop_before_anything_is_cut(folder: Path) -> None:
    break_images(folder / "images")
    write(folder, bad_content())
    settings = recipe.load(folder / "recipe.yaml", ["data.max_broken_fraction=0.1"])
    with pytest.raises(UserError, match=r"16 of 24 images cannot be used: .*; and 11 more"):
        prepare(settings, "pnet", folder / "run", 1, force=False)
    assert not (folder / "run" / "records").exists()


def test_a_second_check_reads_no_image(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = write(folder, coco_of(scenes()))
    first = run_check(settings, folder / "run")
    read: list[str] = []
    inspect = image_check._inspect

    def noted(path: Path, *more: Any) -> image_check.ImageFacts:
        read.append(path.name)
        return inspect(path, *more)

    monkeypatch.setattr(image_check, "_inspect", noted)
    assert run_check(settings, folder / "run") == first
    assert read == []
    cv2.imwrite(str(folder / "images" / "05.jpg"), np.zeros((140, 205, 3), np.uint8))
    assert run_check(settings, folder / "run").digests != first.digests
    assert read == ["05.jpg"]
    kept = folder / "run" / "labels" / "images.json"
    facts = json.loads(kept.read_text())
    locked = str(folder / "images" / "07.jpg")
    facts["images"][locked][2:] = ["", 0, 0, 1, "is missing or unreadable: Permission denied"]
    kept.write_text(json.dumps(facts))
    assert run_check(settings, folder / "run").problems == {}, "it was unlocked"
    kept.write_text("{")
    assert run_check(settings, folder / "run").problems == {}


def test_the_sheet_is_drawn_anew_where_labels_were_mended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Boxes that move leave every figure of the report equal; so do other pixels."""
    drawn: list[int] = []
    draw = label_sheet.write

    def noted(target: Path, annotations: Sequence[Annotation]) -> bool:
        drawn.append(len(annotations))
        return draw(target, annotations)

    monkeypatch.setattr(label_sheet, "write", noted)
    run, content = folder / "run", coco_of(scenes())
    run_check(write(folder, content), run)
    report, sheet = (run / "labels.md").read_text(), (run / "labels.jpg").read_bytes()
    run_check(write(folder, content), run)
    assert drawn == [24]
    for label in content["annotations"]:
        label["bbox"][0] += 3
    run_check(write(folder, content), run)
    assert (run / "labels.md").read_text() == report
    assert (run / "labels.jpg").read_bytes() != sheet
    cv2.imwrite(str(folder / "images" / "05.jpg"), np.zeros((140, 205, 3), np.uint8))
    run_check(write(folder, content), run)
    run_check(write(folder, content), run)
    assert drawn == [24, 24, 24]


def test_copies_of_images_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(1, 24):
        shutil.copy(folder / "images" / "00.jpg", folder / "images" / f"{i:02}.jpg")
    content = coco_of([scene._replace(width=200) for scene in scenes()])
    run_check(write(folder, content), folder / "run")
    assert figures(folder / "run")["identical files"] == "23"
    assert "held-out images are copies of images to train on" in capsys.readouterr().err


def test_an_image_whose_boxes_are_all_empty_is_no_background(folder: Path) -> None:
    content = coco_of(scenes())
    for label in content["annotations"]:
        if label["image_id"] in (1, 2):
            label["bbox"][2:] = [0, 0]
    settings = write(folder, content)
    run_check(settings, folder / "run")
    found = figures(folder / "run")
    assert found["left out, all boxes empty"] == "2"
    assert found["empty boxes, dropped"] == "3"
    sets = labelled_images(settings, 0)
    keys = {one.annotation.key for part in sets.values() for one in part}
    assert len(keys) == 22 and not keys & {"own/00.jpg", "own/01.jpg"}


def test_suspicious_labels_are_sentences(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = coco_of(scenes())
    for label in content["annotations"]:
        label["bbox"] = [label["bbox"][0], label["bbox"][1], 8, 10]
        del label["keypoints"]
    content["annotations"] += [
        dict(label, id=100 + label["id"]) for label in content["annotations"]
    ]
    run_check(write(folder, content), folder / "run")
    printed = capsys.readouterr().err
    assert "72 of 72 faces are below min_face (16 px): set data.min_face lower" in printed
    assert "36 of 72 faces are labelled twice: is the set merged from two copies?" in printed
    assert "no face has five landmarks: there will be no landmark crops" in printed


def test_corners_in_a_list_without_sizes(folder: Path) -> None:
    rows = ["24", "image_id x_1 y_1 width height"]
    rows += [f"{scene.name} 20 30 {150 + i} {100 + i}" for i, scene in enumerate(scenes())]
    (folder / "list.txt").write_text("\n".join(rows))
    settings = write(folder, {}, format="celeba", labels="list.txt")
    with pytest.raises(UserError, match=r"list\.txt:3.*boxes reach beyond .* set boxes: xyxy"):
        run_check(settings, folder / "run")
    settings = write(folder, {}, format="celeba", labels="list.txt", boxes="xyxy")
    assert run_check(settings, folder / "run").problems == {}


def blacken(folder: Path) -> None:
    for scene in scenes():
        black = np.zeros((scene.height, scene.width, 3), np.uint8)
        cv2.imwrite(str(folder / "images" / scene.name), black)


def test_the_sheet_shows_left_eyes_in_yellow(folder: Path) -> None:
    blacken(folder)

    def yellow(settings: Settings) -> float:
        """Mean x of yellow pixels within the tiles of faces, 0 to 1."""
        run_check(settings, folder / "run")
        sheet = cv2.imread(str(folder / "run" / "labels.jpg"))
        assert sheet is not None
        faces = sheet[-3 * 122 : -8].astype(int)
        blue, green, red = faces[..., 0], faces[..., 1], faces[..., 2]
        columns = np.nonzero((red > 200) & (green > 180) & (blue < 110))[1] % 122
        assert len(columns) > 50
        return float(columns.mean() / 122)

    assert yellow(write(folder, coco_of(scenes()))) < 0.45


def test_crops_are_shown_after_they_are_cut(folder: Path) -> None:
    blacken(folder)
    prepare(write(folder, coco_of(scenes())), "pnet", folder / "run", 1, force=False)
    sheet = cv2.imread(str(folder / "run" / "records" / "pnet" / "crops.jpg"))
    assert sheet is not None
    assert sheet.shape[0] == 4 * 100 and sheet.shape[1] == 12 * 96
    green = (sheet[..., 1] > 180) & (sheet[..., 0] < 120) & (sheet[..., 2] < 120)
    rows = [green[i * 100 : i * 100 + 96].sum() for i in range(4)]
    assert rows[0] > 100 > 10 * rows[1], "positives have boxes, negatives have none"


def test_none_held_out_is_refused_with_what_to_set(folder: Path) -> None:
    few = [scene for scene in scenes() if split_hash(f"own/{scene.name}") > 0.1][:3]
    settings = write(folder, coco_of(few))
    with pytest.raises(
        UserError, match=r"none of the 3 images is held out .*validation_fraction=0\.\d"
    ):
        prepare(settings, "pnet", folder / "run", 1, force=False)
    settings = write(folder, coco_of(few), split="validation")
    with pytest.raises(UserError, match="none of the 3 images is left to train on"):
        prepare(settings, "pnet", folder / "run", 1, force=False)


@pytest.mark.slow
def test_thousands_of_headers_take_seconds(tmp_path: Path) -> None:
    write_images(tmp_path / "images", scenes(1))
    source = tmp_path / "images" / "00.jpg"
    content = source.read_bytes()
    paths = [tmp_path / f"{i}.jpg" for i in range(3000)]
    for path in paths:
        path.write_bytes(content)
    start = time.process_time()
    facts = image_check.look_at(paths, tmp_path / "images.json")
    assert all(fact.problem is None for fact in facts.values())
    assert time.process_time() - start < 12, "13,000 would take most of a minute"


def test_progress_is_shown_while_the_decoders_are_listened_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "images", scenes(6))
    monkeypatch.setattr(image_check, "QUIET_BELOW", 1)
    monkeypatch.setattr(image_check, "BATCH", 2)
    monkeypatch.setattr(image_check, "tqdm", functools.partial(tqdm, mininterval=0))
    paths = sorted((tmp_path / "images").iterdir())
    image_check.look_at(paths, tmp_path / "images.json")
    assert "4/6" in capfd.readouterr().err


@pytest.mark.parametrize("margin", [0, 4])
def test_targets_on_the_crop_sheet_are_those_of_the_window(tmp_path: Path, margin: int) -> None:
    """With a margin around the window, the box of a face that fills it is in the middle."""
    stored = 12 + 2 * margin
    none = np.full((2, 10), np.nan, np.float32)
    crops = Crops(
        np.zeros((2, stored, stored, 3), np.uint8),
        np.zeros((2, 4), np.float32),
        none,
        np.ones((2, 1), np.float32),
    )
    for kind in SAMPLE_TYPES:
        records.write_shard(tmp_path / f"{kind}-00000.tfrecord", crops, kind)
    crop_sheet.write(tmp_path / "crops.png", tmp_path, stored, 12)
    sheet = cv2.imread(str(tmp_path / "crops.png"))
    assert sheet is not None
    columns = np.nonzero(sheet[:96, :96, 1].any(axis=0))[0]
    first = round(96 * margin / stored)
    assert abs(columns.min() - first) <= 1
    assert abs(columns.max() - (95 - first)) <= 1
