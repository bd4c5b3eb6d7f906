"""The tf.data input pipeline: crops in memory, batches that depend on the step number alone.

A training that is killed and resumed therefore gets the same batches. Each sample type is gone
through without replacement, in an order that is shuffled anew each pass. Within a batch the types
are evenly mixed, so that a change of any slice of it meets each type in proportion.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from configs.record_settings import SAMPLE_TYPES, LabelThresholds, SampleType
from configs.train_settings import AugmentSettings, TrainSettings
from data_prep.crops import Crops
from mtcnn_detector.boxes import net_offsets
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NetName
from mtcnn_detector.pixels import normalise
from train import affine, augment, custom
from train.custom import Augmentation
from train.loading import CropSet, kinds_of

# XORed into the seed of the colour jitter, so that other changes are drawn independently of it.
OCCLUSION, BLUR, NOISE, DOWNSCALE, MOTION, OWN = (1 << bit for bit in range(29, 23, -1))


class View(NamedTuple):
    """How a net looks at its records; by default as they are stored."""

    size: int | None = None  # pixels of the window, where the crops have a margin
    labels: LabelThresholds = LabelThresholds()  # types of windows that `train.affine` moves
    box_scale: float = 1.0  # of the boxes to learn, in boxes of the records


AS_STORED = View()


class Batch(NamedTuple):
    """Crops of all kinds, evenly mixed; NaN where a crop has no box or no landmarks."""

    images: tf.Tensor  # (N, s, s, 3) float32, normalised
    # kind (N,) int32, box (N, 4) in the net's frame, landmarks (N, 10) in sides of the crop
    targets: dict[str, tf.Tensor]


def pipeline_threads() -> int:
    """How many batches are prepared at a time: one where the CPU trains, all cores for a GPU.

    On a CPU the pipeline is faster than the nets: more threads would only compete with theirs.
    """
    return (os.cpu_count() or 1) if tf.config.list_physical_devices("GPU") else 1


def batches(
    crop_set: CropSet,
    name: NetName,
    train: TrainSettings,
    seed: int,
    start: int = 0,
    view: View = AS_STORED,
) -> tf.data.Dataset:
    """Augmented batches from step `start` to the last, ready for `fit`.

    Raises:
        UserError: there is no crop of a kind that the batches need; the recipe's own
            augmentation is missing or does not return such crops.
    """
    counts = train.sample_counts
    for kind, count in counts.items():
        if count and not crop_set.counts[kind]:
            raise UserError(
                f"the records hold no {kind} crop, but {name}.train.batch_fractions asks for some: "
                f"raise the {kind} counts in {name}.records or set its fraction to 0."
            )
    size = view.size or crop_set.crops.images.shape[1]
    own = custom.load_augmentation(train, name, size)
    sampler = _ShuffledSampler(crop_set, counts, seed)

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        rows = sampler.rows(step)
        crops = _take(crop_set.crops, rows)
        seeds = tf.cast(tf.stack([tf.constant(seed, tf.int64), step]), tf.int32)
        kinds = tf.constant(sampler.kinds, tf.int32)
        if train.affine.probability:
            motion = affine.draw_motion(seeds ^ MOTION, sampler.kinds, train.affine)
            crops, kinds = affine.apply_motion(crops, sampler.kinds, size, motion, view.labels)
        else:
            crops = crops._replace(images=_without_margin(crops.images, view.size))
        if train.augment.hflip:
            crops = _flip_half(crops, step)
        return to_batch(_augment(crops, seeds, train.augment, own), kinds, name, view)

    steps, threads = tf.data.Dataset.range(start, train.steps), pipeline_threads()
    dataset = steps.map(batch, num_parallel_calls=threads, deterministic=True).prefetch(4)
    options = tf.data.Options()
    # Nothing is left to tune, and the end of an iterator was seen to wait minutes for the tuner.
    options.autotune.enabled = False
    options.threading.max_intra_op_parallelism = 1  # its operations are too small to be split
    options.threading.private_threadpool_size = threads
    return dataset.with_options(options)


def _take(crops: Crops, rows: tf.Tensor) -> Crops:
    """Some rows of the crops, by numpy: whatever a dataset captures, it copies when it begins."""
    fields: tuple[Any, ...] = crops

    def take(rows: Any) -> list[Any]:
        # Rows are in range: numpy need not check them.
        return [field.take(rows, axis=0, mode="clip") for field in fields]

    taken = tf.numpy_function(take, [rows], [field.dtype for field in fields], stateful=False)
    shapes = [(rows.shape[0], *field.shape[1:]) for field in fields]
    return Crops(*map(tf.ensure_shape, taken, shapes))


class _ShuffledSampler:
    """Draws rows of a crop set: each kind without replacement, reshuffled after each pass."""

    def __init__(self, crop_set: CropSet, counts: Mapping[SampleType, int], seed: int) -> None:
        """`counts`: crops of each kind in a batch."""
        # Where each crop of a batch stands among its kind, evenly spread over the batch.
        ranks = [
            (rank + 0.5) / counts[kind] for kind in SAMPLE_TYPES for rank in range(counts[kind])
        ]
        order = np.argsort(ranks, kind="stable")
        self.kinds = kinds_of(counts)[order]
        in_batch = np.array([counts[kind] for kind in SAMPLE_TYPES])
        in_set = np.array([crop_set.counts[kind] for kind in SAMPLE_TYPES])
        self.rank = np.concatenate([np.arange(count) for count in in_batch])[order]
        self.in_batch, self.in_set = in_batch[self.kinds], in_set[self.kinds]
        self.first = (np.cumsum(in_set) - in_set)[self.kinds]
        self.seeds = seed * len(SAMPLE_TYPES) + self.kinds

    def rows(self, step: tf.Tensor) -> tf.Tensor:
        """(batch,) rows of the crop set."""
        position = step * self.in_batch + self.rank
        passes = position // self.in_set
        keys = tf.stack([tf.constant(self.seeds), passes, passes + 1], axis=1)
        # The public wrapper takes one seed for all; here each kind and each pass has its own.
        shuffled = tf.raw_ops.RandomIndexShuffle(
            index=position % self.in_set, seed=keys, max_index=self.in_set - 1, rounds=4
        )
        return self.first + shuffled


def _augment(
    crops: Crops, seeds: tf.Tensor, settings: AugmentSettings, own: Augmentation | None
) -> Crops:
    """Crops after all photometric changes, their images normalised."""
    images = augment.random_occlusion(seeds ^ OCCLUSION, crops.images, settings.occlusion)
    images = augment.random_downscale(seeds ^ DOWNSCALE, images, settings.downscale)
    images = augment.random_blur(seeds ^ BLUR, images, settings.blur)
    images = augment.random_noise(seeds ^ NOISE, images, settings.noise)
    if own is not None:  # before the colours, which end in normalised pixels
        crops = own(crops._replace(images=images), seeds ^ OWN)
        images = crops.images
    matrix, offset = augment.color_jitter(seeds, images.shape[0], settings)
    return crops._replace(images=augment.apply_color_jitter(images, matrix, offset))


def _flip_half(crops: Crops, step: tf.Tensor) -> Crops:
    """Mirror one half of a batch: the first in even steps, the second in odd ones."""
    count = crops.images.shape[0]
    start, end = step % 2 * (count // 2), count // 2 + step % 2 * (count - count // 2)
    flips = (augment.hflip, augment.hflip_boxes, augment.hflip_landmarks, tf.identity)
    changed = []
    fields: tuple[tf.Tensor, ...] = crops
    for field, flip in zip(fields, flips, strict=True):
        parts = [field[:start], flip(field[start:end]), field[end:]]
        changed.append(tf.ensure_shape(tf.concat(parts, 0), field.shape))
    return Crops(*changed)


def _without_margin(images: Any, size: int | None) -> Any:
    """(N, s, s, 3) crops -> the (N, size, size, 3) in their middle."""
    margin = 0 if size is None else (images.shape[1] - size) // 2
    inside = slice(margin, images.shape[1] - margin)
    return images[:, inside, inside]


def to_batch(crops: Crops, kinds: Any, name: NetName, view: View = AS_STORED) -> Batch:
    """A batch of crops with normalised images; box targets are converted to the net's frame."""
    first, last = crops.boxes[:, :2], crops.boxes[:, 2:]
    grown = (view.box_scale - 1) / 2 * (1 + last - first)
    boxes = tf.concat([first - grown, last + grown], axis=1) if view.box_scale != 1 else crops.boxes
    targets = {
        "kind": tf.cast(kinds, tf.int32),
        "box": net_offsets(name, boxes, crops.sides),
        "landmarks": crops.landmarks,
    }
    return Batch(crops.images, targets)


def validation_batches(
    crop_set: CropSet, name: NetName, batch: int, view: View = AS_STORED
) -> Iterator[Batch]:
    """All crops once, in order, without margin and augmentation."""
    crops, kinds = crop_set.crops, crop_set.kinds
    for start in range(0, len(kinds), batch):
        rows = slice(start, start + batch)
        images = normalise(_without_margin(crops.images[rows], view.size).astype(np.float32))
        part = Crops(images, crops.boxes[rows], crops.landmarks[rows], crops.sides[rows])
        yield to_batch(part, kinds[rows], name, view)
