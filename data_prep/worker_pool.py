"""Worker processes of the record stages: chunks of images in, their crops out, in order."""

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from configs.record_settings import SampleType
from data_prep import worker
from data_prep.readers.entries import Split
from data_prep.sources import LabelledImage
from data_prep.worker import Cut, Plan
from mtcnn_detector.errors import UserError
from pipeline.make_command import make_command

PIECE = 8  # images that a worker is sent at a time: progress moves by so many


class Chunk(NamedTuple):
    """The images of one set of shards, one shard for each kind of crop."""

    split: Split
    number: int
    images: list[LabelledImage]

    def shard(self, folder: Path, kind: SampleType) -> Path:
        """The path of the shard of one kind, in a net's folder of records."""
        return folder / self.split / f"{kind}-{self.number:05}.tfrecord"

    def pieces(self) -> list["Chunk"]:
        """Its images in parts that are cut one by one."""
        starts = range(0, len(self.images), PIECE)
        return [self._replace(images=self.images[start : start + PIECE]) for start in starts]

    def summary(self, folder: Path) -> Path:
        """Counts and broken images as JSON; written last, so a chunk that has it is complete."""
        return folder / self.split / f"chunk-{self.number:05}.json"


class Pool(Protocol):
    """Cuts chunks somewhere else."""

    workers: int

    def submit(self, images: list[LabelledImage]) -> Any:
        """A future of the crops of some images."""

    def result(self, future: Any) -> Cut:
        """The crops, when they are there; raises `UserError` where they never will be."""

    def close(self) -> None:
        """Drop the pending chunks."""


class LocalPool:
    """Cuts chunks in processes of this machine.

    Args:
        plan: the stage.
        workers: number of processes.
    """

    def __init__(self, plan: Plan, workers: int) -> None:
        self.workers, self._name = workers, plan.name
        # The resource tracker would warn about us, below the sentence that Ctrl-C ends with.
        sys.warnoptions.append("ignore:resource_tracker")
        spawn = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(
            workers, spawn, initializer=worker.start, initargs=(plan,)
        )

    def submit(self, images: list[LabelledImage]) -> Future[Cut]:
        """A future of the crops of some images."""
        # Workers started by it inherit a blocked SIGINT: the parent stops them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return self._executor.submit(worker.cut_chunk, images)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def result(self, future: Future[Cut]) -> Cut:
        """The crops, when they are there; raises `UserError` where a worker was killed."""
        try:
            return future.result()
        except BrokenProcessPool:
            command = make_command(f"{self._name}-data", WORKERS=1)
            raise UserError(
                "a worker was killed, probably for want of memory: repeat the command with "
                f"WORKERS=1 (`{command}`), or lower images_per_shard."
            ) from None

    def close(self) -> None:
        """Drop the pending chunks."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def cut_in_order(pool: Pool, chunks: list[Chunk], ahead: int = 2) -> Generator[tuple[Chunk, Cut]]:
    """Every chunk with its crops; at most `ahead` a worker are pending: memory stays flat."""
    pending: deque[tuple[Chunk, Any]] = deque()
    try:
        for chunk in chunks:
            pending.append((chunk, pool.submit(chunk.images)))
            if len(pending) > ahead * pool.workers:
                yield pending[0][0], pool.result(pending.popleft()[1])
        while pending:
            yield pending[0][0], pool.result(pending.popleft()[1])
    finally:
        pool.close()
