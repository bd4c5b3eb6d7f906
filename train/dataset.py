"""The input pipeline: records in memory, every batch a function of its step's number alone.

A training that is killed and resumed therefore sees the batches that it would have seen. Each
kind is gone through in an order shuffled anew each pass, without replacement. Within a batch the
kinds are evenly mixed: a change to any stretch of it meets each kind by its share.
"""

import math
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from configs.settings import SAMPLE_TYPES, AugmentSettings, SampleType, TrainSettings
from data_prep import records
from data_prep.crops import Crops
from mtcnn_detector.boxes import net_offsets
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NetName
from mtcnn_detector.pixels import normalise
from train import augment

ALIGNMENT = 64  # bytes
MEMORY, SPARE = Path("/proc/meminfo"), 2 << 30  # bytes that the training itself may need
# Set the draws of the other changes apart from that of colours.
COVER, BLUR, NOISE, COARSE = (1 << bit for bit in range(29, 25, -1))


class CropSet(NamedTuple):
    """All crops of a split, one kind after the other in the order of `SAMPLE_TYPES`."""

    crops: Crops
    counts: dict[SampleType, int]

    @property
    def kinds(self) -> np.ndarray:
        """(N,) the number of each crop's kind."""
        return _kinds(self.counts)


def _kinds(counts: Mapping[SampleType, int]) -> np.ndarray:
    return np.repeat(np.arange(len(SAMPLE_TYPES)), [counts[kind] for kind in SAMPLE_TYPES])


class Batch(NamedTuple):
    """Crops of all kinds, evenly mixed; NaN where one has no box or no landmarks."""

    images: tf.Tensor  # (N, s, s, 3) float32, normalised
    targets: dict[
        str, tf.Tensor
    ]  # kind (N,) int32, box (N, 4) in the net's frame, landmarks (N, 10)


def load(folder: Path, split: str, size: int, counts: Mapping[str, int]) -> CropSet:
    """All crops of a split of a net's records.

    Raises:
        UserError: a shard is damaged, or there are not as many crops as `counts` says.
    """
    wanted = {kind: counts.get(kind, 0) for kind in SAMPLE_TYPES}
    # Gigabytes: room for all of them once, filled shard by shard.
    count = sum(wanted.values())
    crops = Crops(*(_aligned(count, field, folder) for field in Crops.joined([], size)))
    rooms: tuple[Any, ...] = crops
    paths = {kind: sorted((folder / split).glob(f"{kind}-*.tfrecord")) for kind in SAMPLE_TYPES}
    filled = 0
    with tqdm(total=sum(map(len, paths.values())), unit="shard", desc=f"{split} records") as bar:
        for kind in SAMPLE_TYPES:
            found = 0
            for path in paths[kind]:
                part = records.read_shard(path, size, kind)
                rows = slice(filled + found, filled + found + len(part.images))
                found += len(part.images)
                if found <= wanted[kind]:
                    for room, values in zip(rooms, part, strict=True):
                        room[rows] = values
                bar.update()
            if found != wanted[kind]:
                raise UserError(
                    f"{folder / split} holds {found} {kind} crops, its manifest counts "
                    f"{wanted[kind]}: a shard is missing or cut off; make the records anew "
                    "with FORCE=1."
                )
            filled += found
    return CropSet(crops, wanted)


def _aligned(count: int, like: Any, folder: Path) -> Any:
    """An array for `count` rows like those of `like` that begins where TensorFlow's tensors do.

    One that memory has no room for lies in a nameless file in `folder`.
    """
    shape = (count, *like.shape[1:])
    length = math.prod(shape) * like.itemsize + ALIGNMENT
    if length + SPARE < _memory():
        room = np.empty(length, np.uint8)
    else:
        print(
            f"{length >> 20} MiB of crops do not fit into memory: they are drawn from a file in "
            f"{folder}, which is slower; fewer crops a face in the recipe would fit."
        )
        with tempfile.TemporaryFile(dir=folder) as file:
            room = np.memmap(file, np.uint8, shape=(length,)).view(np.ndarray)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : len(room) - ALIGNMENT + start].view(like.dtype).reshape(shape)


def _memory() -> int:
    """Bytes that are free or can be made so, where the system tells."""
    told = MEMORY.read_text() if MEMORY.exists() else ""
    found = re.search(r"^MemAvailable: *(\d+) kB$", told, re.MULTILINE)
    return int(found[1]) << 10 if found else sys.maxsize


def batches(
    records: CropSet, name: NetName, train: TrainSettings, seed: int, start: int = 0
) -> tf.data.Dataset:
    """Augmented batches from step `start` to the last, ready for `fit`.

    Raises:
        UserError: there is no crop of a kind that the batches need.
    """
    counts = kind_counts(train)
    for kind, count in counts.items():
        if count and not records.counts[kind]:
            raise UserError(
                f"the records hold no {kind} crop, but {name}.train.batch_fractions asks for some: "
                f"raise the {kind} counts in {name}.records or set the share to 0."
            )
    walk = _Walk(records, counts, seed)
    # Tensors are captured by reference; arrays would be copied into the graph.
    held = Crops(*map(_tensor, records.crops))

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        rows = walk.rows(step)
        crops = Crops(*(tf.gather(field, rows) for field in held))
        if train.augment.hflip:
            crops = _half_flipped(crops, step)
        seeds = tf.cast(tf.stack([tf.constant(seed, tf.int64), step]), tf.int32)
        return prepared(_augmented(crops, seeds, train.augment), walk.kinds, name)

    steps = tf.data.Dataset.range(start, train.steps)
    # One thread prepares the next batches: it is faster than the nets, and a second one, or one
    # that shares out its small operations, would only get into the way of theirs.
    piped = steps.map(batch, num_parallel_calls=1, deterministic=True).prefetch(4)
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    options.threading.private_threadpool_size = 1
    return piped.with_options(options)


def _tensor(array: Any) -> tf.Tensor:
    """A tensor over the memory of an aligned array: gigabytes of records are held once."""
    if not array.size or array.ctypes.data % ALIGNMENT:
        return tf.convert_to_tensor(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def kind_counts(train: TrainSettings) -> dict[SampleType, int]:
    """How many crops of each kind a batch has; rounding goes to the negatives."""
    counts = {
        k: int(s * train.batch) for k, s in zip(SAMPLE_TYPES, train.batch_fractions, strict=True)
    }
    counts["negative"] += train.batch - sum(counts.values())
    return counts


class _Walk:
    """An endless walk through each kind, shuffled anew each pass, mixed into batches."""

    def __init__(self, records: CropSet, counts: Mapping[SampleType, int], seed: int) -> None:
        # Where each crop of a batch stands among its kind, evenly spread over the batch.
        ranks = [
            (rank + 0.5) / counts[kind] for kind in SAMPLE_TYPES for rank in range(counts[kind])
        ]
        order = np.argsort(ranks, kind="stable")
        self.kinds = _kinds(counts)[order]
        of_batch = np.array([counts[kind] for kind in SAMPLE_TYPES])
        of_all = np.array([records.counts[kind] for kind in SAMPLE_TYPES])
        self.rank = np.concatenate([np.arange(count) for count in of_batch])[order]
        self.of_batch, self.of_all = of_batch[self.kinds], of_all[self.kinds]
        self.first = (np.cumsum(of_all) - of_all)[self.kinds]
        self.seeds = seed * len(SAMPLE_TYPES) + self.kinds

    def rows(self, step: tf.Tensor) -> tf.Tensor:
        """(batch,) rows of the records."""
        position = step * self.of_batch + self.rank
        passes = position // self.of_all
        keys = tf.stack([tf.constant(self.seeds), passes, passes + 1], axis=1)
        # The public wrapper takes one seed for all; kinds have their own, and so have passes.
        shuffled = tf.raw_ops.RandomIndexShuffle(
            index=position % self.of_all, seed=keys, max_index=self.of_all - 1, rounds=4
        )
        return self.first + shuffled


def _augmented(crops: Crops, seeds: tf.Tensor, settings: AugmentSettings) -> Crops:
    """Changed crops, their images normalised."""
    images = augment.occlude_some(seeds ^ COVER, crops.images, settings.occlusion)
    images = augment.downscale_some(seeds ^ COARSE, images, settings.downscale)
    images = augment.blur_some(seeds ^ BLUR, images, settings.blur)
    images = augment.noise_some(seeds ^ NOISE, images, settings.noise)
    matrix, offset = augment.colours(seeds, images.shape[0], settings)
    return crops._replace(images=augment.recolour(images, matrix, offset))


def _half_flipped(crops: Crops, step: tf.Tensor) -> Crops:
    """Drawn crops with one half of the batch mirrored, in the next step the other."""
    count = crops.images.shape[0]
    start, end = step % 2 * (count // 2), count // 2 + step % 2 * (count - count // 2)
    flips = (augment.hflip, augment.hflip_boxes, augment.hflip_landmarks, tf.identity)
    changed = []
    fields: tuple[tf.Tensor, ...] = crops
    for field, flip in zip(fields, flips, strict=True):
        parts = [field[:start], flip(field[start:end]), field[end:]]
        changed.append(tf.ensure_shape(tf.concat(parts, 0), field.shape))
    return Crops(*changed)


def prepared(crops: Crops, kinds: np.ndarray, name: NetName) -> Batch:
    """Crops with normalised images as a batch, the targets in the frame of the net."""
    targets = {
        "kind": tf.constant(kinds, tf.int32),
        "box": net_offsets(name, crops.boxes, crops.sides),
        "landmarks": crops.landmarks,
    }
    return Batch(crops.images, targets)


def validation_batches(records: CropSet, name: NetName, batch: int) -> Iterator[Batch]:
    """All crops once, as they are."""
    crops, kinds = records.crops, records.kinds
    for start in range(0, len(kinds), batch):
        rows = slice(start, start + batch)
        images = normalise(crops.images[rows].astype(np.float32))
        part = Crops(images, crops.boxes[rows], crops.landmarks[rows], crops.sides[rows])  # type: ignore[arg-type]
        yield prepared(part, kinds[rows], name)
