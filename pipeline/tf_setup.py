"""TensorFlow's first words kept off the screen."""

import contextlib
import os
from collections.abc import Iterator

# A user who sets it wants to read all of it; worker processes inherit it from us.
ASKED = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") != "2"


def import_tensorflow() -> None:
    """Import TensorFlow and let it look for devices without a word.

    What it says before its log level counts (and twice, for its two libraries) would bury
    the progress of every command.
    """
    with silence():
        import tensorflow as tf

        tf.config.list_physical_devices()
    if not ASKED:
        tf.get_logger().setLevel("ERROR")  # it takes one net after another for retracing


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Nothing that libraries say on the way reaches the screen, unless the user has asked."""
    if ASKED:
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
