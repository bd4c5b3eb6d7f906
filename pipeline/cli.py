"""Command lines: the arguments of every stage, and errors without a traceback."""

import argparse
import errno
import glob
import io
import os
import select
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mtcnn_detector.errors import UserError
from pipeline import interrupts, run_recipe
from pipeline.run_recipe import Run

# Errors of files and folders that the user can correct.
USER_ERRNOS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)
FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}


def run_cli(main: Callable[[], None]) -> None:
    """Run a command; turn a user's error into one sentence on stderr and exit status 1.

    All other errors keep their traceback: they are faults of this project.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be no UTF-8; as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with interrupts.none_lost():
            # A Ctrl-C during the imports, which `sequence.run_module` holds back, comes now.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
            main()
            sys.stdout.flush()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.stdout.flush()
        sys.stderr.write(
            f"\nstopped; the same command{without_force(sys.argv)} goes on from here.\n"
        )
        sys.stderr.flush()
        os._exit(130)  # TensorFlow's threads would otherwise delay the exit by many seconds
    except BrokenPipeError:
        if not _reader_has_left():
            raise
        sys.exit(128 + signal.SIGPIPE)  # as of any command whose reader leaves, such as `| head`
    except OSError as error:
        if error.errno in FULL:
            where = f" while writing {error.filename}" if error.filename else ""
            full = f"{FULL[error.errno]}{where}"
            again = f"repeat the command{without_force(sys.argv)}"
            sys.exit(f"error: {full}: free some space and {again}.")
        if error.errno not in USER_ERRNOS or not error.filename:
            raise
        sys.exit(f"error: {error.filename}: {error.strerror}; mend that, or name another place.")


def without_force(words: Sequence[str]) -> str:
    """What to leave out of a command that is to go on, in words: FORCE begins anew."""
    return " without FORCE=1" if "--force" in words else ""


def _reader_has_left() -> bool:
    """Whether stdout is a pipe that nobody reads any more; what it still holds is dropped then."""
    ends = select.poll()
    ends.register(sys.stdout.fileno(), 0)
    if not ends.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every stage takes."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="YAML",
        help=f"the recipe (the one that the run keeps, or {run_recipe.DEFAULT})",
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="FOLDER",
        help="where everything the run makes goes (in runs/, named after the recipe)",
    )
    parser.add_argument(
        "--set",
        nargs="*",
        default=[],
        action="extend",
        metavar="KEY.PATH=VALUE",
        help="change settings of the recipe; kept by the run",
    )
    parser.add_argument(
        "--force", action="store_true", help="make it anew, removing what another recipe made"
    )


def open_run(
    arguments: argparse.Namespace, unkept: Sequence[str] = (), default: Path | None = None
) -> Run:
    """The run that a command line names by the arguments of `add_arguments`."""
    return run_recipe.open_run(arguments.config, arguments.run, arguments.set, unkept, default)


def split_paths(texts: Sequence[str]) -> list[Path]:
    """Paths as `IMAGES=` names them: one path, spaces and all, or several as a shell reads them.

    Args:
        texts: Each is a path that exists, or words of a shell with quotes and `*`.

    Raises:
        UserError: there is no path in them, or a quote is not closed.
    """
    paths: list[Path] = []
    for text in texts:
        if text and Path(text).exists():
            paths.append(Path(text))
            continue
        try:
            words = shlex.split(text)
        except ValueError:
            raise UserError(f"IMAGES={text}: a quote is not closed.") from None
        for word in words:
            paths += [Path(found) for found in sorted(glob.glob(word))] or [Path(word)]  # noqa: PTH207
    if not paths:
        raise UserError("IMAGES= names image files or folders, as `make detect IMAGES=image.jpg`.")
    return paths


def make_variables(arguments: argparse.Namespace) -> dict[str, Any]:
    """The make variables that stand for the arguments of `add_arguments`."""
    settings = " ".join(arguments.set)
    return {"CONFIG": arguments.config, "RUN": arguments.run, "SET": settings}
