"""A run keeps its resolved recipe: later commands need neither CONFIG nor SET."""

import argparse
from pathlib import Path

import pytest
import yaml

from configs import recipe
from mtcnn_detector.errors import UserError
from pipeline import cli, run_recipe
from pipeline.make_command import make_command

MTCNN = Path(recipe.__file__).parent / "mtcnn.yaml"


def command_line(*words: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


@pytest.mark.parametrize("name", ["mtcnn", "demo", "finetune", "weights"])
def test_a_kept_recipe_is_the_same_recipe(tmp_path: Path, name: str) -> None:
    settings = recipe.load(MTCNN.with_name(f"{name}.yaml"))
    run_recipe.keep(tmp_path, settings)
    assert recipe.load(tmp_path / "recipe.yaml") == settings


def test_a_run_needs_neither_config_nor_set_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(f"base: {MTCNN}\nseed: 3\n")
    run = tmp_path / "my run"
    folder, settings = cli.open_run(
        command_line("--config", own, "--run", run, "--set", "pnet.train.batch=64 seed=4")
    )
    assert (folder, settings.seed, settings.pnet.train.batch) == (run, 4, 64)
    run_recipe.keep(run, settings)
    capsys.readouterr()
    own.unlink()
    assert cli.open_run(command_line("--run", run)).settings == settings
    assert capsys.readouterr().out == f"recipe: {run / 'recipe.yaml'}\n"


def test_what_differs_from_the_kept_recipe_is_printed_and_kept_by_a_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_recipe.keep(tmp_path, recipe.load(MTCNN))
    before = (tmp_path / "recipe.yaml").read_text()
    line = command_line("--run", tmp_path, "--set", "seed=4", "pnet.net.layers.1.relu=before")
    settings = cli.open_run(line).settings
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"recipe: {tmp_path / 'recipe.yaml'}"
    assert second.startswith(f"recipe: differs from {tmp_path / 'recipe.yaml'} (")
    assert "seed: 1 -> 4" in second
    assert "pnet.net.layers: " in second
    assert (tmp_path / "recipe.yaml").read_text() == before, "only a stage that begins keeps it"
    run_recipe.keep(tmp_path, settings)
    assert cli.open_run(command_line("--run", tmp_path)).settings == settings


def test_the_recipe_and_the_run_that_a_command_line_means(tmp_path: Path) -> None:
    kept = tmp_path / "recipe.yaml"
    assert run_recipe.locate(None, None) == (Path("configs/mtcnn.yaml"), Path("runs/mtcnn"))
    own = Path("configs/mine.yaml")
    assert run_recipe.locate(own, None) == (own, Path("runs/mine"))
    assert run_recipe.locate(None, None, own) == (own, Path("runs/mine"))
    assert run_recipe.locate(None, tmp_path) == (Path("configs/mtcnn.yaml"), tmp_path)
    kept.write_text("")
    assert run_recipe.locate(None, tmp_path) == (kept, tmp_path)
    assert run_recipe.locate(own, tmp_path) == (own, tmp_path)


def test_settings_of_one_command_are_not_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_recipe.keep(tmp_path, recipe.load(MTCNN))
    capsys.readouterr()
    unkept = ["data.folder=elsewhere"]
    run = cli.open_run(command_line("--run", tmp_path, "--config", MTCNN), unkept)
    assert run.settings.data.folder == "elsewhere"
    assert capsys.readouterr().out == ""


def test_a_damaged_recipe_is_refused_unless_another_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text("seed: [")
    with pytest.raises(UserError, match=r"recipe\.yaml is not a YAML file"):
        cli.open_run(command_line("--run", tmp_path))
    capsys.readouterr()
    run = cli.open_run(command_line("--run", tmp_path, "--config", MTCNN))
    assert run.settings == recipe.load(MTCNN)
    assert "recipe.yaml is not a YAML file" in capsys.readouterr().out


def test_a_setting_newer_than_the_kept_recipe_is_no_difference(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_recipe.keep(tmp_path, recipe.load(MTCNN))
    kept = tmp_path / "recipe.yaml"
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join(x for x in lines if "squared_faces:" not in x))
    assert len(lines) == len(kept.read_text().splitlines()) + 1
    cli.open_run(command_line("--run", tmp_path, "--config", MTCNN))
    assert capsys.readouterr().out == ""


def test_messages_repeat_the_command_line(tmp_path: Path) -> None:
    cli.open_run(command_line("--config", MTCNN, "--set", "seed=4", "pnet.train.batch=64"))
    expected = f"make pnet-data CONFIG={MTCNN} SET='seed=4 pnet.train.batch=64' FORCE=1"
    assert make_command("pnet-data", FORCE=1) == expected


def test_the_kept_file_explains_itself(tmp_path: Path) -> None:
    run_recipe.keep(tmp_path, recipe.load(MTCNN))
    text = (tmp_path / "recipe.yaml").read_text()
    assert text.startswith("# All settings of this run")
    assert yaml.safe_load(text)["onet"]["train"]["ohem_ratio"] == 0.7
