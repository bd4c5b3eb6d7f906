"""Work shared out to the threads that all detectors of a process have in common."""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TypeVar, cast

AHEAD = 2  # items drawn for each other thread before it is ready for them
Item = TypeVar("Item")
Result = TypeVar("Result")


class _Threads:
    """The threads that detectors of this process share, started when they are needed."""

    def __init__(self) -> None:
        self.count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
        self.pool: ThreadPoolExecutor | None = None
        self.inside = threading.local()


_threads = _Threads()


def use_threads(count: int) -> None:
    """Let the detectors of this process use this many threads."""
    if _threads.pool is not None:
        _threads.pool.shutdown()
        _threads.pool = None
    _threads.count = count


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = AHEAD
) -> list[Result]:
    """`function` of all items, in their order; from inside of such a call, in that thread alone.

    The calling thread draws the items, and works like the others while `ahead` of them wait for
    each of these. So what is made while drawing is made by one thread; several would wait for each
    other's Python. After an error no further item is begun.
    """
    others = _threads.count - 1
    alone = isinstance(items, Sequence) and len(items) == 1  # it may want the threads itself
    if alone or not others or getattr(_threads.inside, "yes", False):
        return [function(item) for item in items]
    pool = _threads.pool = _threads.pool or ThreadPoolExecutor(others, "detector")
    drawn: SimpleQueue[tuple[int, Item] | None] = SimpleQueue()  # None: no more to come
    results: dict[int, Result] = {}
    errors: list[BaseException] = []
    helpers: list[Future[None]] = []

    def run(place: int, item: Item) -> None:
        _threads.inside.yes = True
        try:
            results[place] = function(item)
        except BaseException as error:
            errors.append(error)
        finally:
            _threads.inside.yes = False

    def work() -> None:
        for task in iter(drawn.get, None):
            if not errors:
                run(*task)
        drawn.put(None)  # for the next

    try:
        for task in enumerate(items):
            drawn.put(task)
            if len(helpers) < others:
                helpers.append(pool.submit(work))
            if drawn.qsize() > ahead * others:
                with suppress(Empty):  # the others were faster
                    run(*cast(tuple[int, Item], drawn.get_nowait()))
            if errors:
                break
    except BaseException as error:  # while drawing
        errors.append(error)
        raise
    finally:
        drawn.put(None)
        work()
        wait([helper for helper in helpers if not helper.cancel()])  # cancelled: others keep it
    if errors:
        raise errors[0]
    return [results[place] for place in range(len(results))]
