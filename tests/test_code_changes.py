"""Stages made by other code: one sentence where a stage's code differs, none where it cannot."""

import json
import subprocess
from pathlib import Path

import pytest

from pipeline import code_changes, manifest

Capture = pytest.CaptureFixture[str]


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def change(repository: Path, *names: str) -> None:
    for name in names:
        path = repository / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{path.read_text() if path.exists() else ''}# more\n")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, in place of this project's."""
    folder = tmp_path / "code"
    folder.mkdir()
    git(folder, "init", "-q")
    change(folder, "train/loop.py", "tests/test_loop.py", "README.md")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    monkeypatch.setattr(code_changes, "ROOT", folder)
    return folder


@pytest.fixture
def stage(tmp_path: Path, repository: Path) -> manifest.Stage:
    """A complete stage, made by the repository's first commit."""
    made = manifest.Stage(tmp_path / "run" / "pnet", {"seed": 1}, "train-pnet")
    assert made.begin(force=False)
    (made.folder / "weights.npz").write_bytes(b"weights")
    made.finish({})
    return made


def commit(repository: Path, *names: str) -> None:
    change(repository, *names)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "another")


def test_the_same_code_is_silent(stage: manifest.Stage, repository: Path, capsys: Capture) -> None:
    assert not stage.begin(force=False)
    commit(repository, "tests/test_loop.py", "README.md", "notes.txt")
    assert not stage.begin(force=False)
    assert "other code" not in capsys.readouterr().out, "no stage runs tests and texts"


def test_a_commit_that_changes_code_is_named(
    stage: manifest.Stage, repository: Path, capsys: Capture
) -> None:
    before = git(repository, "describe", "--always")
    commit(repository, "train/loop.py")
    now = git(repository, "describe", "--always")
    assert before != now
    assert not stage.begin(force=False), "a sentence, no refusal"
    said = capsys.readouterr().out
    assert f"was made by other code (commit {before}, now {now})" in said
    assert "`make train-pnet FORCE=1` makes it anew" in said
    assert said.count("\n") == 2, "and that there is nothing to do"


def test_uncommitted_changes_count(
    stage: manifest.Stage, repository: Path, capsys: Capture
) -> None:
    change(repository, "train/loop.py")
    stage.begin(force=False)
    assert "-dirty)" in capsys.readouterr().out
    git(repository, "checkout", "-q", ".")
    change(repository, "README.md")
    stage.begin(force=False)
    assert "other code" not in capsys.readouterr().out


def make_of_uncommitted_code(stage: manifest.Stage, repository: Path) -> None:
    change(repository, "train/loop.py")
    stage.begin(force=True)
    stage.finish({})


def test_uncommitted_changes_are_told_from_others(
    stage: manifest.Stage, repository: Path, capsys: Capture
) -> None:
    make_of_uncommitted_code(stage, repository)
    change(repository, "README.md", "tests/test_loop.py")
    capsys.readouterr()
    stage.begin(force=False)
    assert "other code" not in capsys.readouterr().out
    change(repository, "train/new.py")  # that git does not know yet
    stage.begin(force=False)
    assert "-dirty, with other changes); it is kept" in capsys.readouterr().out
    (repository / "train/new.py").unlink()
    commit(repository)
    stage.begin(force=False)
    assert "other code" not in capsys.readouterr().out, "the same, committed"
    commit(repository, "train/loop.py")
    stage.begin(force=False)
    assert "was made by other code" in capsys.readouterr().out


def test_older_manifests_hold_no_digest(
    stage: manifest.Stage, repository: Path, capsys: Capture
) -> None:
    make_of_uncommitted_code(stage, repository)
    path = stage.folder / manifest.MANIFEST
    content = json.loads(path.read_text())
    del content["uncommitted"]
    path.write_text(json.dumps(content))
    change(repository, "train/loop.py")
    capsys.readouterr()
    stage.begin(force=False)
    assert "other code" not in capsys.readouterr().out


def test_unfinished_work_is_judged_too(
    stage: manifest.Stage, repository: Path, capsys: Capture
) -> None:
    path = stage.folder / manifest.MANIFEST
    path.write_text(path.read_text().replace('"complete": true', '"complete": false'))
    commit(repository, "train/loop.py")
    assert stage.begin(force=False)
    assert "was made by other code" in capsys.readouterr().out
    assert stage.begin(force=True)
    assert "other code" not in capsys.readouterr().out, "nothing of it is kept"


def test_another_recipe_is_refused_as_before(stage: manifest.Stage, repository: Path) -> None:
    commit(repository, "train/loop.py")
    other = manifest.Stage(stage.folder, {"seed": 2}, "train-pnet")
    with pytest.raises(Exception, match="another recipe"):
        other.begin(force=False)


@pytest.mark.parametrize("made_by", ["0123456", "fffffff-dirty"])
def test_unknown_code_counts_as_other_code(
    stage: manifest.Stage, made_by: str, capsys: Capture
) -> None:
    path = stage.folder / manifest.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"commit": made_by}))
    stage.begin(force=False)
    assert f"(commit {made_by}, now " in capsys.readouterr().out


def test_without_git_nothing_is_said(
    stage: manifest.Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(code_changes, "ROOT", tmp_path)  # no repository
    assert code_changes.commit() is None
    stage.begin(force=False)
    monkeypatch.setenv("PATH", str(tmp_path))  # no git either
    assert code_changes.commit() is None
    stage.begin(force=False)
    assert "other code" not in capsys.readouterr().out
