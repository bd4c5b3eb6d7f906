"""Atomic writing of files."""

import os
from pathlib import Path

DRAFT = ".tmp"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically: it gets its name after its content is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + DRAFT)
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
