"""Tiny archives in the layouts of those that `make data` downloads, of drawn scenes."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np
import yaml

from data_prep import annotations
from data_prep.archives import DOWNLOADS
from tests.data_sets import image
from tests.http_server import archive_of

PLACES = ((0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.33, 0.78), (0.67, 0.78))  # of landmarks
Row = tuple[float, ...]  # x y w h, and x y of five landmarks


class Labelled(NamedTuple):
    """A JPEG file and its faces."""

    content: bytes
    faces: Sequence[Row]


class Published(NamedTuple):
    """Images by the file names of the official sets; MTFL labels the first face of each."""

    train: Mapping[str, Labelled]
    validation: Mapping[str, Labelled]
    lfw_train: Mapping[str, Labelled]
    lfw_test: Mapping[str, Labelled]
    net_train: Mapping[str, Labelled]
    net_test: Mapping[str, Labelled]


def drawn(number: int, *boxes: tuple[int, int, int, int]) -> Labelled:
    """An image of noise, 160 x 120."""
    faces = [
        (x, y, w, h, *(v for u, t in PLACES for v in (x + u * w, y + t * h)))
        for x, y, w, h in boxes
    ]
    done, content = cv2.imencode(".jpg", image(2 * number + 1, 120, 160))  # even ones are alike
    assert done
    return Labelled(content.tobytes(), faces)


def small() -> Published:
    """A few drawn images a set, each of other pixels."""
    one, two = (20, 20, 40, 50), (90, 30, 44, 44)
    return Published(
        train={
            "0--Parade/a.jpg": drawn(1, one, two),
            "1--Riot/b.jpg": drawn(2),
            "1--Riot/c.jpg": drawn(3, two),
        },
        validation={"0--Parade/d.jpg": drawn(4, one), "1--Riot/e.jpg": drawn(5, two)},
        lfw_train={"Ann_0001.jpg": drawn(6, one), "Bob_0001.jpg": drawn(7, two)},
        lfw_test={"Cleo_0001.jpg": drawn(8, two)},
        net_train={f"{i}_0_0.jpg": drawn(i, one) for i in (9, 10, 11)},
        net_test={"_-60_4_0.jpg": drawn(12, two)},
    )


def of_scenes(folder: Path, part: str) -> list[Labelled]:
    """The composed scenes of a folder that `sample_faces.compose` wrote, part train or val."""
    split = folder / "wider_face_split"
    found = annotations.read(
        "wider",
        split / f"wider_face_{part}_bbx_gt.txt",
        folder / f"WIDER_{part}" / "images",
        split / f"retinaface_{part}_label.txt",
    )
    scenes = []
    for one in found:
        size = one.boxes[:, 2:] - one.boxes[:, :2]
        rows = np.hstack([one.boxes[:, :2], size, one.landmarks.reshape(-1, 10)])
        scenes.append(Labelled(one.image.read_bytes(), [tuple(row) for row in rows.tolist()]))
    return scenes


def archives(sets: Published) -> dict[str, bytes]:
    """The archives by their paths on the server."""
    split = {
        f"wider_face_split/wider_face_{part}_bbx_gt.txt": _wider(images)
        for part, images in (("train", sets.train), ("val", sets.validation))
    }
    mats = {f"wider_{level}_val.mat": b"mat" for level in ("face", "easy", "medium", "hard")}
    lists = {
        "trainImageList.txt": _mtfl(sets.lfw_train, sets.net_train),
        "testImageList.txt": _mtfl(sets.lfw_test, sets.net_test),
    }
    faces = {
        f"{folder}/{name}": one.content
        for folder, parts in (
            ("lfw_5590", (sets.lfw_train, sets.lfw_test)),
            ("net_7876", (sets.net_train, sets.net_test)),
        )
        for images in parts
        for name, one in images.items()
    }
    return {
        "/WIDER_train.zip": _images("WIDER_train", sets.train),
        "/WIDER_val.zip": _images("WIDER_val", sets.validation),
        "/wider_face_split.zip": archive_of({**split, "wider_face_split/readme.txt": b"!"}),
        "/eval_tools.zip": archive_of({f"eval_tools/ground_truth/{k}": v for k, v in mats.items()}),
        "/retinaface_gt_v1.1.zip": archive_of(
            {"train/label.txt": _retinaface(sets.train), "val/label.txt": b"# d.jpg\n"}
        ),
        "/mtfl_train.zip": archive_of({**faces, **lists, "__MACOSX/x": b"x"}),
    }


def write_downloads(path: Path, url: str, sets: Published) -> Path:
    """The file for DOWNLOADS= of a server at `url` that has `archives(sets)`.

    RetinaFace's has a first address, `page`, as Dropbox comes before Google Drive.
    """
    split = "wider/wider_face_split"
    lfw, net = "lfw_landmarks", "net_landmarks"
    counts = {
        "wider/WIDER_train": len(sets.train),
        "wider/WIDER_val": len(sets.validation),
        f"{split}/wider_face_train_bbx_gt.txt": len(sets.train),
        f"{split}/wider_face_val_bbx_gt.txt": len(sets.validation),
        f"{split}/retinaface_train_label.txt": len(sets.train),
        f"{lfw}/lfw_5590": len(sets.lfw_train) + len(sets.lfw_test),
        f"{lfw}/trainImageList.txt": len(sets.lfw_train),
        f"{lfw}/testImageList.txt": len(sets.lfw_test),
        f"{net}/net_7876": len(sets.net_train) + len(sets.net_test),
        f"{net}/trainImageList.txt": len(sets.net_train),
        f"{net}/testImageList.txt": len(sets.net_test),
    }
    tree = yaml.safe_load(DOWNLOADS.read_text(encoding="utf-8"))
    for archive in (one for entry in tree.values() for one in entry["archives"].values()):
        archive["urls"] = [url + PurePosixPath(archive["file"]).name]
        archive["size"] = archive["sha256"] = None
        for target, member in archive["unpack"].items():
            member["images"] = counts.get(target, 0)
    tree["retinaface"]["archives"]["landmarks"]["urls"].insert(0, f"{url}page?dl=1")
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def _images(folder: str, images: Mapping[str, Labelled]) -> bytes:
    return archive_of({f"{folder}/images/{name}": one.content for name, one in images.items()})


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _wider(images: Mapping[str, Labelled]) -> bytes:
    lines = []
    for name, one in images.items():
        rows = [f"{_numbers(np.round(row[:4]).tolist())} 0 0 0 0 0 0" for row in one.faces]
        lines += [name, str(len(rows)), *(rows or ["0 " * 10])]
    return "".join(f"{line}\n" for line in lines).encode()


def _retinaface(images: Mapping[str, Labelled]) -> bytes:
    lines = []
    for name, one in images.items():
        lines.append(f"# {name}")
        for row in one.faces:
            points = " ".join(
                f"{x:.2f} {y:.2f} 0.0" for x, y in zip(row[4::2], row[5::2], strict=True)
            )
            lines.append(f"{_numbers(np.round(row[:4]).tolist())} {points} 0.9")
    return "".join(f"{line}\n" for line in lines).encode()


def _mtfl(lfw: Mapping[str, Labelled], net: Mapping[str, Labelled]) -> bytes:
    lines = []
    for folder, images in (("lfw_5590", lfw), ("net_7876", net)):
        for name, one in images.items():
            x, y, w, h, *points = one.faces[0]
            lines.append(f"{folder}\\{name} {_numbers([x, x + w, y, y + h, *points])}")
    return "".join(f"{line}\r\n" for line in lines).encode()
