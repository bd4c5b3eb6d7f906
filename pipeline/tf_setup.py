"""TensorFlow's import without its start-up messages."""

import contextlib
import os
from collections.abc import Iterator

# A user who sets the level sees all messages; worker processes inherit the level.
VERBOSE = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") != "2"


def import_tensorflow() -> None:
    """Import TensorFlow and let it look for devices, without its messages.

    Those of before its log level counts (twice, for its two libraries) would bury the progress of
    every command.
    """
    with silence():
        import tensorflow as tf

        tf.config.list_physical_devices()
    if not VERBOSE:
        tf.get_logger().setLevel("ERROR")  # it takes one net after another for retracing


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep the messages of libraries off stderr, unless the user has set a log level."""
    if VERBOSE:
        yield
        return
    stderr, devnull = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(devnull)
