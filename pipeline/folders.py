"""Folders of a run: atomic replacement and removal, and the lock of a run."""

import contextlib
import errno
import fcntl
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

# Of some network disks, such as Lustre's.
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


def replace(draft: Path, target: Path) -> None:
    """Move a draft, file or folder, to its target; a folder there before is removed last.

    Of a link, the link alone is replaced.
    """
    if target.is_symlink() or (target.is_file() and draft.is_dir()):
        target.unlink()
    if not target.is_dir():
        draft.replace(target)
        return
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    draft.rename(target)
    shutil.rmtree(old)


def remove(folder: Path) -> None:
    """Remove a folder under another name, so that a kill leaves no half of it in its place.

    Of a link to a folder, such as one on a larger disk, the folder is emptied and the link stays.
    """
    real = folder.resolve()
    doomed = real.with_name(f".{real.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    real.rename(doomed)
    if folder.is_symlink():
        real.mkdir()
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
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            print(
                f"warning: the disk of {run} has no locks: start no second command in it.",
                file=sys.stderr,
            )
        yield
