"""Work shared out to threads."""

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from models import keras_nets
from mtcnn_detector import backend, threads
from mtcnn_detector.architecture import PAPER_NETS
from mtcnn_detector.weights.weight_files import TrainedNet


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = threads._threads.count
    threads.use_threads(2)
    yield
    threads.use_threads(before)


def test_results_come_in_the_order_of_the_items_from_more_threads_than_one() -> None:
    seen = set()

    def slow(item: int) -> int:
        seen.add(threading.get_ident())
        time.sleep(0.01 * (item % 3))
        return item * item

    assert threads.in_threads(slow, range(20)) == [item * item for item in range(20)]
    assert len(seen) == 2 and threading.get_ident() in seen
    assert threads.in_threads(slow, []) == []


def test_the_calling_thread_draws_the_items_a_few_ahead() -> None:
    drawn: list[tuple[int, int]] = []
    done: list[int] = []

    def items() -> Iterator[int]:
        for item in range(30):
            drawn.append((threading.get_ident(), len(done)))
            yield item

    def slow(item: int) -> None:
        time.sleep(0.005)
        done.append(item)

    threads.in_threads(slow, items())
    assert sorted(done) == list(range(30))
    assert {thread for thread, _ in drawn} == {threading.get_ident()}
    # Those ahead, and one in work in each thread.
    assert all(i - finished <= threads.AHEAD + 2 for i, (_, finished) in enumerate(drawn))
    assert any(i - finished > 1 for i, (_, finished) in enumerate(drawn))


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_of_what_makes_the_items_comes_out(count: int) -> None:
    threads.use_threads(count)

    def items() -> Iterator[int]:
        yield from range(5)
        raise ValueError("while drawing")

    with pytest.raises(ValueError, match="while drawing"):
        threads.in_threads(abs, items())
    assert threads.in_threads(abs, [-1, -2, -3]) == [1, 2, 3]


def test_items_may_all_be_drawn_at_once() -> None:
    done: list[int] = []
    left = []

    def items() -> Iterator[int]:
        for item in range(9):
            left.append(item - len(done))
            yield item

    def slow(item: int) -> None:
        time.sleep(0.02)
        done.append(item)

    threads.in_threads(slow, items(), ahead=9)
    assert left[-1] > threads.AHEAD + 2


def test_one_item_alone_may_use_all_threads() -> None:
    def outer(_: int) -> int:
        return len(set(threads.in_threads(inner, range(6))))

    def inner(_: int) -> int:
        time.sleep(0.01)
        return threading.get_ident()

    assert threads.in_threads(outer, [0]) == [2]


def test_a_thread_that_cannot_start_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    threads.use_threads(3)
    start, started = threading.Thread.start, []

    def first_only(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) > 1:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", first_only)

    def slow(_: int) -> None:
        time.sleep(0.05)

    with pytest.raises(RuntimeError, match="new thread"):
        threads.in_threads(slow, range(20))
    pool = threads._threads.pool
    assert pool is not None
    pool.shutdown()  # waits for ever if a helper does
    threads._threads.pool = None
    assert len(started) == 2


def test_inside_of_a_thread_there_are_no_further_ones() -> None:
    def inner(_: int) -> int:
        time.sleep(0.01)
        return threading.get_ident()

    def outer(_: int) -> bool:
        return set(threads.in_threads(inner, range(4))) == {threading.get_ident()}

    assert all(threads.in_threads(outer, range(6)))
    assert len(set(threads.in_threads(inner, range(6)))) == 2, "the mark is gone afterwards"


@pytest.mark.parametrize("bad", [0, 1, 7])
def test_an_error_in_any_thread_comes_out_and_stops_nothing_for_good(bad: int) -> None:
    def fails(item: int) -> int:
        time.sleep(0.005)
        if item == bad:
            raise ValueError("of this item")
        return item

    with pytest.raises(ValueError, match="of this item"):
        threads.in_threads(fails, range(8))
    assert threads.in_threads(abs, [-1, -2, -3]) == [1, 2, 3]


@pytest.mark.parametrize("count", [1, 2])
def test_nothing_is_begun_after_an_error(count: int) -> None:
    threads.use_threads(count)
    begun = []

    def fails(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)
        if item == 1:
            raise ValueError

    with pytest.raises(ValueError):
        threads.in_threads(fails, range(100))
    assert len(begun) <= 4


def test_callers_at_once_do_not_wait_for_each_others_work() -> None:
    started, free = threading.Event(), threading.Event()

    def long(_: int) -> None:
        started.set()
        free.wait(30)

    busy = threading.Thread(target=threads.in_threads, args=(long, range(4)))
    busy.start()
    started.wait()
    assert threads.in_threads(abs, [-1, -2]) == [1, 2]
    assert busy.is_alive()
    free.set()
    busy.join()


def test_compiled_shapes_are_used_again_and_not_kept_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "MAX_CACHED_SHAPES", 3)
    net = PAPER_NETS["pnet"]
    first = backend.CompiledNet(
        "pnet", TrainedNet(net, keras_nets.get_weights(keras_nets.build(net)))
    )
    compiled: list[tuple[int, ...]] = []
    compile = first._compiled

    def noted(shape: tuple[int, ...]) -> backend.Inference:
        compiled.append(shape)
        return compile(shape)

    monkeypatch.setattr(first, "_compiled", noted)
    for side in (20, 30, 20, 30, 40, 30):
        first(np.zeros((1, side, side, 3), np.uint8))
    assert [shape[1] for shape in compiled] == [20, 30, 40]
    for side in range(50, 60):
        first(np.zeros((1, side, side, 3), np.uint8))
    assert [shape[1] for shape in first._idle] == [57, 58, 59]
