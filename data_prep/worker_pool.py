"""Worker processes of the record stages: chunks of images in, their crops out, in order."""

import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

from configs.settings import SampleType
from data_prep import worker
from data_prep.sources import LabelledImage, Split
from data_prep.worker import Cut, Plan
from mtcnn_detector.errors import UserError
from pipeline.make_command import make_command


class Chunk(NamedTuple):
    """The images of one set of shards, one shard for each kind of crop."""

    split: Split
    number: int
    images: list[LabelledImage]

    def shard(self, folder: Path, kind: SampleType) -> Path:
        """The path of the shard of one kind, in a net's folder of records."""
        return folder / self.split / f"{kind}-{self.number:05}.tfrecord"

    def summary(self, folder: Path) -> Path:
        """Counts and broken images as JSON; written last, so a chunk that has it is complete."""
        return folder / self.split / f"chunk-{self.number:05}.json"


def cut_in_order(plan: Plan, chunks: list[Chunk], workers: int) -> Iterator[tuple[Chunk, Cut]]:
    """Every chunk with its crops; at most `2 * workers + 1` are pending, so memory stays flat.

    Raises:
        UserError: a worker was killed.
    """
    # The resource tracker would warn about us, below the sentence that Ctrl-C ends with.
    sys.warnoptions.append("ignore:resource_tracker")
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, initializer=worker.start, initargs=(plan,))
    pending: deque[tuple[Chunk, Future[Cut]]] = deque()
    try:
        for chunk in chunks:
            pending.append((chunk, _submit(pool, chunk.images)))
            if len(pending) > 2 * workers:
                yield pending[0][0], pending.popleft()[1].result()
        while pending:
            yield pending[0][0], pending.popleft()[1].result()
    except BrokenProcessPool:
        raise UserError(
            "a worker was killed, probably for want of memory: repeat the command with WORKERS=1 "
            f"(`{make_command(f'{plan.name}-data', WORKERS=1)}`), or lower images_per_shard."
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, images: list[LabelledImage]) -> Future[Cut]:
    """Submit a chunk; workers started by it inherit a blocked SIGINT: the parent stops them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(worker.cut_chunk, images)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
