"""The driver on small data sets: the same bytes whatever happens, and a word on what is wrong."""

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from tqdm import tqdm

from configs import recipe
from configs.record_settings import SAMPLE_TYPES
from data_prep import build_records, records, worker_pool
from data_prep.build_records import prepare
from data_prep.crops import Crops
from mtcnn_detector.errors import UserError
from pipeline import manifest
from tests.data_sets import (
    BROKEN,
    ROOT,
    command,
    files,
    image,
    manifest_of,
    shards,
    small_set,
    write_data,
    write_recipe,
)


@pytest.fixture(scope="module")
def small_run(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "small"
    prepare(recipe.load(small), "pnet", run, 2, force=False)
    return run


@pytest.mark.slow
def test_the_manifest_tells_what_the_shards_hold(small_run: Path) -> None:
    told = manifest_of(small_run)
    assert told["complete"]
    assert told["images"] == 14
    assert {"/".join(Path(name).parts[-2:]) for name in told["broken"]} == BROKEN
    every = []
    for split in ("train", "validation"):
        for kind in SAMPLE_TYPES:
            read = [records.read_shard(p, 12, kind) for p in shards(small_run, split, kind)]
            crops = Crops.joined(read, 12)
            assert len(crops.images) == told["counts"][split][kind] > 0
            assert np.isnan(crops.boxes).all() == (kind in ("negative", "landmark"))
            assert np.isfinite(crops.landmarks).all() or kind != "landmark"
            every += read
    assert len(every) == told["shards"]
    faces = 2 * 8 + 1 + 1 + 1  # the ignored and the tiny one do not count
    assert sum(told["counts"][split]["positive"] for split in told["counts"]) <= faces * 5 * 4
    assert not [name for name in files(small_run) if name.endswith(".tmp")]


@pytest.mark.slow
def test_the_numbers_of_workers_change_no_byte(
    small: Path, small_run: Path, tmp_path: Path
) -> None:
    for workers in (1, 3):
        prepare(recipe.load(small), "pnet", tmp_path / str(workers), workers, force=False)
        assert files(tmp_path / str(workers)) == files(small_run)
    in_order = sorted((small_run / "records" / "pnet").rglob("chunk-*.json"))
    all_shards = [
        path.with_name(f"{kind}-{path.stem.removeprefix('chunk-')}.tfrecord")
        for path in in_order
        for kind in SAMPLE_TYPES
    ]
    assert manifest_of(small_run)["sha256"] == manifest.digest(all_shards)


@pytest.mark.slow
def test_progress_moves_within_a_shard_and_changes_no_byte(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    class Bar(tqdm):  # type: ignore[type-arg]  # it is generic in its stubs alone
        def update(self, n: float | None = 1) -> bool | None:
            steps.append(int(n or 0))
            return super().update(n)

    monkeypatch.setattr(build_records, "tqdm", Bar)
    settings = recipe.load(small, ["pnet.records.images_per_shard=14"])
    prepare(settings, "pnet", tmp_path / "whole", 2, force=False)
    coarse = len(steps)
    monkeypatch.setattr(worker_pool, "PIECE", 2)
    steps.clear()
    prepare(settings, "pnet", tmp_path / "pieces", 2, force=False)
    assert sum(steps) == 14
    assert set(steps) <= {1, 2} and len(steps) > coarse
    assert files(tmp_path / "pieces") == files(tmp_path / "whole")


@pytest.mark.slow
def test_another_seed_gives_other_crops(small: Path, small_run: Path, tmp_path: Path) -> None:
    prepare(recipe.load(small, ["seed=2"]), "pnet", tmp_path, 1, force=False)
    assert manifest_of(tmp_path)["sha256"] != manifest_of(small_run)["sha256"]


def test_done_is_done_and_another_recipe_is_refused(
    small: Path, small_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(small_run)
    prepare(recipe.load(small), "pnet", small_run, 1, force=False)
    assert "is complete for this recipe; nothing to do." in capsys.readouterr().out
    other = ["pnet.records.max_shift=0.1"]
    told = r"pnet\.records\.max_shift: 0\.2 -> 0\.1\): `make pnet-data FORCE=1`"
    with pytest.raises(UserError, match=told):
        prepare(recipe.load(small, other), "pnet", small_run, 1, force=False)
    prepare(
        recipe.load(small, ["pnet.train.steps=5", "pnet.train.warmup_steps=0"]),
        "pnet",
        small_run,
        1,
        force=False,
    )
    assert files(small_run) == before


@pytest.mark.slow
def test_changed_annotations_are_another_recipe(tmp_path: Path) -> None:
    """Else a resumed run would mix shards of the old list with shards of the new one."""
    images = {f"0--Noise/usual_{i}.jpg": (90, 120, [(9, 9, 40, 40, 0)]) for i in range(6)}
    write_data(tmp_path, images)
    settings, run = recipe.load(write_recipe(tmp_path)), tmp_path / "run"
    prepare(settings, "pnet", run, 1, force=False)
    write_data(tmp_path, {**images, "0--Noise/new.jpg": (80, 100, [])})
    with pytest.raises(UserError, match=r"another recipe \(annotations: .* -> .*FORCE=1"):
        prepare(settings, "pnet", run, 1, force=False)
    prepare(settings, "pnet", run, 1, force=True)
    assert manifest_of(run)["images"] == 7


def test_images_where_others_stand_unlabelled_give_no_background(tmp_path: Path) -> None:
    write_data(tmp_path, small_set())
    only = ["data.train.own.sample_types=[landmark]"]
    prepare(recipe.load(write_recipe(tmp_path), only), "pnet", tmp_path / "run", 1, force=False)
    counts = manifest_of(tmp_path / "run")["counts"]["train"]
    assert counts["landmark"] > 0
    assert [counts[kind] for kind in ("positive", "negative", "part")] == [0, 0, 0]


@pytest.mark.slow
def test_too_many_broken_images_stop_the_stage_until_mended(tmp_path: Path) -> None:
    images = {name: small_set()[name] for name in (*sorted(BROKEN), "0--Noise/usual_0.jpg")}
    write_data(tmp_path, images)
    recipe_file, run = write_recipe(tmp_path), tmp_path / "run"
    strict = ["--set", "data.max_broken_fraction=0.4"]
    done = subprocess.run(
        command(recipe_file, run, "pnet", *strict), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("error: 2 of 3 images cannot be used: ")
    assert all(f"{name} is missing or unreadable" in sentence for name in BROKEN)
    assert "data.max_broken_fraction" in sentence
    assert "Traceback" not in done.stderr

    cv2.imwrite(str(tmp_path / "images/0--Noise/broken.jpg"), image(1, 90, 130))
    settings = recipe.load(recipe_file, ["data.max_broken_fraction=0.4"])
    prepare(settings, "pnet", run, 1, force=False)
    assert [Path(name).name for name in manifest_of(run)["broken"]] == ["missing.jpg"]


@pytest.mark.slow
def test_broken_images_may_be_accepted_afterwards(tmp_path: Path) -> None:
    write_data(tmp_path, {name: small_set()[name] for name in (*BROKEN, "0--Noise/usual_0.jpg")})
    recipe_file, run = write_recipe(tmp_path), tmp_path / "run"
    with pytest.raises(UserError, match="2 of 3 images"):
        prepare(recipe.load(recipe_file), "pnet", run, 1, force=False)
    accepted = recipe.load(recipe_file, ["data.max_broken_fraction=0.7"])
    prepare(accepted, "pnet", run, 1, force=False)
    assert len(manifest_of(run)["broken"]) == 2


@pytest.mark.parametrize(
    "box",
    [
        (120, 5, 30, 30, 0),
        (5, 90, 30, 30, 0),
        (-40, 5, 40, 30, 0),
        (0, 0, 800_000, 30, 0),  # a crop of it would take terabytes
        (-121, 5, 140, 30, 0),
    ],
)
def test_a_box_outside_its_image_is_told_with_its_line(
    tmp_path: Path, box: tuple[int, int, int, int, int]
) -> None:
    edge = [(100, 70, 40, 40, 0), (-20, -20, 60, 60, 0)]  # across the border is fine
    write_data(tmp_path, {"0--Noise/a.jpg": (90, 120, edge), "0--Noise/b.jpg": (90, 120, [box])})
    settings = recipe.load(write_recipe(tmp_path))
    told = r"labels\.txt:5: the face \(.*\) lies outside its image .*b\.jpg of 120 x 90 pixels"
    with pytest.raises(UserError, match=told):
        prepare(settings, "pnet", tmp_path / "run", 1, force=False)


def test_images_that_are_left_out_are_told_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = {f"0--Noise/{n}.jpg": (90, 120, [(200, 5, 30, 30, 0)]) for n in range(6)}
    write_data(tmp_path, small_set() | outside)
    settings = recipe.load(write_recipe(tmp_path), ["data.max_broken_fraction=0.9"])
    prepare(settings, "pnet", tmp_path / "run", 1, force=False)
    told = capsys.readouterr().out
    assert "8 images left out: " in told and "lies outside its image" in told
    assert "; and 3 more." in told
    assert len(manifest_of(tmp_path / "run")["broken"]) == 8
