"""The driver on small data sets: the same bytes whatever happens, and a word on what is wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from configs import recipe, stages
from configs.errors import UserError
from configs.settings import KINDS, Settings
from data_prep import prepare as driver
from data_prep import records
from data_prep.crops import Crops
from data_prep.prepare import Chunk, Cut, Plan, prepare
from models import layouts, nets

ROOT = Path(__file__).parent.parent
MTCNN = Path(recipe.__file__).parent / "mtcnn.yaml"
BROKEN = {"0--Noise/broken.jpg", "1--Gradient/missing.jpg"}
Boxes = list[tuple[int, int, int, int, int]]  # x y w h invalid


def picture(number: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    if number % 2:
        return rng.integers(0, 256, (height, width, 3), np.uint8)
    ramp = np.add.outer(np.arange(height), np.arange(width)) % 256
    return np.stack([ramp, 255 - ramp, (ramp * 3) % 256], axis=2).astype(np.uint8)


def write_data(folder: Path, pictures: dict[str, tuple[int, int, Boxes]]) -> None:
    """A data set in WIDER's layout, and RetinaFace's list of its points."""
    wider, points = "", ""
    for number, (name, (height, width, boxes)) in enumerate(pictures.items()):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name in BROKEN:
            if "missing" not in name:
                path.write_bytes(b"no picture")
        else:
            cv2.imwrite(str(path), picture(number, height, width))
        rows = [f"{x} {y} {w} {h} 0 0 0 {invalid} 0 0" for x, y, w, h, invalid in boxes]
        wider += "\n".join([name, str(len(boxes)), *(rows or ["0 " * 10])]) + "\n"
        points += f"# {name}\n"
        for x, y, w, h, _ in boxes:
            places = [(0.3, 0.35), (0.7, 0.35), (0.5, 0.55), (0.33, 0.78), (0.67, 0.78)]
            told = " ".join(f"{x + u * w:.2f} {y + v * h:.2f} 0.0" for u, v in places)
            points += f"{x} {y} {w} {h} {told} 0.9\n"
    (folder / "labels.txt").write_text(wider)
    (folder / "points.txt").write_text(points)


def small_set() -> dict[str, tuple[int, int, Boxes]]:
    """A dozen pictures, none of them square, with every trap."""
    pictures: dict[str, tuple[int, int, Boxes]] = {
        "0--Noise/nobody.jpg": (90, 130, []),
        "0--Noise/broken.jpg": (90, 130, [(5, 5, 30, 30, 0)]),
        "1--Gradient/missing.jpg": (90, 130, [(5, 5, 30, 30, 0)]),
        "1--Gradient/ignored.jpg": (140, 110, [(10, 10, 60, 70, 1), (80, 90, 25, 30, 0)]),
        "1--Gradient/tiny.jpg": (100, 160, [(20, 20, 5, 6, 0), (60, 30, 40, 50, 0)]),
        "0--Noise/flat.jpg": (14, 220, [(30, 0, 14, 14, 0)]),
    }
    for number in range(8):
        side = 20 + 7 * number
        boxes = [(3 * number, 20, side, side + 8, 0), (90, 4 * number, 22, 24, 0)]
        pictures[f"0--Noise/usual_{number}.jpg"] = (100 + number, 150 - number, boxes)
    return pictures


def large_set() -> dict[str, tuple[int, int, Boxes]]:
    """Enough pictures to be stopped half-way."""
    faces = [(30, 40, 50, 60, 0), (150, 60, 80, 90, 0), (20, 130, 40, 44, 0)]
    return {f"0--Noise/{i:03}.jpg": (240, 320, faces) for i in range(48)}


def write_recipe(folder: Path, *more: str) -> Path:
    path = folder / "recipe.yaml"
    counts = "negatives_per_image: 6, negatives_per_face: 2, positives_per_face: 5"
    counts += ", parts_per_face: 4, landmarks_per_face: 3, images_per_shard: 2"
    source = "{format: wider, labels: labels.txt, images: images, points: points.txt}"
    lines = [
        f"base: {MTCNN}",
        f"data: {{folder: {folder}, validation_share: 0.3, broken_share: 0.3, "
        f"train: {{own: {source}}}}}",
        f"pnet: {{records: {{{counts}}}}}",
    ]
    path.write_text("\n".join([*lines, *more]) + "\n")
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipe of the small data set."""
    folder = tmp_path_factory.mktemp("small")
    write_data(folder, small_set())
    return write_recipe(folder)


@pytest.fixture(scope="module")
def small_run(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "small"
    prepare(recipe.load(small), "pnet", run, 2, force=False)
    return run


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    write_data(folder, large_set())
    return write_recipe(folder, "seed: 5")


@pytest.fixture(scope="module")
def large_files(large: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    run = tmp_path_factory.mktemp("runs") / "large"
    prepare(recipe.load(large), "pnet", run, 2, force=False)
    return files(run)


def files(run: Path, net: str = "pnet") -> dict[str, bytes]:
    """All that a run has under its records, but for the commit: somebody may be committing."""
    folder = run / "records" / net
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    if "manifest.json" in found:
        lines = found["manifest.json"].splitlines()
        found["manifest.json"] = b"".join(line for line in lines if b'"commit":' not in line)
    return found


def shards(run: Path, split: str, kind: str, net: str = "pnet") -> list[Path]:
    return sorted((run / "records" / net / split).glob(f"{kind}-*.tfrecord"))


def manifest(run: Path, net: str = "pnet") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "records" / net / "manifest.json").read_text())
    return content


def test_the_manifest_tells_what_the_shards_hold(small_run: Path) -> None:
    told = manifest(small_run)
    assert told["complete"]
    assert told["images"] == 14
    assert {"/".join(Path(name).parts[-2:]) for name in told["broken"]} == BROKEN
    every = []
    for split in ("train", "validation"):
        for kind in KINDS:
            read = [records.read_shard(p, 12, kind) for p in shards(small_run, split, kind)]
            crops = Crops.joined(read, 12)
            assert len(crops.images) == told["counts"][split][kind] > 0
            assert np.isnan(crops.boxes).all() == (kind in ("negative", "landmark"))
            assert np.isfinite(crops.points).all() or kind != "landmark"
            every += read
    assert len(every) == told["shards"]
    faces = 2 * 8 + 1 + 1 + 1  # the ignored and the tiny one do not count
    assert sum(told["counts"][split]["positive"] for split in told["counts"]) <= faces * 5 * 4
    assert not [name for name in files(small_run) if name.endswith(".tmp")]


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
        for kind in KINDS
    ]
    assert manifest(small_run)["sha256"] == stages.digest(all_shards)


def test_another_seed_gives_other_crops(small: Path, small_run: Path, tmp_path: Path) -> None:
    prepare(recipe.load(small, ["seed=2"]), "pnet", tmp_path, 1, force=False)
    assert manifest(tmp_path)["sha256"] != manifest(small_run)["sha256"]


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
    prepare(recipe.load(small, ["pnet.train.steps=5"]), "pnet", small_run, 1, force=False)
    assert files(small_run) == before


def test_changed_annotations_are_another_recipe(tmp_path: Path) -> None:
    """Else a resumed run would mix shards of the old list with shards of the new one."""
    pictures = {f"0--Noise/usual_{i}.jpg": (90, 120, [(9, 9, 40, 40, 0)]) for i in range(6)}
    write_data(tmp_path, pictures)
    settings, run = recipe.load(write_recipe(tmp_path)), tmp_path / "run"
    prepare(settings, "pnet", run, 1, force=False)
    write_data(tmp_path, {**pictures, "0--Noise/new.jpg": (80, 100, [])})
    with pytest.raises(UserError, match=r"another recipe \(annotations: .* -> .*FORCE=1"):
        prepare(settings, "pnet", run, 1, force=False)
    prepare(settings, "pnet", run, 1, force=True)
    assert manifest(run)["images"] == 7


def test_pictures_where_others_stand_unlabelled_give_no_background(tmp_path: Path) -> None:
    write_data(tmp_path, small_set())
    only = ["data.train.own.kinds=[landmark]"]
    prepare(recipe.load(write_recipe(tmp_path), only), "pnet", tmp_path / "run", 1, force=False)
    counts = manifest(tmp_path / "run")["counts"]["train"]
    assert counts["landmark"] > 0
    assert [counts[kind] for kind in ("positive", "negative", "part")] == [0, 0, 0]


def command(recipe_file: Path, run: Path, net: str = "pnet", *more: str) -> list[str]:
    where = ["--config", str(recipe_file), "--run", str(run)]
    return [sys.executable, "-m", "data_prep", net, *where, "--workers", "2", *more]


def started(recipe_file: Path, run: Path, chunks: int) -> subprocess.Popen[str]:
    """The command in a process group of its own, stopped nowhere, with so many chunks done."""
    process = subprocess.Popen(
        command(recipe_file, run),
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 90
    while len(list(run.rglob("chunk-*.json"))) < chunks and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.002)
    return process


def check_half_way(run: Path, wanted: dict[str, bytes]) -> None:
    """Everything under a final name is final; something is still to do."""
    found = files(run)
    done = [name for name in found if "chunk-" in name and not name.endswith(".tmp")]
    assert 0 < len(done) < sum("chunk-" in name for name in wanted)
    for name, content in found.items():
        if not name.endswith(".tmp") and name != "manifest.json":
            assert content == wanted[name]
    for name in done:
        number = name.split("chunk-")[1].removesuffix(".json")
        split = name.split("/")[0]
        assert all(f"{split}/{kind}-{number}.tfrecord" in found for kind in KINDS)


def descendants(pid: int) -> set[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def wait_until_gone(pids: set[int], seconds: float) -> set[int]:
    deadline = time.monotonic() + seconds
    while (left := {pid for pid in pids if alive(pid)}) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")


@needs_proc
def test_kill_9_and_the_same_command_give_the_same_bytes(
    large: Path, large_files: dict[str, bytes], tmp_path: Path
) -> None:
    first = started(large, tmp_path, 1)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    check_half_way(tmp_path, large_files)
    folder = tmp_path / "records" / "pnet" / "train"
    undone = max(int(p.stem.removeprefix("chunk-")) for p in folder.glob("chunk-*.json")) + 1
    # Died between a chunk's shards and its summary, in the middle of a shard, and of a summary.
    (folder / f"positive-{undone:05}.tfrecord").write_bytes(b"of another age")
    (folder / f"negative-{undone:05}.tfrecord.tmp").write_bytes(b"half a sha")
    (folder / f"chunk-{undone + 1:05}.json.tmp").write_bytes(b'{"cou')

    second = started(large, tmp_path, undone + 3)  # this time the parent alone
    workers = descendants(second.pid)
    assert len(workers) >= 2
    second.kill()
    second.wait()
    left = wait_until_gone(workers, 10)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    second.communicate()
    assert left == set()

    prepare(recipe.load(large), "pnet", tmp_path, 2, force=False)
    assert files(tmp_path) == large_files


@needs_proc
def test_ctrl_c_stops_within_seconds_and_goes_on(
    large: Path, large_files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process = started(large, tmp_path, 2)
    workers = descendants(process.pid)
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert told.endswith("\nstopped; the same command goes on from here.\n"), told
    assert "Traceback" not in told
    assert wait_until_gone(workers, 10) == set()
    check_half_way(tmp_path, large_files)

    capsys.readouterr()
    prepare(recipe.load(large), "pnet", tmp_path, 1, force=False)
    assert re.search(r"goes on; \d+ of \d+ chunks done", capsys.readouterr().out)
    assert files(tmp_path) == large_files


def test_too_many_broken_pictures_stop_the_stage_until_mended(tmp_path: Path) -> None:
    pictures = {name: small_set()[name] for name in (*sorted(BROKEN), "0--Noise/usual_0.jpg")}
    write_data(tmp_path, pictures)
    recipe_file, run = write_recipe(tmp_path), tmp_path / "run"
    strict = ["--set", "data.broken_share=0.4"]
    done = subprocess.run(
        command(recipe_file, run, "pnet", *strict), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    sentence = done.stderr.splitlines()[-1]
    assert sentence.startswith("error: 2 of 3 pictures are missing or unreadable, first ")
    assert any(name in sentence for name in BROKEN)
    assert "data.broken_share" in sentence
    assert "Traceback" not in done.stderr

    cv2.imwrite(str(tmp_path / "images/0--Noise/broken.jpg"), picture(1, 90, 130))
    settings = recipe.load(recipe_file, ["data.broken_share=0.4"])
    prepare(settings, "pnet", run, 1, force=False)
    assert [Path(name).name for name in manifest(run)["broken"]] == ["missing.jpg"]


def test_broken_pictures_may_be_accepted_afterwards(tmp_path: Path) -> None:
    write_data(tmp_path, {name: small_set()[name] for name in (*BROKEN, "0--Noise/usual_0.jpg")})
    recipe_file, run = write_recipe(tmp_path), tmp_path / "run"
    with pytest.raises(UserError, match="2 of 3 pictures"):
        prepare(recipe.load(recipe_file), "pnet", run, 1, force=False)
    accepted = recipe.load(recipe_file, ["data.broken_share=0.7"])
    prepare(accepted, "pnet", run, 1, force=False)
    assert len(manifest(run)["broken"]) == 2


@pytest.mark.parametrize("box", [(120, 5, 30, 30, 0), (5, 90, 30, 30, 0), (-40, 5, 40, 30, 0)])
def test_a_box_outside_its_picture_is_told_with_its_line(
    tmp_path: Path, box: tuple[int, int, int, int, int]
) -> None:
    edge = [(100, 70, 40, 40, 0), (-20, -20, 60, 60, 0)]  # across the border is fine
    write_data(tmp_path, {"0--Noise/a.jpg": (90, 120, edge), "0--Noise/b.jpg": (90, 120, [box])})
    settings = recipe.load(write_recipe(tmp_path))
    told = r"labels\.txt:5: the face \(.*\) lies outside its picture .*b\.jpg of 120 x 90 pixels"
    with pytest.raises(UserError, match=told):
        prepare(settings, "pnet", tmp_path / "run", 1, force=False)


def test_what_a_later_net_needs_is_named(small: Path, tmp_path: Path) -> None:
    settings = recipe.load(small)
    with pytest.raises(UserError, match=r"pnet is not there: `make train-pnet` makes it\."):
        prepare(settings, "rnet", tmp_path, 1, force=False)
    trained = stages.Stage(tmp_path / "pnet", {}, "train-pnet")
    trained.begin(force=False)
    with pytest.raises(UserError, match=r"pnet is not complete: `make train-pnet` makes it\."):
        prepare(settings, "onet", tmp_path, 1, force=False)
    trained.finish({})
    with pytest.raises(UserError, match=r"weights\.npz: there is no such weights file"):
        prepare(settings, "rnet", tmp_path, 1, force=False)
    (tmp_path / "pnet" / "weights.npz").write_bytes(b"PK\x03\x04 no weights")
    with pytest.raises(UserError, match=r"weights\.npz"):
        prepare(settings, "rnet", tmp_path, 1, force=False)
    assert not (tmp_path / "records").exists()


def with_pnet(settings: Settings, run: Path, seed: int) -> None:
    """A P-Net that was never trained finds everything half likely to be a face."""
    net = settings.pnet.net
    stage = stages.Stage(run / "pnet", {"seed": seed}, "train-pnet")
    stage.begin(force=True)
    weights = nets.get_weights(nets.build(net, seed))
    layouts.write_own(run / "pnet" / "weights.npz", layouts.Trained(net, weights))
    stage.finish({})


def test_mining_end_to_end(small: Path, tmp_path: Path) -> None:
    nothing_drawn = [
        f"rnet.records.{key}=0"
        for key in ("negatives_per_image", "negatives_per_face", "parts_per_face")
    ]
    counts = ["rnet.records.mined_negatives_per_image=9", "rnet.records.images_per_shard=3"]
    settings = recipe.load(small, [*nothing_drawn, *counts])
    for workers in (1, 2):
        with_pnet(settings, tmp_path / str(workers), 1)
        prepare(settings, "rnet", tmp_path / str(workers), workers, force=False)
    assert files(tmp_path / "1", "rnet") == files(tmp_path / "2", "rnet")
    told = manifest(tmp_path / "1", "rnet")
    total = {kind: sum(told["counts"][s].get(kind, 0) for s in told["counts"]) for kind in KINDS}
    assert 12 < total["negative"] <= 12 * 9, "all of them mined, of 12 pictures"
    assert total["part"] > 0
    assert total["positive"] > 0
    for path in shards(tmp_path / "1", "train", "negative", "rnet"):
        assert records.read_shard(path, 24, "negative").images.shape[1:] == (24, 24, 3)

    with_pnet(settings, tmp_path / "1", 2)  # trained anew: what it proposed is out of date
    with pytest.raises(UserError, match=r"\(nets\.pnet: .* -> .*\): `make rnet-data FORCE=1`"):
        prepare(settings, "rnet", tmp_path / "1", 1, force=False)


def test_the_first_net_is_mined_by_other_weights(small: Path, tmp_path: Path) -> None:
    def counts(run: str, *overrides: str) -> dict[str, Any]:
        settings = recipe.load(small, overrides)
        prepare(settings, "pnet", tmp_path / run, 1, force=False)
        return manifest(tmp_path / run)["counts"]["train"]  # type: ignore[no-any-return]

    with_pnet(recipe.load(small), tmp_path / "other", 1)
    by = f"pnet.records.mined_by={tmp_path / 'other'}"
    with pytest.raises(UserError, match=r"pnet\.records\.proposal_thresholds needs 1 values"):
        recipe.load(small, [by])
    mining = (by, "pnet.records.proposal_thresholds=[0.3]", "data.broken_share=0.9")
    drawn, mined = counts("drawn"), counts("mined", *mining)
    assert drawn["negative"] < mined["negative"] <= drawn["negative"] + 14 * 40
    assert {k: mined[k] for k in ("positive", "part")} == {
        k: drawn[k] for k in ("positive", "part")
    }
    with pytest.raises(UserError, match=r"rnet\.records\.mined_by is for the first net"):
        recipe.load(small, [by.replace("pnet", "rnet", 1)])


class Pool:
    """Stands in for the workers; counts the chunks that are cut and not yet taken."""

    waiting = 0
    most = 0
    closed = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        """Takes what the real one takes."""

    def submit(self, _: Any, pictures: Any) -> Future[Any]:
        Pool.waiting += 1
        Pool.most = max(Pool.most, Pool.waiting)
        future: Future[Any] = Future()
        if pictures == "killed":
            future.set_exception(BrokenProcessPool())
        else:
            future.set_result(pictures)
        return future

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        assert cancel_futures and not wait
        Pool.closed += 1


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Pool]]:
    Pool.waiting = Pool.most = Pool.closed = 0
    monkeypatch.setattr(driver, "ProcessPoolExecutor", Pool)
    yield Pool


def cut_in_order(settings: Settings, contents: list[Any], workers: int) -> Iterator[Any]:
    chunks = [Chunk("train", number, content) for number, content in enumerate(contents)]
    cuts: Iterator[tuple[Chunk, Cut]] = driver._cut_in_order(
        Plan(settings, "pnet", {}), chunks, workers
    )
    for chunk, cut in cuts:
        Pool.waiting -= 1
        yield chunk.number, cut


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_crops_never_pile_up(small: Path, pool: type[Pool], workers: int) -> None:
    """Peers' fault 8: everything held at once. Memory stays flat however many pictures."""
    contents = [f"pictures {number}" for number in range(40)]
    found = list(cut_in_order(recipe.load(small), contents, workers))
    assert found == list(enumerate(contents)), "in order"
    assert workers < pool.most <= 2 * workers + 1
    assert pool.closed == 1


def test_a_killed_worker_is_told(small: Path, pool: type[Pool]) -> None:
    found = cut_in_order(recipe.load(small), ["fine", "killed", "fine"], 1)
    assert next(found) == (0, "fine")
    with pytest.raises(UserError, match=r"a worker was killed, .*with WORKERS=1"):
        list(found)
    assert pool.closed == 1


def test_workers_must_be_some(small: Path, tmp_path: Path) -> None:
    arguments = command(small, tmp_path)
    arguments[arguments.index("--workers") + 1] = "0"
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: --workers must be at least 1; got 0.\n")
