"""The one error a user is meant to read, and the door that prints it without a traceback."""

import errno
import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """One sentence for the person at the keyboard: which file, line or key, and what to do."""


def run_cli(main: Callable[[], None]) -> None:
    """Run a command; turn what the user can mend into one sentence on stderr and exit status 1.

    Everything else keeps its traceback: it is our fault, and we want to see it.
    """
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
        if error.errno != errno.ENOSPC:
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        sys.exit(f"error: the disk is full{where}: free some space and repeat the command.")
