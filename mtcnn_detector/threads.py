"""A thread pool shared by all detectors of a process."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 2  # items prepared for each other thread before it is ready for them
Item = TypeVar("Item")
Result = TypeVar("Result")


class _Threads:
    """The pool, started at its first use, and which threads are at work for it."""

    def __init__(self) -> None:
        self.count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self.pool: ThreadPoolExecutor | None = None
        self.local = threading.local()


_threads = _Threads()


def use_threads(count: int) -> None:
    """Let the detectors of this process use this many threads, the calling one included."""
    if _threads.pool is not None:
        _threads.pool.shutdown()
        _threads.pool = None
    _threads.count = count


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = AHEAD
) -> list[Result]:
    """`function` of all items, in their order, in the pool and in the calling thread.

    The calling thread iterates over `items`, so that it alone prepares them, and takes part in the
    work once `ahead` items wait for each other thread. Nested calls stay in their thread. After an
    error no further item is begun.
    """
    others = _threads.count - 1
    single = isinstance(items, Sequence) and len(items) == 1  # it may use all threads itself
    if single or not others or getattr(_threads.local, "busy", False):
        return [function(item) for item in items]
    pool = _threads.pool = _threads.pool or ThreadPoolExecutor(others, "detector")
    futures: list[Future[Result]] = []
    waiting: deque[tuple[Future[Result], Item]] = deque()
    own: dict[Future[Result], Result] = {}  # results of the calling thread
    errors: list[BaseException] = []

    def run(item: Item) -> Result:
        if errors:
            raise CancelledError
        _threads.local.busy = True
        try:
            return function(item)
        except BaseException as error:
            errors.append(error)
            raise
        finally:
            _threads.local.busy = False

    def take_over() -> None:
        """Run the first waiting item in this thread, unless another has begun it."""
        future, item = waiting.popleft()
        if future.cancel():
            own[future] = run(item)

    try:
        for item in items:
            futures.append(pool.submit(run, item))
            waiting.append((futures[-1], item))
            if len(waiting) > ahead * others:
                while waiting and (waiting[0][0].running() or waiting[0][0].done()):
                    waiting.popleft()
            if len(waiting) > ahead * others:
                take_over()
            if errors:
                break
        while waiting:
            take_over()
        return [own[future] if future in own else future.result() for future in futures]
    except CancelledError:
        raise errors[0] from None
    finally:
        for future in futures:
            future.cancel()
