"""TFRecord schema of the crops: one `tf.train.Example` for each, its writer and its reader.

| feature | type | meaning |
| --- | --- | --- |
| `image` | bytes, size * size * 3 | raw RGB, row by row |
| `kind` | int64 | index into `configs.record_settings.SAMPLE_TYPES` |
| `box` | float[4] | dx1 dy1 dx2 dy2 of the face, in sides of the window (`boxes.encode_offsets`) |
| `landmarks` | float[10] | x1..x5, y1..y5 in sides of the window (`boxes.encode_landmarks`) |
| `side` | float[1] | the side of the window, in pixels of the image |

The window is what the net looks at; a crop with a margin (`records.margin`) shows more around it.
What a crop does not have (a negative's box, unknown landmarks) is NaN.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from configs.record_settings import SAMPLE_TYPES, SampleType
from data_prep.crops import Crops
from mtcnn_detector.errors import UserError

REMEDY = "repeat the command that makes the records, with FORCE=1"
FRAME = 16  # bytes that a TFRecord puts around an example: its length and two checksums
EXAMPLES_AT_ONCE = 4096
TARGETS = {"box": 4, "landmarks": 10, "side": 1}
FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "kind": tf.io.FixedLenFeature([], tf.int64),
} | {name: tf.io.FixedLenFeature([length], tf.float32) for name, length in TARGETS.items()}


class _Template(NamedTuple):
    """A serialised Example and the places of its fields, which all have a fixed length.

    Filling the rows of an array takes an eighth of the time of building Example after Example.
    """

    row: NDArray[np.uint8]
    image: slice
    box: slice
    landmarks: slice
    side: slice


@functools.cache
def _template(size: int, kind: SampleType) -> _Template:
    """The Example of a crop of `size` pixels; its contents are values found by searching them."""
    image = np.random.default_rng(0).bytes(size * size * 3)
    box = np.arange(101, 105, dtype="<f4")
    landmarks = np.arange(201, 211, dtype="<f4")
    side = np.array([301], "<f4")
    coded = _example(image, SAMPLE_TYPES.index(kind), box, landmarks, side).SerializeToString(
        deterministic=True
    )

    def place(content: bytes) -> slice:
        start = coded.index(content)
        return slice(start, start + len(content))

    floats = (place(values.tobytes()) for values in (box, landmarks, side))
    return _Template(np.frombuffer(coded, np.uint8), place(image), *floats)


def _example(image: bytes, kind: int, *targets: NDArray[np.float32]) -> tf.train.Example:
    def floats(values: NDArray[np.float32]) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "kind": tf.train.Feature(int64_list=tf.train.Int64List(value=[kind])),
    } | {name: floats(values) for name, values in zip(TARGETS, targets, strict=True)}
    return tf.train.Example(features=tf.train.Features(feature=features))


def encode(crops: Crops, kind: SampleType) -> Iterator[bytes]:
    """Serialised Examples of crops of one kind, all filled into one template at once."""
    size = crops.images.shape[1]
    template = _template(size, kind)
    rows = np.tile(template.row, (len(crops.images), 1))
    rows[:, template.image] = crops.images.reshape(len(rows), size * size * 3)
    rows[:, template.box] = crops.boxes.astype("<f4").view(np.uint8)
    rows[:, template.landmarks] = crops.landmarks.astype("<f4").view(np.uint8)
    rows[:, template.side] = crops.sides.astype("<f4").view(np.uint8)
    return (row.tobytes() for row in rows)


def write_shard(path: Path, crops: Crops, kind: SampleType) -> None:
    """Write the crops, all of one kind, as one shard; atomic: `path` is complete or absent."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for example in encode(crops, kind):
                writer.write(example)
    except tf.errors.ResourceExhaustedError as error:
        raise OSError(28, "No space left on device", str(temporary)) from error
    temporary.replace(path)


def count_crops(path: Path, size: int, kind: SampleType) -> int:
    """How many whole crops a shard holds if it is not damaged; all of a kind have one length."""
    return path.stat().st_size // (FRAME + len(_template(size, kind).row))


def read_shard(path: Path, size: int, kind: SampleType, remedy: str = REMEDY) -> Crops:
    """The crops of one shard, in the order in which they were written.

    Args:
        path: the shard.
        size: side of its crops, pixels.
        kind: the kind of all its crops.
        remedy: what the user can do about a damaged shard, for the error.

    Raises:
        UserError: the shard is missing, damaged, or holds crops of another size or kind.
    """
    parts, length = [Crops.joined([], size)], 0
    try:
        for examples in tf.data.TFRecordDataset(str(path)).batch(EXAMPLES_AT_ONCE):
            parts.append(_parsed(examples, size, SAMPLE_TYPES.index(kind)))
            length += FRAME * len(examples) + int(tf.reduce_sum(tf.strings.length(examples)))
        if length != path.stat().st_size:  # TensorFlow passes over a last length of a few bytes
            raise ValueError("it ends within an example")
    except tf.errors.NotFoundError:
        raise UserError(f"{path} is missing: {remedy}.") from None
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged or of another schema ({reason}): {remedy}.") from None
    return Crops(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def _parsed(examples: tf.Tensor, size: int, kind: int) -> Crops:
    """(N,) serialised Examples -> their crops; ValueError at another size or kind."""
    fields = tf.io.parse_example(examples, FEATURES)
    if not (fields["kind"].numpy() == kind).all():
        raise ValueError("it holds crops of another kind")
    pixels = tf.io.decode_raw(fields["image"], tf.uint8).numpy()
    if pixels.shape[1] != size * size * 3:
        raise ValueError("it holds crops of another size")
    targets = (fields[name].numpy() for name in TARGETS)
    return Crops(pixels.reshape(-1, size, size, 3), *targets)
