"""Manifests: by which recipe a stage's folder was made, and whether it is complete.

A stage (records, a training, an export) owns one folder with a `manifest.json`. The manifest is
written first with `complete: false`, so that a killed stage is recognised, and last with the
stage's facts.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtcnn_detector.errors import UserError
from mtcnn_detector.files import DRAFT, write_atomically
from pipeline import code_changes, folders
from pipeline.make_command import make_command

MANIFEST = "manifest.json"
PACKAGES = (
    *("tensorflow", "keras", "ai-edge-litert", "openvino"),
    *("numpy", "opencv-python", "opencv-python-headless"),
)
VERSION = 2  # of the manifest; 1 was before settings were renamed


@dataclass(frozen=True)
class Stage:
    """A stage's folder, the settings and inputs that decide its content, and its make target.

    Args:
        folder: The folder, which holds nothing else.
        recipe: Settings and digests of inputs, nested; a stage with another recipe is another one.
        command: The make target, for messages.
        variables: Make variables of the command besides those of the run.
    """

    folder: Path
    recipe: Mapping[str, Any]
    command: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def begin(self, force: bool, may_grow: Sequence[str] = ()) -> bool:
        """Whether there is work to do; prepares the folder for it.

        A stage goes on with the work in the folder where only settings of `may_grow` have grown.

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
        old, new = {} if found is None else found["recipe"], flatten(self.recipe)
        grown = {key: new[key] for key in may_grow if old.get(key, new[key]) < new[key]}
        changed = "" if found is None else describe_changes(old | grown, new)
        done = found is not None and found["complete"]
        if changed and not force and (done or self._holds_work()):
            raise UserError(
                f"{self.folder} was made by another recipe ({changed}): "
                f"`{self.again}` makes it anew, RUN= names another folder."
            )
        if found is not None and not changed and not force and (done or self._holds_work()):
            code_changes.tell(self.folder, found, self.again)
        if not changed and not grown and done and not force:
            print(f"{self.command}: {self.folder} is complete for this recipe; nothing to do.")
            return False
        if force and self.folder.exists():
            folders.remove(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write(False, {})
        return True

    @property
    def again(self) -> str:
        """The make command that makes the stage anew."""
        return make_command(self.command, **self.variables, FORCE=1)

    def _holds_work(self) -> bool:
        """Whether there is anything that a new recipe could mix with."""
        files = (path.name for path in self.folder.rglob("*") if path.is_file())
        return any(name.removesuffix(DRAFT) != MANIFEST for name in files)

    def note(self, facts: Mapping[str, Any]) -> None:
        """Keep facts of a stage that is at work, for the command after a kill."""
        self._write(False, facts)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Mark the stage complete."""
        self._write(True, facts)

    def _write(self, complete: bool, facts: Mapping[str, Any]) -> None:
        content = {
            "version": VERSION,
            "complete": complete,
            **facts,
            "recipe": flatten(self.recipe),
            **versions(),
        }
        write_atomically(self.folder / MANIFEST, json.dumps(content, indent=1).encode())


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


def require_complete(folder: Path, target: str, command: str | None = None) -> dict[str, Any]:
    """The manifest of a completed stage.

    Args:
        folder: The stage's folder.
        target: The make target that completes it.
        command: The whole command, where it takes more than this command's variables.

    Raises:
        UserError: it is missing or unfinished; the sentence holds the command that makes it.
    """
    manifest = read_manifest(folder)
    if manifest is None or not manifest["complete"]:
        state = "is not there" if manifest is None else "is not complete"
        raise UserError(f"{folder} {state}: `{command or make_command(target)}` makes it.")
    return manifest


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested recipe as one level of `section.key`, its values as JSON gives them back."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            leaves |= flatten(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = json.loads(json.dumps(value))
    return leaves


def describe_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The differences of two flattened recipes, in words; null is the same as left out."""
    keys = {**old, **new}
    differing = [k for k in keys if _without_null(old.get(k)) != _without_null(new.get(k))]
    shown = [f"{key}: {_short(old.get(key))} -> {_short(new.get(key))}" for key in differing[:4]]
    more = f", and {len(differing) - 4} more" if len(differing) > 4 else ""
    return "; ".join(shown) + more


def _without_null(value: Any) -> Any:
    """A value without the settings of null inside it."""
    if isinstance(value, list):
        return [_without_null(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _without_null(item) for key, item in value.items() if item is not None}
    return value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def digest(paths: list[Path]) -> str:
    """SHA-256 over the contents of files, in their order; many are read by several threads."""
    total = hashlib.sha256()
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, len(paths) or 1))
    try:
        for one in pool.map(_digest_of_file, paths):  # without Python's lock, mostly
            total.update(one)
    finally:
        pool.shutdown(cancel_futures=True)
    return total.hexdigest()


def _digest_of_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def digest_tree(path: Path) -> str:
    """`digest` of a file, or of all files in a folder but Python's caches."""
    files = (part for part in (path, *path.rglob("*")) if part.is_file())
    return digest(sorted(file for file in files if file.parent.name != "__pycache__"))


def versions() -> dict[str, Any]:
    """Versions of Python, packages and this project, which a result may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return {"versions": found, **code_changes.version()}
