"""Records cut by Dask workers: the same bytes, and a sentence for whatever fails."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from PIL import Image

from configs import recipe
from configs.settings import Settings
from data_prep import cluster, image_check
from data_prep.build_records import prepare
from data_prep.worker import Cut, Plan
from mtcnn_detector import pixels
from mtcnn_detector.errors import UserError
from tests.data_sets import ROOT, command, files, small_set, write_data, write_recipe

pytestmark = pytest.mark.slow

pytest.importorskip("distributed")

DASK = [sys.executable, "-m", "dask"]
SMALL_CHUNKS = "pnet.records.images_per_shard=1"


class Dask:
    """A scheduler and its workers on this machine."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "scheduler.json"
        self.processes: list[subprocess.Popen[bytes]] = []
        host = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        self.scheduler = self.start("scheduler", *host)
        wait_for(self.file.exists)

    @property
    def address(self) -> str:
        return str(self.file)

    def start(self, kind: str, *more: str, folder: Path = ROOT) -> subprocess.Popen[bytes]:
        line = [*DASK, kind, "--scheduler-file", str(self.file), *more]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(line, cwd=folder, start_new_session=True, **quiet)  # type: ignore[call-overload]
        self.processes.append(process)
        return process  # type: ignore[no-any-return]

    def worker(self, folder: Path = ROOT) -> subprocess.Popen[bytes]:
        more = ("--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", "--death-timeout", "60")
        return self.start("worker", *more, folder=folder)

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Poll until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    """A scheduler with two workers."""
    running = Dask(tmp_path_factory.mktemp("dask"))
    running.worker()
    running.worker()
    yield running
    running.stop()


@pytest.fixture
def own_dask(tmp_path: Path) -> Iterator[Dask]:
    """A scheduler for one test, without workers."""
    (tmp_path / "dask").mkdir()
    running = Dask(tmp_path / "dask")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def settings(small: Path) -> Settings:
    return recipe.load(small, [SMALL_CHUNKS])


@pytest.fixture(scope="module")
def local(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that the processes of this machine make."""
    run = tmp_path_factory.mktemp("local")
    prepare(settings, "pnet", run, 2, force=False)
    return files(run)


def on_cluster(settings: Settings, run: Path, address: str) -> None:
    prepare(settings, "pnet", run, 1, force=False, scheduler=address)


def test_the_workers_of_a_cluster_make_the_same_bytes(
    dask: Dask, settings: Settings, local: dict[str, bytes], tmp_path: Path
) -> None:
    on_cluster(settings, tmp_path, dask.address)
    assert files(tmp_path) == local


def test_a_worker_is_killed_and_the_bytes_stay_the_same(
    own_dask: Dask, small: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    first, _ = own_dask.worker(), own_dask.worker()
    line = command(small, tmp_path, "pnet", "--set", SMALL_CHUNKS)
    process = subprocess.Popen([*line, "--scheduler", own_dask.address], cwd=ROOT)
    records = tmp_path / "records" / "pnet"
    wait_for(lambda: len(list(records.rglob("chunk-*.json"))) > 1 or process.poll() is not None)
    os.killpg(first.pid, signal.SIGKILL)
    assert process.wait(90) == 0
    assert files(tmp_path) == local


def test_a_scheduler_that_goes_half_way_is_told_and_the_command_goes_on_elsewhere(
    own_dask: Dask, dask: Dask, small: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    own_dask.worker()
    run = tmp_path / "run"
    line = [*command(small, run, "pnet", "--set", SMALL_CHUNKS), "--scheduler", own_dask.address]
    process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    records = run / "records" / "pnet"
    wait_for(lambda: bool(list(records.rglob("chunk-*.json"))) or process.poll() is not None)
    os.kill(own_dask.scheduler.pid, signal.SIGKILL)
    _, printed = process.communicate(timeout=90)
    if process.returncode:  # it may have been done already
        assert process.returncode == 1
        assert "the scheduler at" in printed and "goes on from here" in printed
        assert "Traceback" not in printed, printed[printed.index("Traceback") - 300 :][:3000]
    on_cluster(recipe.load(small, [SMALL_CHUNKS]), run, dask.address)
    assert files(run) == local


def test_ctrl_c_stops_the_driver_alone(dask: Dask, small: Path, tmp_path: Path) -> None:
    line = command(
        small, tmp_path, "pnet", "--set", SMALL_CHUNKS, "pnet.records.negatives_per_image=9000"
    )
    process = subprocess.Popen(
        [*line, "--scheduler", dask.address], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: bool(list((tmp_path / "records").rglob("chunk-*.json"))))
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in printed) == (130, False)
    assert "the same command goes on from here" in printed
    assert dask.scheduler.poll() is None


def test_another_version_on_a_worker_is_told(
    dask: Dask, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = cluster.environment() | {"numpy": "1.0"}
    monkeypatch.setattr(cluster, "environment", lambda: here)
    with pytest.raises(UserError, match=r"differs: numpy .* there, 1\.0 here; update it"):
        on_cluster(settings, tmp_path, dask.address)


def test_images_that_only_the_driver_has_are_told(
    dask: Dask, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_data(tmp_path / "only-here", small_set())
    settings = recipe.load(write_recipe(tmp_path / "only-here"), ["data.folder=only-here"])
    monkeypatch.chdir(tmp_path)  # the workers' folder is another
    with pytest.raises(UserError, match="readable here, but not on a worker"):
        on_cluster(settings, tmp_path / "run", dask.address)


def test_images_that_the_check_leaves_out_are_no_fault_of_a_worker(
    settings: Settings, tmp_path: Path
) -> None:
    """OpenCV reads some files that the check of labels does not, such as GIFs."""
    path = tmp_path / "a.gif"
    Image.new("RGB", (40, 30)).save(path)
    assert pixels.read_image(path) is not None
    facts = image_check.look_at([path], tmp_path / "images.json")
    problems = {str(path): f"{path} {facts[path].problem}"}
    pool = cluster.ClusterPool.__new__(cluster.ClusterPool)
    pool._plan, pool._address = Plan(settings, "pnet", {}, problems), "tcp://nowhere"
    cut: Future[Cut] = Future()
    cut.set_result(Cut({}, problems))
    assert pool.result(cut).broken == problems


def test_a_worker_without_the_code_is_told(
    own_dask: Dask, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT", 60)  # until the worker has started
    own_dask.worker(folder=tmp_path)
    with pytest.raises(UserError, match=r"lacks the code: .*`make worker SCHEDULER="):
        on_cluster(settings, tmp_path / "run", own_dask.address)


def test_no_scheduler_and_no_worker_are_told(
    own_dask: Dask, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT", 1)
    with pytest.raises(UserError, match="no Dask scheduler answers at tcp://127"):
        on_cluster(settings, tmp_path, "tcp://127.0.0.1:9")
    with pytest.raises(UserError, match="has no worker: `make worker SCHEDULER="):
        on_cluster(settings, tmp_path, own_dask.address)


@pytest.mark.parametrize("address", ["foo", "http://10.0.0.1:80", "10.0.0.1", "tcp://10.0.0.1"])
def test_what_is_no_address_is_told(
    address: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_become", lambda *_: pytest.fail("dask would be started"))
    problem = f"SCHEDULER={address} is neither the address of a scheduler"
    with pytest.raises(UserError, match=problem):
        cluster.run_worker(address, 1)
    with pytest.raises(UserError, match=problem):
        on_cluster(settings, tmp_path, address)
    with pytest.raises(UserError, match="WORKERS must be at least 1; got 0"):
        cluster.run_worker("tcp://10.0.0.1:8786", 0)
