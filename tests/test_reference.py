"""The reference of settings: complete and current."""

from pathlib import Path

import pytest
import yaml

from configs import recipe, reference
from configs.fields import Interval
from configs.record_settings import Source
from mtcnn_detector.net import NETS
from pipeline import manifest

ROOT = Path(__file__).parent.parent
SETTINGS = recipe.load(ROOT / "configs/mtcnn.yaml")


def test_the_page_is_current() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    assert text == reference.render(SETTINGS), "`make settings-doc` writes it anew"


def test_every_setting_has_a_row() -> None:
    text = reference.render(SETTINGS)
    for key in manifest.flatten(recipe.to_dict(SETTINGS)):
        first, _, rest = key.partition(".")
        if not key.startswith(("data.train.", "data.validation.")):
            assert f"| `{rest if first in NETS else key}` |" in text, key
    for key in Source.__dataclass_fields__:
        assert f"| `{key}` |" in text


def test_values_that_are_words_are_listed() -> None:
    text = reference.render(SETTINGS)
    assert "| `exif` | null | upright, stored |" in text
    assert "| `export.layout` | ipazc | ipazc, own |" in text


def test_values_are_as_a_recipe_writes_them() -> None:
    text = reference.render(recipe.load(ROOT / "configs/mtcnn.yaml", ["onet.train.box_beta=null"]))
    (row,) = [line for line in text.splitlines() if line.startswith("| `train.box_beta`")]
    values = [yaml.safe_load(cell) for cell in row.split("|")[2:5]]
    assert values == [0.05, 0.05, None]


@pytest.mark.parametrize(
    ("text", "inside", "outside", "problem"),
    [
        ("[0, 1)", [0, 0.5], [-0.1, 1, 2], "must lie between 0 and 1"),
        ("(0, 1]", [0.1, 1], [0, 1.1], "must lie between 0 and 1"),
        ("[-0.1, 0.1]", [-0.1, 0, 0.1], [0.11], "must lie between -0.1 and 0.1"),
        ("[8, inf)", [8, 1e9], [7], "must be at least 8"),
        ("[0, inf)", [0, 1], [-1], "cannot be negative"),
        ("(0, inf)", [0.1], [0], "must be above 0"),
        ("[0, 2147483647]", [2147483647], [2147483648], "must lie between 0 and 2147483647"),
    ],
)
def test_an_interval(text: str, inside: list[float], outside: list[float], problem: str) -> None:
    interval = Interval(text)
    assert all(value in interval for value in inside)
    assert not any(value in interval for value in outside)
    assert interval.problem == problem
