"""The one error a user is meant to read, and the door that prints it without a traceback."""

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable

# What a user can mend where a file or folder is named.
THEIRS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


class UserError(Exception):
    """One sentence for the person at the keyboard: which file, line or key, and what to do."""


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
