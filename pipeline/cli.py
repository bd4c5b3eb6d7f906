"""Command-line entry landmarks: the arguments of every stage; errors without a traceback."""

import argparse
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from mtcnn_detector.errors import UserError

# What a user can mend where a file or folder is named.
THEIRS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


def run_cli(main: Callable[[], None]) -> None:
    """Run a command; turn what the user can mend into one sentence on stderr and exit status 1.

    Everything else keeps its traceback: it is our fault, and we want to see it.
    """
    sys.unraisablehook = _interrupt_again
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.stdout.flush()
        sys.stderr.write("\nstopped; the same command goes on from here.\n")
        sys.stderr.flush()
        os._exit(130)  # TensorFlow's threads would otherwise hold the exit up for many seconds
    except OSError as error:
        if error.errno == errno.ENOSPC:
            where = f" while writing {error.filename}" if error.filename else ""
            sys.exit(f"error: the disk is full{where}: free some space and repeat the command.")
        if error.errno not in THEIRS or not error.filename:
            raise
        sys.exit(f"error: {error.filename}: {error.strerror}; mend that, or name another place.")


def _interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Repeat a Ctrl-C that came while Python cleaned up after an object, where it is dropped.

    TensorFlow has weak references called back all the time: between two epochs one in a hundred
    was lost.
    """
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        again = [threading.main_thread().ident, signal.SIGINT]
        threading.Timer(0.01, signal.pthread_kill, again).start()
    else:
        sys.__unraisablehook__(unraisable)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that every stage takes."""
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("configs/mtcnn.yaml"),
        metavar="YAML",
        help="the recipe (%(default)s)",
    )
    parser.add_argument(
        "--run",
        type=Path,
        default=Path("runs/mtcnn"),
        metavar="FOLDER",
        help="where everything the run makes goes (%(default)s)",
    )
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        action="extend",
        metavar="KEY.PATH=VALUE",
        help="change settings of the recipe",
    )
    parser.add_argument(
        "--force", action="store_true", help="make it anew, removing what another recipe made"
    )
