"""Whether a stage's folder was made by the code that is here now, as git knows it."""

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

DIRTY = "-dirty"  # what git appends where files differ from their commit
CHANGES = "uncommitted"  # key of a manifest: the digest of code that differs from its commit
CODE = (  # folders whose code the stages run
    *("mtcnn_detector", "configs", "pipeline", "models"),
    *("data_prep", "train", "export", "evaluation"),
)
ROOT = Path(__file__).parents[1]


def commit() -> str | None:
    """The commit that is checked out, as `git describe` names it; None without git."""
    done = _git("describe", "--always", f"--dirty={DIRTY}")
    return done.stdout.strip() if done is not None and done.returncode == 0 else None


def digest(folders: Sequence[str] = CODE) -> str:
    """12 hexadecimal digits that change with any Python file of these folders."""
    total = hashlib.sha256()
    for path in sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        total.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:12]


def version() -> dict[str, str | None]:
    """What a manifest keeps of the code: its commit, and its digest where it differs from that."""
    now = commit()
    return {"commit": now} | ({CHANGES: digest()} if now and now.endswith(DIRTY) else {})


def tell(folder: Path, made_by: Mapping[str, Any], again: str) -> None:
    """Print a sentence where `folder` was made by other code than is here, and its work is kept.

    Args:
        folder: a stage's folder.
        made_by: its manifest, with the `version()` of the code that made it.
        again: the command that makes it anew.
    """
    before, now = made_by.get("commit"), commit()
    if before is None or now is None or _same_code(before, made_by.get(CHANGES), now):
        return
    today = "with other changes" if before == now else f"now {now}"
    print(
        f"{folder} was made by other code (commit {before}, {today}); it is kept, "
        f"`{again}` makes it anew."
    )


def _same_code(before: str, changes: str | None, now: str) -> bool:
    """Whether the stages' code is that of a `version()`; unknown changes count as some.

    Manifests of older versions hold no digest: uncommitted changes of one commit were one to them.
    """
    if changes is not None:
        return changes == digest()
    if before == now:
        return True
    if before.endswith(DIRTY):
        return False
    done = _git("diff", "--quiet", before, "--", *(f"{folder}/*.py" for folder in CODE))
    return done is not None and done.returncode == 0


def _git(*words: str) -> "subprocess.CompletedProcess[str] | None":
    try:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    except OSError:
        return None
