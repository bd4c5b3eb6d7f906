"""Folders of a run: atomic replacement and removal, and the lock of a run."""

import contextlib
import fcntl
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path


def replace(draft: Path, target: Path) -> None:
    """Move a draft, file or folder, to its target; a folder there before is removed last."""
    if not target.is_dir():
        draft.replace(target)
        return
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    draft.rename(target)
    shutil.rmtree(old)


def remove(folder: Path) -> None:
    """Remove a folder under another name, so that a kill leaves no half of it in its place."""
    doomed = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Lock a run's folder: a second command waits until the first has ended."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another command is at work in {run}; waiting for it.", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
