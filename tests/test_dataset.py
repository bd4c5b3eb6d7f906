"""Batches: their composition and order, and that they depend on the step number only."""

import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import recipe
from configs.record_settings import SAMPLE_TYPES, SampleType
from configs.train_settings import AugmentSettings, TrainSettings
from data_prep import records
from data_prep.crops import Crops
from mtcnn_detector import boxes
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NetName
from train import dataset, loading

NOTHING = AugmentSettings(
    **dict.fromkeys((f.name for f in fields(AugmentSettings) if f.name != "hflip"), 0.0),
    hflip=False,
)
MIRROR = replace(NOTHING, hflip=True)
RECIPE = recipe.load(Path(__file__).parent.parent / "configs" / "mtcnn.yaml")
COUNTS: dict[SampleType, int] = {"positive": 7, "negative": 50, "part": 1, "landmark": 13}


def settings(augment: AugmentSettings = NOTHING, **changes: Any) -> TrainSettings:
    values: dict[str, Any] = {"batch": 10, "batch_fractions": (0.2, 0.45, 0.15, 0.2), "steps": 40}
    values |= {"warmup_steps": 0} | changes
    return replace(RECIPE.pnet.train, augment=augment, **values)


def crop_set(counts: dict[SampleType, int] = COUNTS, size: int = 12) -> loading.CropSet:
    """Crops that carry their number in red and their kind in green, with targets of their own."""
    rng = np.random.default_rng(0)
    parts = []
    for kind in SAMPLE_TYPES:
        count = counts[kind]
        images = np.zeros((count, size, size, 3), np.uint8)
        images[..., 0] = np.arange(count)[:, None, None]
        images[..., 1] = 10 * SAMPLE_TYPES.index(kind)
        images[..., 2] = rng.integers(0, 256, (count, size, size))
        box = rng.normal(0, 0.2, (count, 4)).astype(np.float32)
        landmarks = rng.uniform(0, 1, (count, 10)).astype(np.float32)
        if kind in ("negative", "landmark"):
            box[:] = np.nan
        if kind == "negative":
            landmarks[:] = np.nan
        sides = rng.integers(12, 300, (count, 1)).astype(np.float32)
        parts.append(Crops(images, box, landmarks, sides))
    return loading.CropSet(Crops.joined(parts, size), counts)


def of_kind(crops_in: loading.CropSet, kind: SampleType) -> Crops:
    """The crops of one kind."""
    rows = crops_in.kinds == SAMPLE_TYPES.index(kind)
    return Crops(*(field[rows] for field in crops_in.crops))


def pixels_of(batch: Any) -> np.ndarray:
    """The images of a batch, as pixels 0..255."""
    images: np.ndarray = np.asarray(batch[0])
    return (images * 128 + 127.5).round().astype(int)


def numbers_of(batch: Any, kind: SampleType) -> np.ndarray:
    """Which crops of a kind a batch holds."""
    rows: np.ndarray = np.asarray(batch[1]["kind"]) == SAMPLE_TYPES.index(kind)
    return np.asarray(pixels_of(batch)[rows, 0, 0, 0])


def test_every_batch_has_the_set_composition() -> None:
    crops_in = crop_set()
    for batch in dataset.batches(crops_in, "pnet", settings(), 1):
        kinds = np.asarray(batch[1]["kind"])
        # 10 crops in shares 0.2, 0.45, 0.15, 0.2; what rounding leaves goes to the negatives.
        assert np.bincount(kinds).tolist() == [2, 5, 1, 2]
        assert (pixels_of(batch)[:, 0, 0, 1] == 10 * kinds).all()


@pytest.mark.parametrize(
    "batch, shares, expected",
    [
        (1024, (0.2, 0.45, 0.15, 0.2), [204, 463, 153, 204]),
        (32, (0.25, 0.25, 0.25, 0.25), [8, 8, 8, 8]),
        (9, (0.5, 0.5, 0, 0), [4, 5, 0, 0]),
    ],
)
def test_counts_of_a_batch_by_hand(
    batch: int, shares: tuple[float, ...], expected: list[int]
) -> None:
    counts = settings(batch=batch, batch_fractions=shares).sample_counts
    assert [counts[kind] for kind in SAMPLE_TYPES] == expected


def test_every_crop_comes_once_in_each_pass_in_a_new_order() -> None:
    # Fault 3 of the existing trainings: lists sampled with replacement.
    crops_in = crop_set()
    seen: dict[str, list[int]] = {kind: [] for kind in SAMPLE_TYPES}
    for batch in dataset.batches(crops_in, "pnet", settings(), 1):
        for kind in SAMPLE_TYPES:
            seen[kind].extend(numbers_of(batch, kind))
    assert {kind: len(numbers) for kind, numbers in seen.items()} == {
        "positive": 80,
        "negative": 200,
        "part": 40,
        "landmark": 80,
    }
    for kind, count in COUNTS.items():
        whole = [seen[kind][i : i + count] for i in range(0, len(seen[kind]) - count + 1, count)]
        assert len(whole) >= 4
        assert all(sorted(one) == list(range(count)) for one in whole), kind
        if count > 5:
            assert len(set(map(tuple, whole))) == len(whole), "passes in the same order"
            assert all(one != list(range(count)) for one in whole), "not shuffled"


def test_any_stretch_of_a_batch_has_its_part_of_each_kind() -> None:
    # What changes some crops changes a stretch: by kind, it would meet one kind alone.
    crops_in = crop_set()
    batch = next(iter(dataset.batches(crops_in, "pnet", settings(batch=200), 1)))
    kinds = np.asarray(batch[1]["kind"])
    for start in range(0, 180, 7):
        counts = np.bincount(kinds[start : start + 20], minlength=4)
        assert abs(counts - [4, 9, 3, 4]).max() <= 1


def test_kinds_do_not_share_an_order() -> None:
    crops_in = crop_set(dict.fromkeys(SAMPLE_TYPES, 40))
    quarter = settings(batch_fractions=(0.25,) * 4, batch=160, steps=1)
    (batch,) = dataset.batches(crops_in, "pnet", quarter, 1)
    orders = {tuple(numbers_of(batch, kind)) for kind in SAMPLE_TYPES}
    assert len(orders) == 4
    (other,) = dataset.batches(crops_in, "pnet", quarter, 2)
    assert not orders & {tuple(numbers_of(other, kind)) for kind in SAMPLE_TYPES}, (
        "the seed is idle"
    )


@pytest.mark.parametrize("start", [1, 7, 39])
def test_a_batch_does_not_depend_on_where_the_training_was_resumed(start: int) -> None:
    crops_in, train = crop_set(), settings(augment=RECIPE.rnet.train.augment)
    whole = list(dataset.batches(crops_in, "pnet", train, 1))[start:]
    resumed = list(dataset.batches(crops_in, "pnet", train, 1, start))
    assert len(resumed) == 40 - start
    for (images, truth), (images_again, truth_again) in zip(whole, resumed, strict=True):
        assert (images.numpy() == images_again.numpy()).all()
        for key, value in truth.items():
            np.testing.assert_array_equal(value, truth_again[key])


@pytest.mark.parametrize("threads", [2, 8])
def test_batches_are_the_same_with_any_number_of_threads(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = AugmentSettings(monochrome=0.1, downscale=0.2, noise=0.2, occlusion=0.2)
    crops_in, train = crop_set(), settings(augment=everything)
    assert dataset.pipeline_threads() == 1, "the CPU trains"
    single = list(dataset.batches(crops_in, "pnet", train, 1))
    monkeypatch.setattr(dataset, "pipeline_threads", lambda: threads)
    together = list(dataset.batches(crops_in, "pnet", train, 1))
    assert len(together) == len(single) == 40
    for (images, targets), (images_again, targets_again) in zip(single, together, strict=True):
        np.testing.assert_array_equal(images, images_again)
        for key, value in targets.items():
            np.testing.assert_array_equal(value, targets_again[key])


def test_all_cores_prepare_batches_where_a_gpu_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda device: [device])
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    assert dataset.pipeline_threads() == 12


def test_augmentation_differs_between_steps() -> None:
    crops_in = crop_set(dict.fromkeys(SAMPLE_TYPES, 1))
    train = settings(augment=replace(NOTHING, brightness=0.2), steps=3)
    first = [
        images.numpy()[0, 0, 0, 0] for images, _ in dataset.batches(crops_in, "pnet", train, 1)
    ]
    assert len(set(first)) == 3


def test_a_kind_without_a_crop_is_refused_only_if_it_has_a_share() -> None:
    crops_in = crop_set(COUNTS | {"landmark": 0})
    with pytest.raises(UserError, match="hold no landmark crop, but pnet"):
        dataset.batches(crops_in, "pnet", settings(), 1)
    without = settings(batch_fractions=(0.3, 0.5, 0.2, 0), steps=2)
    for _, truth in dataset.batches(crops_in, "pnet", without, 1):
        assert np.bincount(truth["kind"]).tolist() == [3, 5, 2]


@pytest.mark.parametrize("name", ["pnet", "rnet"])
def test_targets_are_those_of_the_crops_in_the_frame_of_the_net(name: NetName) -> None:
    crops_in = crop_set()
    for batch in dataset.batches(crops_in, name, settings(steps=5), 1):
        for kind in SAMPLE_TYPES:
            rows = np.asarray(batch[1]["kind"]) == SAMPLE_TYPES.index(kind)
            crops = Crops(*(field[numbers_of(batch, kind)] for field in of_kind(crops_in, kind)))
            wanted = boxes.net_offsets(name, crops.boxes, crops.sides)
            np.testing.assert_allclose(batch[1]["box"][rows], wanted, atol=1e-6)
            np.testing.assert_allclose(batch[1]["landmarks"][rows], crops.landmarks, atol=1e-6)
            np.testing.assert_array_equal(pixels_of(batch)[rows], crops.images)
            assert np.isnan(batch[1]["box"][rows]).all() == (kind in ("negative", "landmark"))
            assert np.isnan(batch[1]["landmarks"][rows]).all() == (kind == "negative")


def test_mirrored_crops_have_mirrored_targets_and_nothing_else() -> None:
    crops_in = crop_set()
    flipped = total = 0
    for batch in dataset.batches(crops_in, "pnet", settings(augment=MIRROR), 1):
        for row, (image, kind) in enumerate(zip(pixels_of(batch), batch[1]["kind"], strict=True)):
            crops, number = of_kind(crops_in, SAMPLE_TYPES[int(kind)]), image[0, 0, 0]
            mirrored = not (image == crops.images[number]).all()
            if mirrored:
                np.testing.assert_array_equal(image, crops.images[number][:, ::-1])
            x1, y1, x2, y2 = crops.boxes[number]
            box = np.array([[-x2, y1, -x1, y2] if mirrored else [x1, y1, x2, y2]])
            wanted = boxes.net_offsets("pnet", box, crops.sides[[number]])[0]
            np.testing.assert_allclose(batch[1]["box"][row], wanted, atol=1e-6)
            x, y = crops.landmarks[number].reshape(2, 5)
            if mirrored:
                x, y = 1 - x[[1, 0, 2, 4, 3]], y[[1, 0, 2, 4, 3]]
            np.testing.assert_allclose(batch[1]["landmarks"][row], [*x, *y], atol=1e-6)
            flipped, total = flipped + mirrored, total + 1
    assert 0.4 < flipped / total < 0.6


def test_images_are_normalised_after_the_colours() -> None:
    crops_in = crop_set()
    bright = settings(augment=replace(NOTHING, brightness=1), steps=20)
    values = np.concatenate(
        [b[0].numpy().ravel() for b in dataset.batches(crops_in, "pnet", bright, 1)]
    )
    assert values.min() == -127.5 / 128 and values.max() == 127.5 / 128


def test_validation_goes_through_all_crops_once_as_they_are() -> None:
    crops_in = crop_set()
    parts = list(dataset.validation_batches(crops_in, "rnet", 8))
    assert max(len(batch.images) for batch in parts) == 8
    joined = np.concatenate([pixels_of(batch) for batch in parts])
    np.testing.assert_array_equal(joined, crops_in.crops.images)
    kinds = np.concatenate([batch.targets["kind"] for batch in parts])
    assert np.bincount(kinds).tolist() == list(COUNTS.values())
    wanted = boxes.net_offsets("rnet", crops_in.crops.boxes, crops_in.crops.sides)
    found = np.concatenate([batch.targets["box"] for batch in parts])
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def own_memory() -> int:
    """Bytes of this process that are no file's."""
    found = re.search(r"^RssAnon:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) << 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process' memory")
def test_crops_exist_once_in_memory() -> None:
    next(iter(dataset.batches(crop_set(), "pnet", settings(), 1)))  # what TensorFlow needs once
    many = crop_set(dict.fromkeys(SAMPLE_TYPES, 100_000))
    size = many.crops.images.nbytes
    before = own_memory()
    iterator = iter(dataset.batches(many, "pnet", settings(), 1))
    next(iterator)
    assert own_memory() - before < 0.3 * size


def test_loading_joins_the_shards_of_a_split_in_order(tmp_path: Path) -> None:
    crops_in = crop_set(dict.fromkeys(SAMPLE_TYPES, 5))
    (tmp_path / "train").mkdir()
    for number, rows in enumerate([slice(0, 1), slice(1, None)]):
        for kind in SAMPLE_TYPES:
            fields: list[Any] = [field[rows] for field in of_kind(crops_in, kind)]
            part = Crops(*fields)
            records.write_shard(tmp_path / "train" / f"{kind}-{number:05}.tfrecord", part, kind)
    loaded = loading.load(tmp_path, "train", 12, dict.fromkeys(SAMPLE_TYPES, 5))
    assert loaded.counts == crops_in.counts
    fields = [*loaded.crops]
    for field, wanted in zip(fields, crops_in.crops, strict=True):
        np.testing.assert_array_equal(field, wanted)
    empty = loading.load(tmp_path, "validation", 12, {})
    assert not len(empty.crops.images)


def test_heldthat_memory_has_no_room_for_are_drawn_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crops_in = crop_set(dict.fromkeys(SAMPLE_TYPES, 5))
    (tmp_path / "train").mkdir()
    for kind in SAMPLE_TYPES:
        shard = tmp_path / "train" / f"{kind}-00000.tfrecord"
        records.write_shard(shard, of_kind(crops_in, kind), kind)
    before = sorted(tmp_path.rglob("*"))
    assert loading._available_memory() > 1 << 20
    monkeypatch.setattr(loading, "_available_memory", lambda: 0)
    loaded = loading.load(tmp_path, "train", 12, dict.fromkeys(SAMPLE_TYPES, 5))
    assert "do not fit into memory" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before, "the file has no name"
    for field, wanted in zip(loaded.crops, crops_in.crops, strict=True):
        np.testing.assert_array_equal(field, wanted)
    drawn, wanted = (
        list(dataset.batches(r, "pnet", settings(steps=2), 1)) for r in (loaded, crops_in)
    )
    for one, other in zip(drawn, wanted, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.parametrize("wanted", [4, 9])
def test_a_lost_or_foreign_shard_is_noticed(tmp_path: Path, wanted: int) -> None:
    (tmp_path / "train").mkdir()
    crops_in = crop_set(dict.fromkeys(SAMPLE_TYPES, 5))
    for kind in SAMPLE_TYPES:
        records.write_shard(
            tmp_path / "train" / f"{kind}-00000.tfrecord", of_kind(crops_in, kind), kind
        )
    counts: dict[str, int] = {**dict.fromkeys(SAMPLE_TYPES, 5), "part": wanted}
    with pytest.raises(UserError, match=f"holds 5 part crops, its manifest counts {wanted}"):
        loading.load(tmp_path, "train", 12, counts)


def test_boxes_are_learned_at_the_scale_of_the_next_net() -> None:
    held = crop_set()
    train = settings(batch=20, steps=1)
    plain, scaled = (
        next(iter(dataset.batches(held, "rnet", train, 1, view=dataset.View(box_scale=scale))))
        for scale in (1, 1.5)
    )
    sides = np.array([0, 0, 1, 1])
    found, wanted = np.asarray(scaled[1]["box"]) + sides, np.asarray(plain[1]["box"]) + sides
    np.testing.assert_allclose(
        found[:, 2:] + found[:, :2], wanted[:, 2:] + wanted[:, :2], atol=1e-5
    )
    known = np.isfinite(wanted).all(axis=1)
    assert known.any()
    grown = (found[:, 2:] - found[:, :2])[known] / (wanted[:, 2:] - wanted[:, :2])[known]
    assert (grown > 1).all()
    held_out = next(dataset.validation_batches(held, "pnet", 80, dataset.View(box_scale=2)))
    once = next(dataset.validation_batches(held, "pnet", 80))
    unit = 12 / 11  # P-Net's
    first = np.asarray(once.targets["box"])[:7], np.asarray(held_out.targets["box"])[:7]
    side = held.crops.boxes[:7, 2:] - held.crops.boxes[:7, :2] + 1
    np.testing.assert_allclose(first[1][:, 2:] - first[0][:, 2:], side / 2 * unit, rtol=1e-4)


def test_each_net_is_taught_what_the_next_one_looks_at() -> None:
    path = Path(__file__).parent.parent / "configs" / "mtcnn.yaml"
    told = recipe.load(path, ["rnet.records.context=1.3", "onet.records.context=1.2"])
    assert [told.box_target(name) for name in ("pnet", "rnet", "onet")] == [1.3, 1.2, 1.0]
