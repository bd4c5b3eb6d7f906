"""`python -m benchmarks.full_size`: a data set of WIDER FACE's size, composed from a smaller one.

The training set of WIDER FACE has 12,880 images with 159,424 faces: a third of the images show one
face, a few show hundreds, half of the faces are under 16 pixels. This script makes images like
that, in WIDER's layout, by shrinking and tiling those of any smaller set in the same layout, with
the boxes and landmarks moved along. It serves to rehearse a training at full size where the real
set is not at hand; nothing learned from it is worth keeping.
"""

import argparse
import functools
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.image_files import DATA
from mtcnn_detector.errors import UserError
from mtcnn_detector.pixels import Image, read_image, resize
from pipeline.cli import run_cli

IMAGES, FACES = 12_880, 159_424  # of WIDER FACE's training set
FOLDER, SPLIT = "wider/WIDER_train/images", "wider/wider_face_split"
LABELS, LANDMARKS = "wider_face_train_bbx_gt.txt", "retinaface_train_label.txt"
SINGLE = 1 / 3  # of the images, with one face
SPREAD = 1.48  # standard deviation of the logarithm of the other images' numbers of faces
MOST_FACES = 1_000  # of an image
SIDE = 1024  # pixels of a composed image's width
SHRINK = 0.75  # least size of a source in its tile: half of the faces come out under 16 pixels
PER_EVENT = 220  # images that share a folder, as those of an event do
CACHED = 150  # decoded sources that a process keeps


class SourceImage(NamedTuple):
    """An image of the smaller set: (N, 4) boxes x y w h and (N, 5, 2) landmarks, NaN if unknown."""

    path: Path
    boxes: NDArray[np.float64]
    landmarks: NDArray[np.float64]


class Task(NamedTuple):
    """One image to compose."""

    path: Path
    sources: tuple[SourceImage, ...]
    seed: int


def main() -> None:
    """Compose the set and say what it is like."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.full_size",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=DATA, help="the smaller set (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path("data/full"), help="(%(default)s)")
    parser.add_argument("--images", type=int, default=IMAGES, help="(%(default)s)")
    parser.add_argument("--faces", type=int, default=FACES, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="(%(default)s)")
    arguments = parser.parse_args()
    if (arguments.out / SPLIT / LABELS).exists():
        raise UserError(f"{arguments.out} holds a composed set already: name another --out.")
    rng = np.random.default_rng(arguments.seed)
    sources = read_sources(arguments.data)
    counts = face_counts(rng, arguments.images, arguments.faces)
    tasks = list(plan(rng, sources, counts, arguments.out / FOLDER))
    sides = compose_all(tasks, arguments.out, arguments.workers)
    small = float((sides < 16).mean())
    print(f"{arguments.out}: {len(tasks)} images, {len(sides)} faces, {100 * small:.0f} % under 16")


def read_sources(data: Path) -> list[SourceImage]:
    """The images of the smaller set that have faces, out of its RetinaFace list."""
    path = data / SPLIT / LANDMARKS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    rows: dict[str, list[list[float]]] = {}
    for line in lines:
        if line.startswith("#"):
            rows[name := line[1:].strip()] = []
        elif line.strip():
            rows[name].append([float(word) for word in line.split()])
    return [_source(data / FOLDER / name, np.array(faces)) for name, faces in rows.items() if faces]


def _source(path: Path, rows: NDArray[np.float64]) -> SourceImage:
    """Columns of a RetinaFace list: x y w h, five times x y flag, blur; a flag of -1 is unknown."""
    triples = rows[:, 4:19].reshape(-1, 5, 3)
    landmarks = np.where(triples[..., 2:] < 0, np.nan, triples[..., :2])
    return SourceImage(path, rows[:, :4], landmarks)


def face_counts(rng: np.random.Generator, images: int, faces: int) -> NDArray[np.int64]:
    """Faces of each image: a third has one, the others are log-normal and add up to `faces`."""
    single = round(SINGLE * images)
    several = np.exp(rng.normal(0, SPREAD, images - single))
    rest = faces - single
    scale = rest / several.sum()
    for _ in range(50):  # clipping changes the sum, so the scale is found step by step
        counts = np.clip(np.round(scale * several), 2, MOST_FACES)
        scale *= rest / counts.sum()
    order = np.argsort(-counts)  # what rounding left goes to the largest
    for row in order[: abs(int(rest - counts.sum()))]:
        counts[row] += np.sign(rest - counts.sum())
    whole = np.concatenate([np.ones(single), counts]).astype(np.int64)
    return rng.permutation(whole)


def plan(
    rng: np.random.Generator,
    sources: Sequence[SourceImage],
    counts: NDArray[np.int64],
    folder: Path,
) -> Iterator[Task]:
    """Which sources make up each image, so that it has exactly its number of faces."""
    faces = np.array([len(source.boxes) for source in sources])
    by_size = np.argsort(faces, kind="stable")
    ordered = faces[by_size]
    if ordered[0] != 1:
        raise UserError("the smaller set has no image with one face: none can be composed.")
    for number, count in enumerate(counts.tolist()):
        chosen = []
        while count:
            # Large sources for large crowds: a thousand small tiles would show nothing.
            last = int(np.searchsorted(ordered, count, side="right"))
            first = int(np.searchsorted(ordered, min(count // 12, ordered[last - 1])))
            row = int(by_size[rng.integers(min(first, last - 1), last)])
            chosen.append(sources[row])
            count -= int(faces[row])
        event = f"{number // PER_EVENT}--Composed"
        name = f"{number // PER_EVENT}_Composed_{number % PER_EVENT}.jpg"
        yield Task(folder / event / name, tuple(chosen), int(rng.integers(2**31)))


def compose_all(tasks: Sequence[Task], out: Path, workers: int) -> NDArray[np.float64]:
    """Write all images and both label files; the longer sides of all faces, in pixels."""
    (out / SPLIT).mkdir(parents=True, exist_ok=True)
    for folder in {task.path.parent for task in tasks}:
        folder.mkdir(parents=True, exist_ok=True)
    boxes, landmarks, sides = [], [], []
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=cv2.setNumThreads, initargs=(1,))
    with pool:
        composed = pool.map(compose, tasks, chunksize=16)
        for source in tqdm(composed, total=len(tasks), unit="img", desc="compose"):
            name = source.path.relative_to(out / FOLDER).as_posix()
            boxes += [name, str(len(source.boxes)), *map(_wider_row, source.boxes)]
            rows = zip(source.boxes, source.landmarks, strict=True)
            landmarks += [f"# {name}", *(_retinaface_row(*row) for row in rows)]
            sides.append(source.boxes[:, 2:].max(axis=1))
    (out / SPLIT / LANDMARKS).write_text("\n".join(landmarks) + "\n", encoding="utf-8")
    (out / SPLIT / LABELS).write_text("\n".join(boxes) + "\n", encoding="utf-8")
    return np.concatenate(sides)


def compose(task: Task) -> SourceImage:
    """Tile shrunken sources into one image and write it; its faces in the image's pixels."""
    rng = np.random.default_rng(task.seed)
    columns = int(np.ceil(np.sqrt(len(task.sources) * 4 / 3)))
    rows = -(-len(task.sources) // columns)
    width = SIDE // columns
    tiles, boxes, landmarks = [], [], []
    for number, source in enumerate(task.sources):
        tile, scale, corner = _tile(rng, _read(source.path), width, width * 3 // 4)
        place = np.array([number % columns * width, number // columns * (width * 3 // 4)]) + corner
        boxes.append(np.hstack([source.boxes[:, :2] * scale + place, source.boxes[:, 2:] * scale]))
        landmarks.append(source.landmarks * scale + place)
        tiles.append(tile)
    tiles += [np.zeros_like(tiles[0])] * (rows * columns - len(tiles))
    strips = [np.hstack(tiles[row * columns : (row + 1) * columns]) for row in range(rows)]
    image = np.vstack(strips)
    _, coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    task.path.write_bytes(coded.tobytes())
    return SourceImage(task.path, np.concatenate(boxes), np.concatenate(landmarks))


def _tile(
    rng: np.random.Generator, image: Image, width: int, height: int
) -> tuple[Image, NDArray[np.float64], NDArray[np.int64]]:
    """An image shrunk into a tile, its (x, y) scale, and where in the tile its corner lies."""
    fit = min(width / image.shape[1], height / image.shape[0], 1) * rng.uniform(SHRINK, 1)
    inner_width, inner_height = (max(round(side * fit), 1) for side in image.shape[1::-1])
    scale = np.array([inner_width / image.shape[1], inner_height / image.shape[0]])
    room = np.array([width - inner_width, height - inner_height])
    corner = (rng.random(2) * (room + 1)).astype(int)
    tile = np.empty((height, width, 3), np.uint8)
    tile[:] = image.mean(axis=(0, 1))  # where the image ends; a face there would lack its label
    x, y = corner.tolist()
    tile[y : y + inner_height, x : x + inner_width] = resize(image, inner_width, inner_height)
    return tile, scale, corner


@functools.lru_cache(CACHED)
def _read(path: Path) -> Image:
    image = read_image(path)
    if image is None:
        raise UserError(f"{path} does not decode.")
    return image


def _wider_row(box: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.2f}" for value in box) + " 0 0 0 0 0 0"


def _retinaface_row(box: NDArray[np.float64], landmarks: NDArray[np.float64]) -> str:
    known = [f"{x:.2f} {y:.2f} 0.0" if x == x else "-1 -1 -1" for x, y in landmarks.tolist()]
    return " ".join([*(f"{value:.2f}" for value in box), *known, "0.5"])


if __name__ == "__main__":
    run_cli(main)
