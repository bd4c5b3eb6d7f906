"""The TFRecord schema: one `tf.train.Example` a crop; writer and reader side by side.

| feature | type | meaning |
| --- | --- | --- |
| `image` | bytes, size * size * 3 | raw RGB, row by row |
| `kind` | int64 | index into `configs.settings.SAMPLE_TYPES` |
| `box` | float[4] | offsets (dx1, dy1, dx2, dy2) of the face (`boxes.encode_offsets`) |
| `landmarks` | float[10] | x1..x5, y1..y5 as fractions of the crop (`boxes.encode_landmarks`) |
| `side` | float[1] | the side of the window that was cut, in pixels of the picture |

What a crop does not have (a negative's box, unknown landmarks) is NaN.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from configs.settings import SAMPLE_TYPES, SampleType
from data_prep.crops import Crops
from mtcnn_detector.errors import UserError

MEND = "repeat the command that makes the records, with FORCE=1"
FRAME = 16  # bytes that a TFRecord puts around an example: its length and two checksums
TARGETS = {"box": 4, "landmarks": 10, "side": 1}


class _Template(NamedTuple):
    """A serialised Example and where its fields lie: they all have a fixed length."""

    row: NDArray[np.uint8]
    image: slice
    box: slice
    landmarks: slice
    side: slice


@functools.cache
def _template(size: int, kind: SampleType) -> _Template:
    """Serialise one Example with contents that can be found again."""
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
    """Write one shard under a temporary name and move it into place when complete."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with tf.io.TFRecordWriter(str(temporary)) as writer:
            for example in encode(crops, kind):
                writer.write(example)
    except tf.errors.ResourceExhaustedError as error:
        raise OSError(28, "No space left on device", str(temporary)) from error
    temporary.replace(path)


def read_shard(path: Path, size: int, kind: SampleType) -> Crops:
    """The crops of one shard.

    Raises:
        UserError: the shard is missing, damaged, or holds crops of another size or kind.
    """
    template = _template(size, kind)
    length = len(template.row)
    try:
        if path.stat().st_size % (length + FRAME):
            raise ValueError("its length is not that of whole examples")
        examples = tf.data.TFRecordDataset(str(path)).batch(1 << 16)
        rows = [tf.io.decode_raw(batch, tf.uint8).numpy() for batch in examples]
        joined = np.concatenate([np.zeros((0, length), np.uint8), *rows])
        _check_frame(joined, template)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {MEND}.") from None
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged or of another schema ({reason}): {MEND}.") from None

    def floats(place: slice) -> NDArray[np.float32]:
        return np.ascontiguousarray(joined[:, place]).view("<f4").astype(np.float32, copy=False)

    images = np.ascontiguousarray(joined[:, template.image]).reshape(-1, size, size, 3)
    return Crops(images, *(floats(place) for place in template[2:]))


def _check_frame(rows: NDArray[np.uint8], template: _Template) -> None:
    """All bytes around the fields must be those of the template."""
    framing = np.ones(len(template.row), bool)
    for place in template[1:]:
        framing[place] = False
    if not (rows[:, framing] == template.row[framing]).all():
        raise ValueError("its examples are not framed as this schema frames them")
