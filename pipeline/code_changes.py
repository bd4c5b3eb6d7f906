"""Whether a stage's folder was made by the code that is here now, as git knows it."""

import subprocess
from pathlib import Path

DIRTY = "-dirty"  # what git appends where files differ from their commit
CODE = ("*.py", ":(exclude)tests", ":(exclude)benchmarks", ":(exclude)docs", ":(exclude)app")
ROOT = Path(__file__).parents[1]


def commit() -> str | None:
    """The commit that is checked out, as `git describe` names it; None without git."""
    done = _git("describe", "--always", f"--dirty={DIRTY}")
    return done.stdout.strip() if done is not None and done.returncode == 0 else None


def tell(folder: Path, made_by: str | None, again: str) -> None:
    """Print a sentence where `folder` was made by other code than is here, and its work is kept.

    Args:
        folder: a stage's folder.
        made_by: `commit()` of the code that made it.
        again: the command that makes it anew.
    """
    now = commit()
    if made_by is None or now is None or made_by == now or _same_code(made_by):
        return
    print(
        f"{folder} was made by other code (commit {made_by}, now {now}); it is kept, "
        f"`{again}` makes it anew."
    )


def _same_code(made_by: str) -> bool:
    """Whether no line of the stages' code differs from a commit; unknown changes count as some."""
    if made_by.endswith(DIRTY):
        return False
    done = _git("diff", "--quiet", made_by, "--", *CODE)
    return done is not None and done.returncode == 0


def _git(*words: str) -> "subprocess.CompletedProcess[str] | None":
    try:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    except OSError:
        return None
