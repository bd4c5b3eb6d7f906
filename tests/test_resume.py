"""Preparation is killed, stopped and goes on: the same bytes; and its queue of workers."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from configs import recipe
from configs.record_settings import SAMPLE_TYPES
from configs.settings import Settings
from data_prep import worker_pool
from data_prep.build_records import prepare
from data_prep.worker import Cut, Plan
from data_prep.worker_pool import Chunk
from mtcnn_detector.errors import UserError
from tests.data_sets import (
    ROOT,
    command,
    files,
    large_set,
    write_data,
    write_recipe,
)

pytestmark = pytest.mark.slow


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
        assert all(f"{split}/{kind}-{number}.tfrecord" in found for kind in SAMPLE_TYPES)


def descendants(pid: int) -> set[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found: set[int] = set()
    new = {pid}
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
    assert time.monotonic() - began < 15
    assert process.returncode == 130
    assert told.endswith("\nstopped; the same command goes on from here.\n"), told
    assert "Traceback" not in told
    assert wait_until_gone(workers, 10) == set()
    check_half_way(tmp_path, large_files)

    capsys.readouterr()
    prepare(recipe.load(large), "pnet", tmp_path, 1, force=False)
    assert re.search(r"goes on; \d+ of \d+ chunks done", capsys.readouterr().out)
    assert files(tmp_path) == large_files


class Pool:
    """Stands in for the workers; counts the chunks that are cut and not yet taken."""

    waiting = 0
    most = 0
    closed = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        """Takes what the real one takes."""

    def submit(self, _: Any, images: Any) -> Future[Any]:
        Pool.waiting += 1
        Pool.most = max(Pool.most, Pool.waiting)
        future: Future[Any] = Future()
        if images == "killed":
            future.set_exception(BrokenProcessPool())
        else:
            future.set_result(images)
        return future

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        assert cancel_futures and not wait
        Pool.closed += 1


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Pool]]:
    Pool.waiting = Pool.most = Pool.closed = 0
    monkeypatch.setattr(worker_pool, "ProcessPoolExecutor", Pool)
    yield Pool


def cut_in_order(settings: Settings, contents: list[Any], workers: int) -> Iterator[Any]:
    chunks = [Chunk("train", number, content) for number, content in enumerate(contents)]
    cuts: Iterator[tuple[Chunk, Cut]] = worker_pool.cut_in_order(
        worker_pool.LocalPool(Plan(settings, "pnet", {}), workers), chunks
    )
    for chunk, cut in cuts:
        Pool.waiting -= 1
        yield chunk.number, cut


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_crops_never_pile_up(small: Path, pool: type[Pool], workers: int) -> None:
    """Peers' fault 8: everything held at once. Memory stays flat however many images."""
    contents = [f"images {number}" for number in range(40)]
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
