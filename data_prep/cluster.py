"""Workers on other machines: chunks of images are sent through a Dask scheduler.

Needs the extra `cluster`. A worker is a process that was started in a clone of this repository at
the same commit (`make worker SCHEDULER=...`); it reads the images itself, under the paths that the
driver knows them by. Order, back-pressure, progress and the writing of shards stay with the driver.
"""

import functools
import importlib.util
import logging
import os
import re
import socket
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from data_prep import worker
from data_prep.sources import LabelledImage
from data_prep.worker import Cut, Plan
from mtcnn_detector import pixels
from mtcnn_detector.errors import UserError
from pipeline import code_changes, manifest

CONNECT_TIMEOUT = 5  # seconds
ADDRESS = re.compile(r"((tcp|tls|ucx|wss?)://)?[^\s/]+:\d+")
# Folders whose code decides the bytes of the records.
CODE = ("mtcnn_detector", "configs", "pipeline", "data_prep")
VERSIONS = ("python", "numpy", "opencv-python", "opencv-python-headless", "openvino")


class ClusterPool:
    """Cuts chunks on the workers of a Dask scheduler; the counterpart of `LocalPool`.

    Args:
        plan: the stage.
        address: of the scheduler, such as `tcp://10.0.0.1:8786`, or its scheduler file.

    Raises:
        UserError: no scheduler or no worker is there; a worker lacks the code or has another
            version of it or of a library.
    """

    def __init__(self, plan: Plan, address: str) -> None:
        self._plan, self._token, self._address = plan, uuid.uuid4().hex, address
        self._client = _connect(address)
        self._environment = environment()
        _check_workers(self._client, address, self._environment)
        self.workers = sum(self._client.nthreads().values())

    def submit(self, images: list[LabelledImage]) -> Any:
        """A future of the crops of some images."""
        task = (self._environment, self._token, self._plan, images)
        return self._client.submit(cut_chunk, *task, pure=False)

    def result(self, future: Any) -> Cut:
        """The crops, when they are there.

        Raises:
            UserError: an image is readable here but not on the worker; every worker that took the
                chunk was killed; the scheduler is gone; a worker's code differs.
        """
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        try:
            cut: Cut = future.result()
        except KilledWorker:
            raise UserError(
                "a chunk of images killed every worker that took it, probably for want of memory: "
                "lower images_per_shard, or give the workers more memory."
            ) from None
        except ImportError as error:
            raise UserError(
                f"a worker of {self._address} lacks the code: {_how_to(error)}"
            ) from None
        except (CancelledError, CommClosedError, OSError, TimeoutError):
            raise UserError(
                f"the scheduler at {self._address} is gone: start it again, and repeat the "
                "command; it goes on from here."
            ) from None
        for path in cut.broken.keys() - self._plan.problems.keys():  # those are known here
            if "unreadable" in cut.broken[path] and pixels.read_image(Path(path)) is not None:
                raise UserError(
                    f"{path} is readable here, but not on a worker of {self._address}: mount the "
                    "images there under the same path."
                )
        return cut

    def close(self) -> None:
        """Drop the pending chunks; workers and scheduler stay."""
        self._client.close(timeout=1)


def run_scheduler(host: str) -> None:
    """Become a Dask scheduler that listens on an address of this machine."""
    _become("scheduler", "--host", host)


def run_worker(address: str, workers: int) -> None:
    """Become Dask workers, one thread each, for a scheduler's address or file.

    Raises:
        UserError: it is neither, or there are no workers to be.
    """
    if workers < 1:
        raise UserError(f"WORKERS must be at least 1; got {workers}.")
    _check_address(address)
    where = ["--scheduler-file", address] if Path(address).is_file() else [address]
    _become("worker", *where, "--nworkers", str(workers), "--nthreads", "1")


def _check_address(address: str) -> None:
    if not Path(address).is_file() and not ADDRESS.fullmatch(address):
        raise UserError(
            f"SCHEDULER={address} is neither the address of a scheduler, such as "
            "tcp://10.0.0.1:8786, nor its scheduler file."
        )


def _become(*words: str) -> None:
    _require_dask()
    os.execv(sys.executable, [sys.executable, "-m", "dask", *words, "--no-dashboard"])


def _require_dask() -> None:
    if importlib.util.find_spec("distributed") is None:
        raise UserError(
            "a cluster needs the extra `cluster`: `.venv/bin/pip install -e '.[train,cluster]'`."
        )


def environment() -> dict[str, str]:
    """Everything besides the recipe that the bytes of the records depend on."""
    versions = manifest.versions()["versions"]
    code = code_changes.digest(CODE)
    return {"code": code, **{key: versions[key] for key in VERSIONS if key in versions}}


def cut_chunk(expected: dict[str, str], token: str, plan: Plan, images: list[LabelledImage]) -> Cut:
    """On a worker: the crops of some images; refused where its environment is not the driver's."""
    if problem := _difference(_own_environment(), expected):
        raise UserError(f"the worker on {socket.gethostname()} differs: {problem}.")
    return worker.cut_for_plan(token, plan, images)


@functools.cache
def _own_environment() -> dict[str, str]:
    return environment()


def _difference(found: dict[str, str], expected: dict[str, str]) -> str:
    """Which versions differ, in words; "" where none does."""
    keys = [key for key in {**expected, **found} if found.get(key) != expected.get(key)]
    return ", ".join(f"{key} {found.get(key)} there, {expected.get(key)} here" for key in keys)


def _connect(address: str) -> Any:
    _check_address(address)
    _require_dask()
    import dask
    from distributed import Client

    for handler in logging.getLogger("distributed").handlers:
        handler.setLevel(logging.CRITICAL)  # one sentence says it all
    dask.config.set({"distributed.comm.timeouts.connect": f"{CONNECT_TIMEOUT}s"})
    where: dict[str, Any] = {"timeout": CONNECT_TIMEOUT, "set_as_default": False}
    where |= {"scheduler_file": address} if Path(address).is_file() else {"address": address}
    try:
        # Results come straight from the workers: the scheduler would be the bottleneck.
        return Client(**where, direct_to_workers=True)
    except (OSError, TimeoutError, ValueError):
        raise UserError(
            f"no Dask scheduler answers at {address}: `make scheduler` starts one there."
        ) from None


def _check_workers(client: Any, address: str, expected: dict[str, str]) -> None:
    """Ask every worker once: one without the code would let the driver wait for ever."""
    start = f"`make worker SCHEDULER={address}`, typed in a clone of this repository, starts one."
    try:
        client.wait_for_workers(1, timeout=CONNECT_TIMEOUT)
    except TimeoutError:
        raise UserError(f"the scheduler at {address} has no worker: {start}") from None
    for name, found in client.run(_probe()).items():
        if isinstance(found, str):
            raise UserError(f"the worker {name} lacks the code: {_how_to(found)}")
        if problem := _difference(found, expected):
            raise UserError(f"the worker {name} differs: {problem}; update it and start it again.")


def _how_to(problem: object) -> str:
    return f"{problem}; start it in a clone of this repository, by `make worker SCHEDULER=...`."


def _probe() -> Callable[[], "dict[str, str] | str"]:
    """A function that is sent as a whole, for workers that may lack all of our modules."""

    def probe() -> "dict[str, str] | str":
        try:
            from data_prep.cluster import environment as own
        except ImportError as error:
            return str(error)
        return own()

    return probe
