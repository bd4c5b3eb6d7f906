"""Thinning: no more crops than are drawn or fit, and which ones does not depend on other images."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs import recipe
from configs.record_settings import SAMPLE_TYPES, SampleType
from configs.settings import Settings
from data_prep import records, thinning
from data_prep.build_records import prepare
from data_prep.mining import mine
from data_prep.sampling import Targets, Windows, sample
from data_prep.sources import LabelledImage, labelled_images
from data_prep.thinning import Kept, max_crops, water_level
from mtcnn_detector.errors import UserError
from tests.data_sets import Boxes, files, manifest_of, shards, write_data, write_recipe

Capture = pytest.CaptureFixture[str]
FEW = ["pnet.train.steps=3", "pnet.train.warmup_steps=0"]  # of 204 positives and 154 parts each


def crowd(faces: int) -> tuple[int, int, Boxes]:
    return 400, 500, [(20 + 23 * (i % 20), 20 + 23 * (i // 20), 18, 20, 0) for i in range(faces)]


def some_images(count: int, large: int) -> dict[str, tuple[int, int, Boxes]]:
    """Images of one to three faces, and one crowd."""
    images = {f"0--Noise/{i}.jpg": crowd(1 + i % 3) for i in range(count)}
    return images | {"0--Noise/crowd.jpg": crowd(large)}


def planned(settings: Settings) -> thinning.Thinning:
    return thinning.plan(labelled_images(settings, 0.5), settings, "pnet", False)


def test_vessels_fill_alike() -> None:
    sizes, widths = np.array([4.0, 1.0, 6.0]), np.array([2.0, 1.0, 1.0])  # full at 2, 1 and 6
    assert water_level(sizes, widths, 2.0) == 0.5
    assert water_level(sizes, widths, 5.5) == 1.5
    assert water_level(sizes, widths, 9.0) == 4.0
    assert water_level(sizes, widths, 50.0) == 6.0


@pytest.mark.parametrize("seed", range(5))
def test_no_image_gives_more_crops_than_was_reckoned(tmp_path: Path, seed: int) -> None:
    """With proposals on every face and everywhere else, the reckoning is nearly reached."""
    write_data(tmp_path, some_images(4, 40))
    settings = recipe.load(write_recipe(tmp_path), ["data.train.own.sample_weight=1.4"])
    for one in labelled_images(settings, 0.5)["train"]:
        of_net = settings.onet.records.times(one.weight)
        targets = Targets.of(one.annotation, settings.data.min_face, one.weights)
        rng = np.random.default_rng(seed)
        found = sample(rng, 400, 500, targets, of_net, settings.labels)
        around = np.repeat(targets.faces, 100, axis=0)
        shifts = rng.uniform(-0.25, 0.25, (len(around), 2)) * (around[:, 2:3] - around[:, :1])
        corners = rng.uniform(0, 380, (3000, 2))
        nowhere = np.hstack([corners, corners + 9])
        proposed = np.concatenate([around + np.tile(shifts, 2), nowhere])
        mined = mine(rng, proposed, targets, of_net, settings.labels)
        most = dict(zip(SAMPLE_TYPES, max_crops(one, settings, "onet", True), strict=True))
        for kind in SAMPLE_TYPES:
            count = len(found[kind].places) + len(mined[kind].places)
            assert 0.8 * most[kind] <= count <= most[kind], kind


def test_kinds_that_an_image_does_not_serve_count_nothing(tmp_path: Path) -> None:
    write_data(tmp_path, some_images(2, 5))
    settings = recipe.load(write_recipe(tmp_path), ["data.train.own.sample_types=[landmark]"])
    for one in labelled_images(settings, 0.5)["train"]:
        assert max_crops(one, settings, "pnet", True)[:3] == [0, 0, 0]


def test_all_is_kept_where_no_limit_is_reached(tmp_path: Path) -> None:
    write_data(tmp_path, some_images(20, 100))
    assert planned(recipe.load(write_recipe(tmp_path), FEW)) == {}, "too few to be thinned"


def test_kept_are_as_many_as_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thinning, "MIN_CROPS", 1)
    write_data(tmp_path, some_images(300, 100))
    few_landmarks = "pnet.records.landmarks_per_face=1"
    settings = recipe.load(write_recipe(tmp_path), [*FEW, few_landmarks])
    kept = planned(settings)
    train = labelled_images(settings, 0.5)["train"]
    for column, kind in enumerate(SAMPLE_TYPES):
        counts = [max_crops(one, settings, "pnet", False)[column] for one in train]
        drawn = 3 * settings.pnet.train.sample_counts[kind]
        if sum(counts) <= drawn:
            assert kind not in kept
        else:
            shares = [kept[kind].share(count) for count in counts]
            assert np.dot(shares, counts) == pytest.approx(drawn, rel=1e-3)
    assert set(kept) == {"positive", "negative", "part"}


def test_a_crowd_counts_for_a_few_images_before_others_lose_any() -> None:
    counts = np.array([10.0] * 99 + [8000.0])  # the mean is 89.9
    limit, fraction = thinning._kept(counts, 8000.0)
    assert limit == pytest.approx(7010)
    assert fraction == 1
    limit, fraction = thinning._kept(counts, 500.0)
    assert limit == pytest.approx(8 * 89.9, abs=0.1)
    assert fraction == pytest.approx(500 / (990 + 8 * 89.9), abs=1e-4)


def test_memory_is_kept_and_every_kind_is_drawn_equally_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thinning, "MIN_CROPS", 1)
    write_data(tmp_path, some_images(300, 100))
    limit, crop = 0.0005, 12 * 12 * 3 + 60
    more = [f"pnet.records.max_gigabytes={limit}", "data.validation_fraction=0.5"]
    settings = recipe.load(write_recipe(tmp_path), [*FEW, *more])
    kept, split = planned(settings), labelled_images(settings, 0.5)
    counts = [max_crops(one, settings, "pnet", False) for one in split["train"]]
    left = [
        sum(kept[kind].share(row[column]) * row[column] for row in counts)
        for column, kind in enumerate(SAMPLE_TYPES)
    ]
    share = len(split["train"]) / sum(map(len, split.values()))
    assert sum(left) * crop == pytest.approx(limit * 1e9 * share, rel=1e-3)
    ratios = np.divide(left, list(settings.pnet.train.sample_counts.values()))
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-3)


def windows(count: int) -> Windows:
    places = np.arange(4 * count).reshape(-1, 4)
    return Windows(places, places * 1.0, np.zeros((count, 5, 2)), np.zeros(count))


def test_more_images_remove_crops_and_add_none(tmp_path: Path) -> None:
    write_data(tmp_path, some_images(6, 30))
    settings = recipe.load(write_recipe(tmp_path))

    def left(one: LabelledImage, fraction: float, count: int = 4000) -> set[int]:
        limits: thinning.Thinning = {"positive": Kept(np.inf, fraction)}
        found = thinning.thin(
            {"positive": windows(count), "part": windows(9)}, one, settings, "pnet", limits, False
        )
        assert len(found["part"].places) == 9, "a kind without a limit is kept"
        return {int(place[0]) // 4 for place in found["positive"].places}

    one, other = labelled_images(settings, 0.5)["train"][:2]
    half, fewer = left(one, 0.5), left(one, 0.3)
    assert fewer < half
    assert len(half) == pytest.approx(2000, abs=150)
    assert len(fewer) == pytest.approx(1200, abs=150)
    assert left(one, 0.5, 1000) == {row for row in half if row < 1000}, "by their numbers alone"
    assert len(half & left(other, 0.5)) == pytest.approx(1000, abs=150), "each image by its name"


def images_of(run: Path, kind: SampleType) -> list[bytes]:
    read = [records.read_shard(p, 12, kind) for p in shards(run, "train", kind)]
    return [crop.tobytes() for part in read for crop in part.images]


@pytest.mark.slow
def test_thinned_records_are_a_part_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_data(tmp_path, some_images(30, 150))
    file, whole, thinned = write_recipe(tmp_path), tmp_path / "whole", tmp_path / "thinned"
    prepare(recipe.load(file, FEW), "pnet", whole, 2, force=False)
    monkeypatch.setattr(thinning, "MIN_CROPS", 1)
    prepare(recipe.load(file, FEW), "pnet", thinned, 2, force=False)
    counts = manifest_of(thinned)["counts"]["train"]
    kinds: tuple[tuple[SampleType, int], ...] = (("positive", 612), ("part", 459))
    for kind, drawn in kinds:
        assert manifest_of(whole)["counts"]["train"][kind] > drawn
        assert counts[kind] == pytest.approx(drawn, rel=0.1)
        everything, position = images_of(whole, kind), 0
        for crop in images_of(thinned, kind):  # in the same order
            position = everything.index(crop, position) + 1

    # More steps go on with what is there, and say how to get more; another limit is refused.
    before = files(thinned)
    capsys.readouterr()
    more = ["pnet.train.steps=30", "pnet.train.warmup_steps=0"]
    prepare(recipe.load(file, more), "pnet", thinned, 2, force=False)
    assert files(thinned) == before
    said = capsys.readouterr().out
    assert "was cut for a training of fewer steps: `make pnet-data FORCE=1` cuts" in said
    told = r"another recipe \(pnet\.records\.max_gigabytes: 4\.8 -> 0\.001; "
    with pytest.raises(UserError, match=told):
        prepare(
            recipe.load(file, [*FEW, "pnet.records.max_gigabytes=0.001"]), "pnet", thinned, 2, False
        )


@pytest.mark.slow
def test_records_from_before_thinning_stay_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    write_data(tmp_path, some_images(10, 50))
    file, run = write_recipe(tmp_path), tmp_path / "run"
    prepare(recipe.load(file, FEW), "pnet", run, 2, force=False)
    path = run / "records" / "pnet" / "manifest.json"
    content = json.loads(path.read_text())
    del content["recipe"]["pnet.records.max_gigabytes"]
    path.write_text(json.dumps(content))
    monkeypatch.setattr(thinning, "MIN_CROPS", 1)
    before = files(run)
    prepare(recipe.load(file, FEW), "pnet", run, 2, force=False)
    assert files(run) == before
    assert "nothing to do" in capsys.readouterr().out
