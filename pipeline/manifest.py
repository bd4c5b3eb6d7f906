"""What lies beside everything a run makes: by which recipe, and whether it is complete.

A stage (records, a training, an export) owns one folder with a `manifest.json`. The manifest is
written first with `complete: false`, so that a killed stage is known for what it is, and last
with the stage's facts.
"""

import contextlib
import fcntl
import hashlib
import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtcnn_detector.errors import UserError
from mtcnn_detector.files import DRAFT, write_atomically

MANIFEST = "manifest.json"
VERSION = 2  # of what a manifest holds; 1 was before settings were renamed


@dataclass(frozen=True)
class Stage:
    """A stage's folder, the settings and inputs that decide its content, and its make target."""

    folder: Path
    recipe: Mapping[str, Any]
    command: str

    def begin(self, force: bool) -> bool:
        """Whether there is work to do; prepares the folder for it.

        Raises:
            UserError: the folder holds the work of another recipe and `force` is not set; or
                files that no stage made.
        """
        found = read_manifest(self.folder)
        if found is None and self._holds_work():
            raise UserError(
                f"{self.folder} holds files but no {MANIFEST}, so no stage made it: move it away, "
                "or name another folder by RUN=."
            )
        changed = "" if found is None else changes(found["recipe"], flat(self.recipe))
        done = found is not None and found["complete"]
        if changed and not force and (done or self._holds_work()):
            raise UserError(
                f"{self.folder} was made by another recipe ({changed}): "
                f"`make {self.command} FORCE=1` makes it anew, RUN= names another folder."
            )
        if not changed and done and not force:
            print(f"{self.command}: {self.folder} is complete for this recipe; nothing to do.")
            return False
        if force and self.folder.exists():
            _remove(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(False, {})
        return True

    def _holds_work(self) -> bool:
        """Whether there is anything that a new recipe could mix with."""
        files = (path.name for path in self.folder.rglob("*") if path.is_file())
        return any(name.removesuffix(DRAFT) != MANIFEST for name in files)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Mark the stage complete."""
        self._write(True, facts)

    def _write(self, complete: bool, facts: Mapping[str, Any]) -> None:
        content = {
            "version": VERSION,
            "complete": complete,
            **facts,
            "recipe": flat(self.recipe),
            **versions(),
        }
        write_atomically(self.folder / MANIFEST, json.dumps(content, indent=1).encode())


def _remove(folder: Path) -> None:
    """Remove a folder under another name: what a kill leaves is never taken for a beginning."""
    doomed = folder.with_name(f".{folder.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed)


def put(draft: Path, target: Path) -> None:
    """Give a draft, file or folder, its name; what bore the name before goes last."""
    if not target.is_dir():
        draft.replace(target)
        return
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    draft.rename(target)
    shutil.rmtree(old)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a stage's folder, or None where there is none."""
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        manifest["recipe"], manifest["complete"]
        version = manifest.get("version", 1)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: remove {folder} and make it again.") from None
    if version != VERSION:
        raise UserError(
            f"{folder} was made by another version of this project, with other names "
            "of settings: "
            "its weights can still be used (WEIGHTS=, or init in a recipe), but nothing is added "
            "to it; RUN= names another folder."
        )
    return manifest


def require(folder: Path, command: str) -> dict[str, Any]:
    """The manifest of a completed stage.

    Raises:
        UserError: it is missing or unfinished; the sentence holds the command that makes it.
    """
    manifest = read_manifest(folder)
    if manifest is None or not manifest["complete"]:
        state = "is not there" if manifest is None else "is not complete"
        raise UserError(f"{folder} {state}: `make {command}` makes it.")
    return manifest


@contextlib.contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold a run's folder alone: a second command waits for the first instead of mixing in."""
    run.mkdir(parents=True, exist_ok=True)
    with (run / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"another command is at work in {run}; waiting for it.", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested recipe as one level of `section.key`, its values as JSON gives them back."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = json.loads(json.dumps(value))
    return leaves


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between two flat recipes, in words; a setting of null is one not given."""
    keys = {**old, **new}
    differing = [key for key in keys if _given(old.get(key)) != _given(new.get(key))]
    told = [f"{key}: {_short(old.get(key))} -> {_short(new.get(key))}" for key in differing[:4]]
    more = f", and {len(differing) - 4} more" if len(differing) > 4 else ""
    return "; ".join(told) + more


def _given(value: Any) -> Any:
    """A value without the settings of null inside it."""
    if isinstance(value, list):
        return [_given(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _given(item) for key, item in value.items() if item is not None}
    return value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def digest(paths: list[Path]) -> str:
    """SHA-256 over the contents of files, in the given order."""
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def digest_of(path: Path) -> str:
    """`digest` of a file, or of all files in a folder."""
    return digest(sorted(part for part in (path, *path.rglob("*")) if part.is_file()))


def versions() -> dict[str, Any]:
    """What the result may depend on besides the recipe."""
    nets, pixels = ("tensorflow", "keras", "ai-edge-litert", "openvino"), ("numpy", "opencv-python")
    found = {"python": platform.python_version()}
    for name in (*nets, *pixels, "opencv-python-headless"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {"versions": found, "commit": _commit()}


def _commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip()
