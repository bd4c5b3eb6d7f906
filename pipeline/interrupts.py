"""Ctrl-C that is not lost in a library: one in a hundred was, while TensorFlow trained."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

_received = False


@contextlib.contextmanager
def none_lost() -> Iterator[None]:
    """Have every Ctrl-C end what runs in here; for the main thread.

    Libraries drop a KeyboardInterrupt in two ways: Python prints one that comes while an object
    is finalised and goes on, and `except: pass`, which Keras has around what it does after every
    batch, catches it with everything else. The first is repeated; for the second, long loops call
    `check`.
    """
    global _received
    _received = False
    hook, sys.unraisablehook = sys.unraisablehook, _repeat
    # Elsewhere, such as in the background of a shell, it is ignored, and stays so.
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if raises:
        signal.signal(signal.SIGINT, _remember)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if raises:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _received = False


def check() -> None:
    """Raise the KeyboardInterrupt that should have ended this loop.

    Raises:
        KeyboardInterrupt: there was a Ctrl-C since `none_lost`.
    """
    if _received:
        raise KeyboardInterrupt


def _remember(number: int, frame: FrameType | None) -> None:
    """What Python does at a Ctrl-C, and a note for `check`."""
    global _received
    _received = True
    signal.default_int_handler(number, frame)


def _repeat(unraisable: "sys.UnraisableHookArgs") -> None:
    """Repeat a Ctrl-C that came while an object was finalised, where Python drops it.

    TensorFlow has weak references called back all the time. On a busy machine the repetition may
    come before this function has ended, where it would be dropped as well.
    """
    if not issubclass(unraisable.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
        return
    again = [threading.main_thread().ident, signal.SIGINT]
    begun = False
    while not begun:
        with contextlib.suppress(KeyboardInterrupt):
            threading.Timer(0.01, signal.pthread_kill, again).start()
            begun = True
