"""Shards: the documented schema for any reader, the same bytes back, and a word on every damage."""

import errno
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from configs.record_settings import SAMPLE_TYPES
from data_prep import records
from data_prep.crops import Crops
from mtcnn_detector.errors import UserError


def crops_of(count: int, size: int = 12, seed: int = 0) -> Crops:
    """Crops with targets of all magnitudes, some of them NaN."""
    rng = np.random.default_rng(seed)
    landmarks = rng.uniform(-1e3, 1e3, (count, 10)).astype(np.float32)
    landmarks[::3] = np.nan
    return Crops(
        rng.integers(0, 256, (count, size, size, 3), np.uint8),
        (rng.standard_normal((count, 4)) * 10.0 ** rng.integers(-30, 30)).astype(np.float32),
        landmarks,
        rng.uniform(2, 2000, (count, 1)).astype(np.float32),
    )


def written(folder: Path, count: int = 5, size: int = 12) -> tuple[Path, Crops]:
    path, crops = folder / "part-00000.tfrecord", crops_of(count, size)
    records.write_shard(path, crops, "part")
    return path, crops


def same_bytes(one: Crops, other: Crops) -> bool:
    fields: list[tuple[np.ndarray, np.ndarray]] = list(zip(one, other, strict=True))
    return all(
        a.tobytes() == b.tobytes() and a.dtype == b.dtype and a.shape == b.shape for a, b in fields
    )


@pytest.mark.parametrize("size", [12, 24, 48, 13])
def test_what_is_written_is_read(tmp_path: Path, size: int) -> None:
    for kind in SAMPLE_TYPES:
        path, crops = tmp_path / f"{kind}-00000.tfrecord", crops_of(7, size)
        records.write_shard(path, crops, kind)
        assert same_bytes(records.read_shard(path, size, kind), crops)
    assert len(list(tmp_path.iterdir())) == 4, "no temporary file stays"


def test_any_reader_of_examples_reads_ours_by_the_documented_schema(tmp_path: Path) -> None:
    path, crops = written(tmp_path)
    schema = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "kind": tf.io.FixedLenFeature([], tf.int64),
        "box": tf.io.FixedLenFeature([4], tf.float32),
        "landmarks": tf.io.FixedLenFeature([10], tf.float32),
        "side": tf.io.FixedLenFeature([1], tf.float32),
    }
    parsed = [
        tf.io.parse_single_example(example, schema)
        for example in tf.data.TFRecordDataset(str(path))
    ]
    assert len(parsed) == 5
    for i, example in enumerate(parsed):
        assert example["image"].numpy() == crops.images[i].tobytes()
        assert int(example["kind"]) == 2
        np.testing.assert_array_equal(example["box"], crops.boxes[i])
        np.testing.assert_array_equal(example["landmarks"], crops.landmarks[i])
        np.testing.assert_array_equal(example["side"], crops.sides[i])


@pytest.mark.parametrize("size", [12, 24, 48])
def test_examples_are_those_that_one_builds_by_hand(size: int) -> None:
    crops = crops_of(3, size, seed=1)
    for number, kind in enumerate(SAMPLE_TYPES):
        for i, coded in enumerate(records.encode(crops, kind)):
            floats = {
                "box": crops.boxes[i],
                "landmarks": crops.landmarks[i],
                "side": crops.sides[i],
            }
            by_hand = tf.train.Example()
            feature = by_hand.features.feature
            feature["image"].bytes_list.value.append(crops.images[i].tobytes())
            feature["kind"].int64_list.value.append(number)
            for name, values in floats.items():
                feature[name].float_list.value.extend(values)
            assert coded == by_hand.SerializeToString(deterministic=True)


def test_shards_without_crops(tmp_path: Path) -> None:
    path, crops = written(tmp_path, 0)
    assert path.exists()
    assert same_bytes(records.read_shard(path, 12, "part"), crops)


def test_examples_by_another_writer_are_read_if_they_are_framed_alike(tmp_path: Path) -> None:
    path, crops = tmp_path / "other.tfrecord", crops_of(2)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for i in range(2):
            targets = (crops.boxes[i], crops.landmarks[i], crops.sides[i])
            example = records._example(crops.images[i].tobytes(), 2, *targets)
            writer.write(example.SerializeToString(deterministic=True))
    assert same_bytes(records.read_shard(path, 12, "part"), crops)


@pytest.mark.parametrize("at", [0, 9, 40, 400, -1])
def test_a_flipped_byte_is_told(tmp_path: Path, at: int) -> None:
    path, _ = written(tmp_path)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"{path} is damaged")):
        records.read_shard(path, 12, "part")


@pytest.mark.parametrize("kept", [1, 11, 12, 100, -1, -4, -200])
def test_a_truncated_shard_is_told(tmp_path: Path, kept: int) -> None:
    path, _ = written(tmp_path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=re.escape(f"{path} is damaged")) as caught:
        records.read_shard(path, 12, "part")
    assert "with FORCE=1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_shard_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.tfrecord is missing: repeat the command"):
        records.read_shard(tmp_path / "gone.tfrecord", 12, "part")


def test_a_shard_of_another_size_kind_or_schema_is_refused(tmp_path: Path) -> None:
    path, _ = written(tmp_path)
    for size, kind in ((24, "part"), (12, "positive"), (12, "landmark")):
        with pytest.raises(UserError, match="is damaged or of another schema"):
            records.read_shard(path, size, kind)  # type: ignore[arg-type]
    other = tmp_path / "other.tfrecord"
    for examples in ([b"x" * 40], [b"x" * 40, b"y" * 41], [b""]):
        with tf.io.TFRecordWriter(str(other)) as writer:
            for example in examples:
                writer.write(example)
        with pytest.raises(UserError, match=r"other\.tfrecord is damaged or of another schema"):
            records.read_shard(other, 12, "part")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    path = tmp_path / "part-00000.tfrecord"
    temporary = path.with_name(path.name + ".tmp")
    for count in (1, 1000):  # noticed when it is closed, or while it is written
        temporary.symlink_to("/dev/full")
        with pytest.raises(OSError) as caught:
            records.write_shard(path, crops_of(count), "part")
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename == str(temporary)
        assert not path.exists()
        temporary.unlink(missing_ok=True)


def test_what_a_kill_left_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "part-00000.tfrecord"
    path.with_name(path.name + ".tmp").write_bytes(b"x" * 100_000)
    path.write_bytes(b"old")
    _, crops = written(tmp_path)
    assert same_bytes(records.read_shard(path, 12, "part"), crops)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
