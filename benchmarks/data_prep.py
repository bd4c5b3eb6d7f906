"""`python -m benchmarks.data_prep`: pictures to TFRecords, ours against the usual way.

The usual way is that of the training projects before: one process draws windows one by one
until enough have the wanted overlap, cuts each into a JPEG file and notes it in a list; a second
pass reads the files back and writes them as TFRecords. Both ways cut the same kinds and numbers
of P-Net crops, as the recipe has them, from the same pictures, which are in the page cache.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from benchmarks.image_files import DATA, ROOT
from configs import recipe
from configs.record_settings import SAMPLE_TYPES, SampleType
from configs.settings import Settings
from data_prep import annotations, build_records
from data_prep.annotations import Annotation
from mtcnn_detector.boxes import longer_sides
from mtcnn_detector.errors import UserError
from pipeline import tf_setup
from pipeline.cli import run_cli

IMAGES = "wider/WIDER_train/images"
LABELS = "wider/wider_face_split/wider_face_train_bbx_gt.txt"
LANDMARKS = "wider/wider_face_split/retinaface_train_label.txt"
TRIES = 50  # windows drawn before the usual way gives up on one


class Timing(NamedTuple):
    """Crops of one run and the seconds of its parts."""

    crops: int
    seconds: tuple[float, ...]

    def rate(self, parts: int | None = None) -> float:
        """Crops a second, over the first parts or all."""
        return self.crops / sum(self.seconds[:parts])


def main() -> None:
    """Run both ways in turn and print their medians."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data_prep",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, default=DATA, help="holds wider/ (%(default)s)")
    parser.add_argument("--images", type=int, default=250, help="the first so many (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of both ways (%(default)s)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="of our way (%(default)s)"
    )
    arguments = parser.parse_args()
    tf_setup.import_tensorflow()  # paid by neither
    with tempfile.TemporaryDirectory() as folder:
        settings = subset(Path(folder), arguments.folder.resolve(), arguments.images)
        pictures = read(settings)
        for picture in pictures:
            picture.image.read_bytes()
        rounds = [one_round(settings, arguments.workers) for _ in range(arguments.rounds)]
    print(table(rounds, len(pictures)))


def subset(folder: Path, data: Path, count: int) -> Settings:
    """The recipe on the first pictures of WIDER's training list."""
    for path in (data / IMAGES, data / LABELS, data / LANDMARKS):
        if not path.exists():
            raise UserError(f"{path} is not there: --folder names the folder that holds wider/.")
    lines = (data / LABELS).read_text(encoding="utf-8").splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if ".jpg" in line] + [len(lines)]
    labels = folder / "labels.txt"
    labels.write_text("".join(lines[: starts[min(count, len(starts) - 1)]]), encoding="utf-8")
    source = {
        "format": "wider",
        "labels": str(labels),
        "images": str(data / IMAGES),
        "landmarks": str(data / LANDMARKS),
    }
    content = {"base": str(ROOT / "configs" / "mtcnn.yaml"), "data": {"train": {"wider": source}}}
    (folder / "recipe.yaml").write_text(json.dumps(content), encoding="utf-8")  # YAML holds JSON
    return recipe.load(folder / "recipe.yaml")


def read(settings: Settings) -> list[Annotation]:
    """The annotations, as both ways read them."""
    source = settings.data.train["wider"]
    landmarks = Path(source.landmarks or "")
    return annotations.read(
        "wider", Path(str(source.labels)), Path(source.images), landmarks, "wider"
    )


def one_round(settings: Settings, workers: int) -> tuple[Timing, Timing]:
    """Ours and the usual way, each into a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        ours = run_ours(settings, Path(folder), workers)
    with tempfile.TemporaryDirectory() as folder:
        usual = run_usual(settings, Path(folder))
    return ours, usual


def run_ours(settings: Settings, folder: Path, workers: int) -> Timing:
    """`make pnet-data`, with the start of its workers."""
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        build_records.prepare(settings, "pnet", folder, workers, force=False)
    seconds = time.perf_counter() - start
    manifest = json.loads((folder / "records" / "pnet" / "manifest.json").read_text())
    crops = sum(sum(counts.values()) for counts in manifest["counts"].values())
    return Timing(crops, (seconds,))


def run_usual(settings: Settings, folder: Path) -> Timing:
    """A JPEG file for each crop, then all of them into TFRecords."""
    start = time.perf_counter()
    rng = np.random.default_rng(settings.seed)
    lists: dict[SampleType, list[str]] = {kind: [] for kind in SAMPLE_TYPES}
    for kind in SAMPLE_TYPES:
        (folder / kind).mkdir()
    for picture in read(settings):
        image = cv2.imread(str(picture.image))
        if image is not None:
            for kind, window, target in usual_windows(rng, image.shape, picture, settings):
                path = folder / kind / f"{len(lists[kind])}.jpg"
                size = settings.pnet.net.size
                crop = cv2.resize(padded(image, window), (size, size))
                cv2.imwrite(str(path), crop)
                numbers = " ".join(f"{value:.6f}" for value in target)
                lists[kind].append(
                    f"{path} {SAMPLE_TYPES.index(kind)} {numbers} {window[2] - window[0]}\n"
                )
    for kind, rows in lists.items():
        (folder / f"{kind}.txt").write_text("".join(rows), encoding="utf-8")
    middle = time.perf_counter()
    for kind in SAMPLE_TYPES:
        usual_records(folder / f"{kind}.txt", folder / f"{kind}.tfrecord")
    end = time.perf_counter()
    return Timing(sum(map(len, lists.values())), (middle - start, end - middle))


Window = tuple[int, int, int, int]
Crop = tuple[SampleType, Window, list[float]]


def usual_windows(
    rng: np.random.Generator, shape: tuple[int, ...], picture: Annotation, settings: Settings
) -> Iterator[Crop]:
    """SampleType, window and target of every crop of a picture, drawn one by one."""
    records, labels = settings.pnet.records, settings.labels
    height, width = shape[:2]
    faces, landmarks = usable(picture, settings.data.min_face)

    def until(low: float, high: float, draw: Iterator[Window]) -> Window | None:
        for window in itertools.islice(draw, TRIES):
            if low <= best_iou(window, picture.boxes) < high:
                return window
        return None

    for _ in range(records.negatives_per_image):
        window = until(0, labels.negative, anywhere(rng, height, width))
        if window:
            yield "negative", window, []
    wanted: dict[SampleType, tuple[int, float, float, float]] = {
        "negative": (records.negatives_per_face, 0.0, labels.negative, 1.0),
        "positive": (records.positives_per_face, labels.positive, 2.0, 0.2),
        "part": (records.parts_per_face, labels.part, labels.positive, 0.4),
    }
    for face, marks in zip(faces, landmarks, strict=True):
        for kind, (count, low, high, shift) in wanted.items():
            for _ in range(count):
                window = until(low, high, around(rng, face, shift))
                if window:
                    yield kind, window, [] if kind == "negative" else offsets(face, window)
        if np.isfinite(marks).all():
            for _ in range(records.landmarks_per_face):
                for window in itertools.islice(around(rng, face, 0.2), TRIES):
                    x, y = (marks - window[:2]).T / (window[2] - window[0])
                    if min(*x, *y) >= 0 and max(*x, *y) < 1:
                        yield "landmark", window, [*x, *y]
                        break


def usable(picture: Annotation, min_face: int) -> tuple[np.ndarray, np.ndarray]:
    """The faces that crops are cut about, and their landmarks."""
    large = (longer_sides(picture.boxes) >= min_face) & ~picture.ignored
    return picture.boxes[large].astype(float), picture.landmarks[large].astype(float)


def anywhere(rng: np.random.Generator, height: int, width: int) -> Iterator[Window]:
    """Squares inside the picture."""
    while True:
        side = int(rng.integers(12, max(min(height, width) // 2, 13)))
        x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
        yield x, y, x + side, y + side


def around(rng: np.random.Generator, face: np.ndarray, shift: float) -> Iterator[Window]:
    """Squares about a face, 0.8 of its shorter side to 1.25 of its longer one."""
    width, height = face[2] - face[0], face[3] - face[1]
    while True:
        side = max(int(rng.uniform(0.8 * min(width, height), 1.25 * max(width, height))), 2)
        x = int(face[0] + width / 2 + rng.uniform(-shift, shift) * width - side / 2)
        y = int(face[1] + height / 2 + rng.uniform(-shift, shift) * height - side / 2)
        yield x, y, x + side, y + side


def best_iou(window: Window, faces: np.ndarray) -> float:
    """The overlap of one window with the face that it overlaps most."""
    if not len(faces):
        return 0.0
    width = np.minimum(window[2], faces[:, 2]) - np.maximum(window[0], faces[:, 0])
    height = np.minimum(window[3], faces[:, 3]) - np.maximum(window[1], faces[:, 1])
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    area = (faces[:, 2] - faces[:, 0]) * (faces[:, 3] - faces[:, 1])
    return float((shared / ((window[2] - window[0]) ** 2 + area - shared)).max())


def offsets(face: np.ndarray, window: Window) -> list[float]:
    """The corners of a face from those of its window, in sides of the window."""
    return [float(value) for value in (face - window) / (window[2] - window[0])]


def padded(image: np.ndarray, window: Window) -> np.ndarray:
    """The pixels of a window, black outside of the picture."""
    x1, y1, x2, y2 = window
    height, width = image.shape[:2]
    inside = image[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
    if x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height:
        return inside
    top, left = max(-y1, 0), max(-x1, 0)
    patch = np.zeros((y2 - y1, x2 - x1, 3), np.uint8)
    patch[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return patch


def usual_records(listed: Path, target: Path) -> None:
    """The second pass: read every crop back and write it as an Example."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(target)) as writer:
        for line in listed.read_text(encoding="utf-8").splitlines():
            path, kind, *numbers = line.split()
            image = np.asarray(cv2.imread(path))[:, :, ::-1]  # BGR to RGB
            values = [float(number) for number in numbers]
            feature = {
                "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image.tobytes()])),
                "kind": tf.train.Feature(int64_list=tf.train.Int64List(value=[int(kind)])),
                "target": tf.train.Feature(float_list=tf.train.FloatList(value=values)),
            }
            example = tf.train.Example(features=tf.train.Features(feature=feature))
            writer.write(example.SerializeToString())


def table(rounds: list[tuple[Timing, Timing]], pictures: int) -> str:
    """Medians over the rounds as Markdown."""
    ours, usual = zip(*rounds, strict=True)
    rates = {
        "ours": [timing.rate() for timing in ours],
        "the usual way": [timing.rate() for timing in usual],
        "its first half alone": [timing.rate(1) for timing in usual],
    }
    crops = {"ours": ours[0].crops, "the usual way": usual[0].crops}
    lines = [
        f"{pictures} pictures, {len(rounds)} rounds in turn; crops/s from pictures to TFRecords",
        "",
        "| | crops | median crops/s | of all rounds |",
        "| --- | --- | --- | --- |",
    ]
    for name, values in rates.items():
        every = ", ".join(f"{value:.0f}" for value in values)
        lines.append(
            f"| {name} | {crops.get(name, '')} | {statistics.median(values):.0f} | {every} |"
        )
    ratios = [a.rate() / b.rate() for a, b in rounds]
    told = ", ".join(f"{ratio:.1f}" for ratio in ratios)
    return "\n".join(
        [*lines, "", f"ours / the usual way: {statistics.median(ratios):.1f} ({told})"]
    )


if __name__ == "__main__":
    run_cli(main)
