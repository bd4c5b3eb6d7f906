"""A stage's folder: finished work is left alone, other recipes are refused, kills are seen."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mtcnn_detector.errors import UserError
from pipeline import folders, manifest
from pipeline.manifest import Stage

ROOT = Path(__file__).parent.parent
RECIPE: dict[str, Any] = {"seed": 1, "pnet": {"records": {"shift": 0.2, "kinds": ("a", "b")}}}


def stage(folder: Path, **changed: Any) -> Stage:
    return Stage(folder / "stage", {**RECIPE, **changed}, "pnet-data")


def finished(folder: Path) -> Stage:
    made = stage(folder)
    assert made.begin(force=False)
    (made.folder / "work").write_text("done")
    made.finish({"images": 3})
    return made


def manifest_of(made: Stage) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((made.folder / "manifest.json").read_text())
    return content


def test_the_manifest_says_what_made_it(tmp_path: Path) -> None:
    made = stage(tmp_path)
    assert made.begin(force=False)
    assert manifest_of(made)["complete"] is False, "a kill from here on is seen"
    made.finish({"images": 3})
    content = manifest_of(made)
    assert content["complete"] is True
    assert content["images"] == 3
    assert content["recipe"] == {
        "seed": 1,
        "pnet.records.shift": 0.2,
        "pnet.records.kinds": ["a", "b"],
    }
    assert content["versions"]["numpy"]
    assert "commit" in content
    assert [path.name for path in made.folder.iterdir()] == ["manifest.json"]


def test_the_same_recipe_again_does_nothing_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = finished(tmp_path)
    before = (made.folder / "manifest.json").stat().st_mtime_ns
    assert not stage(tmp_path).begin(force=False)
    assert "pnet-data: " in (message := capsys.readouterr().out)
    assert "is complete for this recipe; nothing to do." in message
    assert (made.folder / "manifest.json").stat().st_mtime_ns == before


def test_unfinished_work_goes_on(tmp_path: Path) -> None:
    made = stage(tmp_path)
    made.begin(force=False)
    (made.folder / "work").write_text("half")
    assert stage(tmp_path).begin(force=False)
    assert (made.folder / "work").read_text() == "half"


@pytest.mark.parametrize("complete", [True, False])
def test_another_recipe_is_refused_with_what_changed(tmp_path: Path, complete: bool) -> None:
    made = finished(tmp_path)
    if not complete:
        content = manifest_of(made) | {"complete": False}
        (made.folder / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        stage(tmp_path, seed=2).begin(force=False)
    message = str(caught.value)
    assert "(seed: 1 -> 2)" in message
    assert "`make pnet-data FORCE=1`" in message
    assert (made.folder / "work").read_text() == "done"


def test_force_starts_from_nothing(tmp_path: Path) -> None:
    made = finished(tmp_path)
    assert stage(tmp_path, seed=2).begin(force=True)
    assert [path.name for path in made.folder.iterdir()] == ["manifest.json"]
    assert manifest_of(made)["recipe"]["seed"] == 2
    assert finished(tmp_path / "new").begin(force=True), "the same recipe, too"


def test_a_kill_while_the_old_is_removed_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the new recipe would go on from what is left of the other one's work."""

    def killed(folder: Path, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            (folder / "manifest.json").unlink()  # the order of a folder's files is anybody's guess
            raise KeyboardInterrupt

    finished(tmp_path)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(shutil, "rmtree", killed)
        stage(tmp_path, seed=2).begin(force=True)
    again = stage(tmp_path, seed=2)
    assert again.begin(force=False)
    assert not (again.folder / "work").exists()
    assert again.begin(force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["stage"]


def test_changes_are_described_shortly() -> None:
    old = {"a": 1, "b": "x" * 99, "c": 1, "d": 1, "e": 1, "f": 1, "same": 0}
    new = {"a": 2, "b": None, "c": 2, "d": 2, "e": 2, "f": 2, "same": 0}
    message = manifest.describe_changes(old, new)
    assert message.startswith('a: 1 -> 2; b: "' + "x" * 36 + "... -> null; c: 1 -> 2; d: 1 -> 2")
    assert message.endswith(", and 2 more")
    assert manifest.describe_changes({"a": 1}, {"b": 1}) == "a: 1 -> null; b: null -> 1"
    assert manifest.describe_changes({"a": 1}, {"a": 1, "b": None}) == "", (
        "a new setting that is not used"
    )


@pytest.mark.parametrize("content", ["", "{", "[]", "5", '{"complete": true}', '{"recipe": {}}'])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    made = finished(tmp_path)
    (made.folder / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json is damaged: remove .*stage and make it"):
        made.begin(force=False)
    with pytest.raises(UserError, match="is damaged"):
        manifest.require_complete(made.folder, "pnet-data")


def test_a_later_stage_names_the_command_it_needs(tmp_path: Path) -> None:
    made = stage(tmp_path)
    with pytest.raises(UserError, match=r"stage is not there: `make pnet-data` makes it\."):
        manifest.require_complete(made.folder, "pnet-data")
    made.begin(force=False)
    with pytest.raises(UserError, match=r"stage is not complete: `make pnet-data` makes it\."):
        manifest.require_complete(made.folder, "pnet-data")
    made.finish({"images": 3})
    assert manifest.require_complete(made.folder, "pnet-data")["images"] == 3


def test_a_second_command_waits(tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    script = (
        "import sys; from pathlib import Path; from pipeline import folders\n"
        f"with folders.locked(Path({str(run)!r})): print('in', flush=True)\n"
    )
    command = [sys.executable, "-c", script]
    with folders.locked(run):
        second = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert second.stderr is not None
        assert second.stderr.readline() == (
            f"another command is at work in {run}; waiting for it.\n"
        )
        time.sleep(0.2)
        assert second.poll() is None
    message, _ = second.communicate(timeout=30)
    assert (message, second.returncode) == ("in\n", 0)


def test_a_disk_without_locks_is_worked_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(number: int) -> None:
        def refuse(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", refuse)
        with folders.locked(tmp_path):
            (tmp_path / str(number)).touch()

    refused(errno.ENOSYS)
    assert (tmp_path / str(errno.ENOSYS)).exists()
    assert capsys.readouterr().err.endswith("has no locks: start no second command in it.\n")
    with pytest.raises(OSError, match="Input/output"):
        refused(errno.EIO)


def test_a_killed_command_holds_nobody_up(tmp_path: Path) -> None:
    script = (
        "import time; from pathlib import Path; from pipeline import folders\n"
        f"with folders.locked(Path({str(tmp_path)!r})): print('in', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"in\n"
        first.kill()
    with folders.locked(tmp_path):
        pass


def test_digest_tells_contents_and_their_borders_apart(tmp_path: Path) -> None:
    a, b, c, d = (tmp_path / name for name in "abcd")
    for path, content in ((a, b"12"), (b, b"3"), (c, b"1"), (d, b"23")):
        path.write_bytes(content)
    assert manifest.digest([a, b]) == manifest.digest([a, b])
    assert len({manifest.digest(paths) for paths in ([a, b], [b, a], [c, d], [a], [])}) == 5


def test_a_recipe_refused_before_it_made_anything_may_be_corrected(tmp_path: Path) -> None:
    assert manifest.Stage(tmp_path / "made", {"seed": 1}, "make-it").begin(False)
    corrected = manifest.Stage(tmp_path / "made", {"seed": 2}, "make-it")
    assert corrected.begin(False)
    (tmp_path / "made" / "shard").write_text("work")
    with pytest.raises(UserError, match="seed: 2 -> 3"):
        manifest.Stage(tmp_path / "made", {"seed": 3}, "make-it").begin(False)


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_no_stage_made_is_left_alone(tmp_path: Path, force: bool) -> None:
    (tmp_path / "stage" / "notes").mkdir(parents=True)
    (tmp_path / "stage" / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"stage holds files but no manifest\.json"):
        stage(tmp_path).begin(force)
    assert (tmp_path / "stage" / "notes" / "mine.txt").read_text() == "mine"


def test_a_stage_that_was_killed_at_its_very_start_begins_again(tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "manifest.json.tmp").write_text("{")
    assert stage(tmp_path).begin(force=False)


def test_putting_and_removing_touch_no_neighbour(tmp_path: Path) -> None:
    for name in ("target.old", "stage.removed"):
        (tmp_path / name).mkdir()
    for content in ("first", "second"):
        (tmp_path / "draft").mkdir()
        (tmp_path / "draft" / "file").write_text(content)
        folders.replace(tmp_path / "draft", tmp_path / "target")
        assert (tmp_path / "target" / "file").read_text() == content
        assert finished(tmp_path / content).begin(force=True)
    finished(tmp_path)
    stage(tmp_path).begin(force=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"target.old", "stage.removed", "target", "stage", "first", "second"}


def test_a_linked_folder_is_made_anew_where_it_is(tmp_path: Path) -> None:
    made = finished(tmp_path / "run")
    elsewhere = tmp_path / "disk" / "records"
    elsewhere.parent.mkdir()
    (made.folder / "shard").write_text("old")
    made.folder.rename(elsewhere)
    made.folder.symlink_to(elsewhere)
    assert made.begin(force=True)
    assert made.folder.is_symlink()
    assert [path.name for path in elsewhere.iterdir()] == ["manifest.json"]
    assert [path.name for path in elsewhere.parent.iterdir()] == ["records"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_draft_takes_the_place_of_a_file_and_of_a_link(tmp_path: Path, kind: str) -> None:
    draft, target, other = (tmp_path / name for name in ("draft", "target", "other"))
    for folder in (draft, other):
        folder.mkdir()
        (folder / "content").write_text(folder.name)
    if kind == "file":
        target.write_text("of the user")
    else:
        target.symlink_to(other)
    folders.replace(draft, target)
    assert (target / "content").read_text() == "draft"
    assert (other / "content").read_text() == "other"
    assert not draft.exists()
