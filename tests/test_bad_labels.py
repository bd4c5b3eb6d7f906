"""One recipe over folders of bad images and labels: each is named, and all others are used.

More kinds of images are in `test_label_check`, more kinds of damage in `test_readers`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.data_sets import MTCNN, ROOT
from tests.label_files import (
    Scene,
    coco_of,
    write_images,
    write_labelme,
    write_voc,
    write_yolo_pose,
    yolo_lines,
)
from tests.test_label_check import damaged

FACES: list[tuple[int, int, int, int]] = [(20, 30, 40, 50), (120, 40, 50, 60)]

# What the images and annotations of the COCO source get, and what names them.
IMAGES: dict[str, str] = {
    "truncated.jpg": "truncated.jpg ends early",
    "damaged.jpg": "is damaged inside",
    "empty.jpg": "it is empty",
    "text.jpg": "it is no image",
    "page.jpg": "it is a web page",
    "pointer.jpg": "it is a Git LFS pointer",
    "animated.gif": "it is a GIF",
    "phone.heic": "it is a HEIC or AVIF image",
    "folder.jpg": "Is a directory",
    "missing.jpg": "No such file",
    "dangling.jpg": "its link leads nowhere",
    "cut.png": "cut.png ends early",
}
if os.geteuid():
    IMAGES["locked.jpg"] = "Permission denied"
BOXES: dict[str, tuple[Any, str]] = {
    "nan.jpg": ([20, 30, float("nan"), 50], "expected a bbox [x, y, w, h], got '20 30 nan 50'"),
    "huge.jpg": ([20, 30, 1e9, 50], "expected a bbox [x, y, w, h], got '20 30 1000000000.0 50'"),
    "text_box.jpg": (["a", 30, 40, 50], "expected a bbox [x, y, w, h], got 'a 30 40 50'"),
    "three.jpg": ([20, 30, 40], "expected a bbox [x, y, w, h], got '20 30 40'"),
    "none.jpg": (None, "expected an object with 'bbox'"),
    "outside.jpg": ([900, 30, 40, 50], "(900, 30, 940, 80) lies outside its image"),
    "large.jpg": ([20, 30, 4000, 50], "(20, 30, 4020, 80) lies outside its image"),
}
OTHERS: dict[str, str] = {  # of the COCO source, each with its sentence in labels.md
    "category.jpg": "category_id 7 is not among the categories (1 face)",
    "mask.jpg": "expected 'bbox', got a mask",
    "points.jpg": "expected 5 keypoints x y v",
    "same.jpg": "twice.jpg of same.jpg",
    "id 900": "image_id 900 is not among the images",
    "no name": "expected an object with 'file_name'",
    "same id": "is taken by",
    "long name": f"{300 * 'x'}.jpg is missing or unreadable: File name too long",
    "zero byte": r"the path 'a\x00b.jpg' is no UTF-8",
    "in_two.jpg": "fits several files",
    "zero.jpg": "2 boxes have no width or height, or end before they begin, and are dropped (zero.",
    "cmyk.jpg": "cmyk.jpg: CMYK",
    "deep.png": "deep.png: 16 bits",
    "glass.png": "glass.png: transparent",
    "png.jpg": "png.jpg: a PNG file",
    "listed.jpg": "listed.jpg at ",
    "score": "1 of the boxes carry a score (0.7 to 0.7)",
    "rotated.jpg": "1 images are stored rotated (rotated.jpg)",
    "Case.JPG": "Case.JPG is case.jpg",
    "URL": "https://host/data/url.jpg?x=1 is url.jpg",
    "%20": "a%20b.jpg is a b.jpg",
    "windows": "C:\\me\\windows.jpg is windows.jpg",
    "absolute": "/home/me/absolute.jpg is absolute.jpg",
}
SOUND = [f"sound{i:02}.jpg" for i in range(40)]
USED = ["cmyk.jpg", "deep.png", "glass.png", "png.jpg", "listed.jpg", "rotated.jpg", "case.jpg"]
USED += ["url.jpg", "a b.jpg", "windows.jpg", "absolute.jpg", "same.jpg", "twice.jpg", "crowd.jpg"]
USED += ["float.jpg", "polygon.jpg", "across.jpg"]
RENAMED = {
    "case.jpg": "Case.JPG",
    "url.jpg": "https://host/data/url.jpg?x=1",
    "a b.jpg": "a%20b.jpg",
    "windows.jpg": "C:\\me\\windows.jpg",
    "absolute.jpg": "/home/me/absolute.jpg",
}


def scene(name: str) -> Scene:
    return Scene(name, 200, 140, FACES)


def write_coco_source(folder: Path) -> list[str]:
    """Images and COCO's labels; returns the names of the images that are used."""
    names = [*SOUND, *USED, "zero.jpg", *IMAGES, *BOXES]
    names += ["category.jpg", "mask.jpg", "points.jpg", "first_id.jpg", "second_id.jpg"]
    drawn = [n for n in names if n not in ("animated.gif", "phone.heic", "missing.jpg")]
    write_images(folder, [scene(name) for name in [*drawn, "x/in_two.jpg", "y/in_two.jpg"]])
    spoil(folder)
    content = coco_of([scene(name) for name in [*names, "in_two.jpg"]])
    images = {image["file_name"]: image for image in content["images"]}
    for name, listed in RENAMED.items():
        images[name]["file_name"] = listed
    images["rotated.jpg"] |= {"width": 140, "height": 200}
    images["second_id.jpg"]["id"] = images["first_id.jpg"]["id"]
    content["images"] += [{"id": 800, "width": 200, "height": 140}]
    content["images"] += [dict(images["listed.jpg"], id=801)]
    content["images"] += [{"id": 802, "file_name": f"{300 * 'x'}.jpg", "width": 10**400}]
    content["images"] += [{"id": 803, "file_name": "a\0b.jpg"}]
    change_labels(content, {name: image["id"] for name, image in images.items()})
    (folder.parent / "coco.json").write_text(json.dumps(content))
    return [*SOUND, *USED, "zero.jpg"]


def spoil(folder: Path) -> None:
    content = (folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    damaged(folder / "damaged.jpg")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("to be done\n")
    (folder / "page.jpg").write_bytes(b"<!DOCTYPE html><html>log in</html>")
    (folder / "pointer.jpg").write_text("version https://git-lfs.github.com/spec/v1\n")
    frames = [Image.new("L", (200, 140), shade) for shade in (0, 99)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    (folder / "phone.heic").write_bytes(b"\x00\x00\x00\x18ftypheic" + b"\x00" * 100)
    (folder / "folder.jpg").unlink()
    (folder / "folder.jpg").mkdir()
    (folder / "dangling.jpg").unlink()
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    content = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(content[: len(content) * 2 // 3])
    if "locked.jpg" in IMAGES:
        (folder / "locked.jpg").chmod(0)
    (folder / "twice.jpg").write_bytes((folder / "same.jpg").read_bytes())
    with Image.open(folder / "cmyk.jpg") as image:
        image.convert("CMYK").save(folder / "cmyk.jpg")
    plain = cv2.imread(str(folder / "png.jpg"))
    assert plain is not None
    cv2.imwrite(str(folder / "deep.png"), plain.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "glass.png"), np.dstack([plain, plain[..., 0]]))
    done, coded = cv2.imencode(".png", plain)
    assert done
    (folder / "png.jpg").write_bytes(coded.tobytes())
    exif = Image.Exif()
    exif[274] = 6
    with Image.open(folder / "rotated.jpg") as image:
        image.save(folder / "rotated.jpg", exif=exif)


def change_labels(content: dict[str, Any], ids: dict[str, int]) -> None:
    labels = {label["image_id"]: label for label in content["annotations"]}  # the last of each
    of = {name: labels[identity] for name, identity in ids.items()}
    for name, (box, _) in BOXES.items():
        of[name]["bbox"] = box
    of["category.jpg"]["category_id"] = 7
    of["mask.jpg"] |= {"bbox": [], "segmentation": {"counts": "abc", "size": [3, 3]}}
    of["points.jpg"]["keypoints"] = [1, 2, 3]
    of["rotated.jpg"]["bbox"] = [20, 30, 50, 60]
    of["crowd.jpg"]["iscrowd"] = 1
    of["float.jpg"]["image_id"] = float(ids["float.jpg"])
    x, y, w, h = of["polygon.jpg"].pop("bbox")
    of["polygon.jpg"]["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
    of["across.jpg"]["bbox"] = [170, 40, 50, 60]
    of["same.jpg"]["score"] = 0.7
    of["zero.jpg"]["bbox"] = [20, 30, 0, 50]
    content["annotations"] += [dict(of["zero.jpg"], id=901, bbox=[60, 80, -40, -50])]
    content["annotations"] += [dict(of["same.jpg"], id=900, image_id=900, score=None)]


VOC = {
    "cut.xml": "cut.xml:1: damaged XML",
    "blank.xml": "blank.xml:1: damaged XML: no element found",
    "other.xml": "expected Pascal VOC's <annotation>, got <annotations>",
    "word.xml": "object 1: expected a bndbox with xmin, ymin, xmax and ymax, got 'zwei",
    "binary.xml": "binary.xml:1: damaged XML",
    "unlabelled": "1 images have no label file and are left out (unlabelled.jpg)",
    "stray.json": "1 files below",
}


def write_voc_source(folder: Path) -> list[str]:
    names = [f"voc{i:02}" for i in range(12)]
    damaged_names = [name.removesuffix(".xml") for name in VOC if name.endswith(".xml")]
    every = [scene(f"{name}.jpg") for name in [*names, *damaged_names]]
    write_images(folder, [*every, scene("unlabelled.jpg")])
    labels = write_voc(folder.parent, every)
    text = (labels / "cut.xml").read_text()
    (labels / "cut.xml").write_text(text[: len(text) // 2])
    (labels / "blank.xml").write_text("")
    (labels / "other.xml").write_text("<annotations><image/></annotations>")
    (labels / "word.xml").write_text(text.replace("<xmin>20<", "<xmin>zwei<"))
    (labels / "binary.xml").write_bytes(bytes(range(256)))
    (labels / "stray.json").write_text("{}")
    crlf = text.replace("cut", "voc00").replace("><", ">\r\n<").encode()
    (labels / "voc00.xml").write_bytes(b"\xef\xbb\xbf" + crlf)
    return [f"{name}.jpg" for name in names]


LABELME = {
    "cut.json": "damaged JSON",
    "list.json": "expected an object with 'shapes'",
    "shape.json": "shapes[0]: expected points [x, y]",
}


def write_labelme_source(folder: Path) -> list[str]:
    names = [f"me{i:02}" for i in range(8)]
    every = [scene(f"{name.removesuffix('.json')}.jpg") for name in [*names, *LABELME]]
    write_images(folder, every)
    labels = write_labelme(folder.parent, every)
    text = (labels / "cut.json").read_text()
    (labels / "cut.json").write_text(text[: len(text) // 2])
    (labels / "list.json").write_text("[]")
    (labels / "shape.json").write_text(text.replace("[[60, 80], [20, 30]]", "[[60], 20]"))
    assert "[60], 20" in (labels / "shape.json").read_text()
    return [f"{name}.jpg" for name in names]


YOLO = {
    "pixels.txt": "pixels.txt:1: the box reaches far beyond the image",
    "short.txt": "short.txt:1: expected class cx cy w h",
    "word.txt": "word.txt:2: expected class cx cy w h",
    "nan.txt": "nan.txt:1: expected class cx cy w h",
    "binary.txt": "binary.txt is not a text file",
    "latin": r"latin\udce9.txt: the path 'latin\udce9.jpg' is no UTF-8",
    "unlabelled": "1 images have no label file and are left out (unlabelled.jpg)",
    "a GIF": "1 files are skipped (.gif): convert them to JPEG.",
}


def write_yolo_source(folder: Path) -> list[str]:
    names = [f"yolo{i:02}" for i in range(12)]
    bad = [name.removesuffix(".txt") for name in YOLO if name.endswith(".txt")]
    every = [scene(f"{name}.jpg") for name in [*names, *bad, "background"]]
    write_images(folder, [*every, scene("unlabelled.jpg")])
    (folder / "z.gif").write_bytes(b"GIF89a")
    labels = write_yolo_pose(folder.parent, every)
    for name in (folder / "yolo00.jpg", labels / "yolo00.txt"):  # names of an old Windows
        latin = os.fsencode(name.with_name("latin")) + b"\xe9" + os.fsencode(name.suffix)
        Path(os.fsdecode(latin)).write_bytes(name.read_bytes())
    (labels / "pixels.txt").write_text("0 40 55 40 50\n")
    (labels / "short.txt").write_text("0 0.5 0.5 0.2\n")
    (labels / "word.txt").write_text(yolo_lines(scene("x"), False).replace("\n0 ", "\n0 zwei "))
    (labels / "nan.txt").write_text("0 0.5 0.5 nan 0.2\n")
    (labels / "binary.txt").write_bytes(bytes(range(256)))
    (labels / "background.txt").write_text("")
    text = yolo_lines(scene("x"), True).replace("\n", "\r\n")
    (labels / "yolo00.txt").write_bytes(b"\xef\xbb\xbf" + text.encode())
    (labels / "yolo01.txt").write_text(text, encoding="utf-16")
    return [f"{name}.jpg" for name in [*names, "background"]]


TABLE = {
    "table.csv:14": "table.csv:14: expected four numbers x1, y1, x2, y2, got '20 30 sechzig 80'",
    "table.csv:15": "table.csv:15: the cell of the image's path is empty",
}


def write_csv_source(folder: Path) -> list[str]:
    names = [f"Zoë{i:02}.jpg" for i in range(12)]
    write_images(folder, [scene(name) for name in [*names, "word.jpg"]])
    rows = ["image,x1,y1,x2,y2", *(f"{name},20,30,60,80" for name in names)]
    rows += ["word.jpg,20,30,sechzig,80", ",20,30,60,80"]
    (folder.parent / "table.csv").write_bytes("\r\n".join(rows).encode("cp1252"))
    return names


SOURCES = {
    "coco": (write_coco_source, "coco.json"),
    "voc": (write_voc_source, "voc"),
    "labelme": (write_labelme_source, "labelme"),
    "yolo": (write_yolo_source, "yolo"),
    "csv": (write_csv_source, "table.csv"),
}
SENTENCES = {
    "coco": {**IMAGES, **{name: sentence for name, (_, sentence) in BOXES.items()}, **OTHERS},
    "voc": VOC,
    "labelme": LABELME,
    "yolo": YOLO,
    "csv": TABLE,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad")


@pytest.fixture(scope="module")
def used(folder: Path) -> dict[str, list[str]]:
    """The images of each source that should be used."""
    names, sources = {}, {}
    for name, (write, labels) in SOURCES.items():
        names[name] = write(folder / name / "images")
        sources[name] = {"format": "auto", "labels": f"{name}/{labels}"}
        sources[name]["images"] = f"{name}/images"
    data = {"folder": str(folder), "max_broken_fraction": 0.5, "train": sources}
    lines = [f"base: {MTCNN}", f"data: {json.dumps(data)}"]
    (folder / "recipe.yaml").write_text("\n".join(lines))
    return names


@pytest.fixture(scope="module")
def checked(folder: Path, used: dict[str, list[str]]) -> "subprocess.CompletedProcess[str]":
    """The command that `make labels` runs."""
    command = [sys.executable, "-m", "data_prep", "labels", "--run", str(folder / "run")]
    command += ["--config", str(folder / "recipe.yaml")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_there_are_many_kinds() -> None:
    assert sum(map(len, SENTENCES.values())) > 50


def test_the_check_goes_to_its_end(
    folder: Path, checked: "subprocess.CompletedProcess[str]"
) -> None:
    assert checked.returncode == 0, checked.stderr
    assert "Traceback" not in checked.stderr
    assert (folder / "run" / "labels.jpg").stat().st_size > 10_000
    assert "Corrupt" not in checked.stderr.replace("damaged inside: Corrupt", "")


@pytest.mark.parametrize("source", SOURCES)
def test_each_kind_is_named_in_a_sentence(
    folder: Path, checked: "subprocess.CompletedProcess[str]", source: str
) -> None:
    sections = (folder / "run" / "labels.md").read_text().split("\n## ")
    (section,) = [text for text in sections if text.startswith(f"{source} (")]
    printed = [line for line in checked.stderr.splitlines() if line.startswith(f"{source}: ")]
    for name, sentence in SENTENCES[source].items():
        bullets = [line for line in section.splitlines() if sentence in line]
        assert len(bullets) == 1 and bullets[0].startswith("- "), (name, section)
        assert any(sentence in line for line in printed), (name, printed)
        if name.endswith((".jpg", ".png", ".gif", ".heic")):
            assert name in bullets[0]


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_else_is_lost(
    folder: Path,
    used: dict[str, list[str]],
    checked: "subprocess.CompletedProcess[str]",
    source: str,
) -> None:
    """All sound images are cut from, with all their faces."""
    from configs import recipe
    from data_prep.label_check import check
    from data_prep.sources import label_sets, labelled_images

    settings = recipe.load(folder / "recipe.yaml")
    sets = label_sets(folder, settings.data.train)
    split = labelled_images(settings, 0, sets)
    problems = check(settings, sets, split, folder / "run", loud=False).problems
    every = [one.annotation for part in split.values() for one in part]
    own = {
        one.image.name: one
        for one in every
        if one.key.startswith(f"{source}/") and str(one.image) not in problems
    }
    assert own.keys() == set(used[source])
    for name, one in own.items():
        faces = {"background.jpg": 0, "zero.jpg": 1}.get(name, 2)
        assert len(one.boxes) == (1 if source == "csv" else faces), name
        assert one.load() is not None
