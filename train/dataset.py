"""The input pipeline: records in memory, every batch a function of its step's number alone.

A training that is killed and resumed therefore sees the batches that it would have seen. Each
kind is gone through in an order shuffled anew each pass, without replacement.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from configs.errors import UserError
from configs.settings import KINDS, Augment, Kind, NetName, Train
from data_prep import records
from data_prep.crops import Crops
from models.boxes import net_offsets
from models.pixels import normalise
from train import augment

Records = dict[Kind, Crops]
ALIGNMENT = 64  # bytes
WORKERS = 2  # threads that prepare batches
# Set the draws of the other changes apart from that of colours.
COVER, BLUR, NOISE, COARSE = (1 << bit for bit in range(29, 25, -1))


class Batch(NamedTuple):
    """Crops of all kinds, in the order of `KINDS`; NaN where a crop has no box or points."""

    images: tf.Tensor  # (N, s, s, 3) float32, normalised
    targets: dict[str, tf.Tensor]  # kind (N,) int32, box (N, 4) in the net's frame, points (N, 10)


def load(folder: Path, split: str, size: int, counts: Mapping[str, int]) -> Records:
    """All crops of a split of a net's records, by kind.

    Raises:
        UserError: a shard is damaged, or there are not as many crops as `counts` says.
    """
    loaded = {}
    paths = {kind: sorted((folder / split).glob(f"{kind}-*.tfrecord")) for kind in KINDS}
    with tqdm(total=sum(map(len, paths.values())), unit="shard", desc=f"{split} records") as bar:
        for kind in KINDS:
            parts = []
            for path in paths[kind]:
                parts.append(records.read_shard(path, size, kind))
                bar.update()
            loaded[kind] = Crops(*map(_aligned, Crops.joined(parts, size)))
            found, wanted = len(loaded[kind].images), counts.get(kind, 0)
            if found != wanted:
                raise UserError(
                    f"{folder / split} holds {found} {kind} crops, its manifest counts {wanted}: "
                    "a shard is missing or cut off; make the records anew with FORCE=1."
                )
    return loaded


def batches(
    records: Records, name: NetName, train: Train, seed: int, start: int = 0
) -> tf.data.Dataset:
    """Augmented batches from step `start` to the last, ready for `fit`.

    Raises:
        UserError: there is no crop of a kind that the batches need.
    """
    counts = kind_counts(train)
    for kind, count in counts.items():
        if count and not len(records[kind].images):
            raise UserError(
                f"the records hold no {kind} crop, but {name}.train.batch_shares asks for some: "
                f"raise the {kind} counts in {name}.records or set the share to 0."
            )
    # Tensors are captured by reference; arrays would be copied into the graph.
    held = {k: Crops(*map(_tensor, records[k])) for k, n in counts.items() if n}

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        parts = [
            _draw(held[kind], step, counts[kind], seed * len(KINDS) + KINDS.index(kind))
            for kind in held
        ]
        if train.augment.mirror:
            parts = [_half_mirrored(crops, step) for crops in parts]
        crops = Crops(*(tf.concat(fields, 0) for fields in zip(*parts, strict=True)))
        kinds = np.repeat([KINDS.index(kind) for kind in held], [counts[k] for k in held])
        seeds = tf.cast(tf.stack([tf.constant(seed, tf.int64), step]), tf.int32)
        return prepared(_augmented(crops, seeds, train.augment), kinds, name)

    steps = tf.data.Dataset.range(start, train.steps)
    # Two steps at a time, each on a thread of its own: sharing out operations as small as these
    # among threads would cost more than it gains. The order stays that of the steps.
    piped = steps.map(batch, num_parallel_calls=WORKERS, deterministic=True).prefetch(4)
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    options.threading.private_threadpool_size = WORKERS
    return piped.with_options(options)


def _aligned(array: Any) -> Any:
    """A copy that begins where TensorFlow wants its tensors to."""
    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _tensor(array: Any) -> tf.Tensor:
    """A tensor over the memory of an aligned array: gigabytes of records are held once."""
    if not array.size or array.ctypes.data % ALIGNMENT:
        return tf.convert_to_tensor(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def kind_counts(train: Train) -> dict[Kind, int]:
    """How many crops of each kind a batch has; rounding goes to the negatives."""
    counts = {k: int(s * train.batch) for k, s in zip(KINDS, train.batch_shares, strict=True)}
    counts["negative"] += train.batch - sum(counts.values())
    return counts


def _draw(crops: Crops, step: tf.Tensor, count: int, seed: int) -> Crops:
    """The next `count` crops of one kind, from an endless shuffled walk."""
    total = crops.images.shape[0]
    position = step * count + tf.range(count, dtype=tf.int64)
    passes = position // total
    keys = tf.stack([tf.fill([count], tf.constant(seed, tf.int64)), passes, passes + 1], axis=1)
    # The public wrapper takes one seed for all; a batch can span two passes.
    rows = tf.raw_ops.RandomIndexShuffle(
        index=position % total, seed=keys, max_index=total - 1, rounds=4
    )
    return Crops(*(tf.gather(field, rows) for field in crops))


def _augmented(crops: Crops, seeds: tf.Tensor, settings: Augment) -> Crops:
    """Changed crops, their images normalised."""
    count = crops.images.shape[0]
    images = augment.occlude_some(seeds ^ COVER, crops.images, settings.occlusion)
    images = augment.recolour(images, *augment.colours(seeds, count, settings))
    images = augment.coarsen_some(seeds ^ COARSE, images, settings.coarse)
    images = augment.blur_some(seeds ^ BLUR, images, settings.blur)
    return crops._replace(images=augment.noise_some(seeds ^ NOISE, images, settings.noise))


def _half_mirrored(crops: Crops, step: tf.Tensor) -> Crops:
    """Drawn crops, which come in a random order, with the first half of them mirrored.

    Of an odd number one more in every other step: a crop that is alone has its turn as well.
    """
    half = (crops.images.shape[0] + step % 2) // 2
    mirrored = Crops(
        augment.mirror(crops.images[:half]),
        augment.mirror_boxes(crops.boxes[:half]),
        augment.mirror_points(crops.points[:half]),
        crops.sides[:half],
    )
    joined = (tf.concat([new, old[half:]], 0) for new, old in zip(mirrored, crops, strict=True))  # type: ignore[index]
    return Crops(*(tf.ensure_shape(new, old.shape) for new, old in zip(joined, crops, strict=True)))  # type: ignore[attr-defined]


def prepared(crops: Crops, kinds: np.ndarray, name: NetName) -> Batch:
    """Crops with normalised images as a batch, the targets in the frame of the net."""
    targets = {
        "kind": tf.constant(kinds, tf.int32),
        "box": net_offsets(name, crops.boxes, crops.sides),
        "points": crops.points,
    }
    return Batch(crops.images, targets)


def validation_batches(records: Mapping[Kind, Crops], name: NetName, batch: int) -> Iterator[Batch]:
    """All crops once, as they are."""
    for number, kind in enumerate(KINDS):
        crops = records[kind]
        for i in range(0, len(crops.images), batch):
            images = normalise(crops.images[i : i + batch].astype(np.float32))
            part = Crops(images, *(field[i : i + batch] for field in crops[1:]))  # type: ignore[arg-type]
            yield prepared(part, np.full(len(part.images), number), name)
