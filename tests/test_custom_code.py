"""A user's own callbacks, losses and augmentations, named `module:function` in a recipe."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import recipe
from configs.settings import Settings
from mtcnn_detector.errors import UserError
from pipeline import custom_code, run_recipe
from tests.test_dataset import COUNTS, crop_set
from tests.trainings import (
    RECIPE,
    SHORT,
    Killed,
    assert_same,
    at_step,
    kill,
    saved_net,
    train,
)
from train import callbacks, custom, dataset
from train.log import best_row, read_log

CODE = """
import keras
import tensorflow as tf
from train.losses import losses

SEEN = []

def make_callback(settings, name, folder):
    class Noted(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            SEEN.append((name, settings.seed, epoch, sorted(logs)))
            (folder / "noted.txt").write_text(str(epoch))
    return Noted()

def boxes_only(targets, outputs, train, teacher_outputs):
    parts = losses(targets, outputs, train, teacher_outputs)
    return {head: value if head == "box" else 0 * value for head, value in parts.items()}

def black_corner(crops, seed):
    count, size = crops.images.shape[:2]
    chosen = tf.random.stateless_uniform([count, 1, 1, 1], seed) < 0.5
    inside = (tf.range(size) < 3)[:, None] & (tf.range(size) < 3)
    return crops._replace(
        images=tf.where(chosen & inside[None, :, :, None], tf.constant(0, tf.uint8), crops.images)
    )
"""
BOXES = "pnet.train.loss=my_code:boxes_only"
CORNER = "pnet.train.augmentation=my_code:black_corner"
NOTED = "pnet.train.callbacks=[my_code:make_callback]"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder with a module `my_code`, which no other test sees."""
    path, modules = [*sys.path], {*sys.modules}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_code.py").write_text(CODE)
    yield tmp_path
    sys.path[:] = path
    for name in {*sys.modules} - modules:
        if name.startswith("my_"):
            del sys.modules[name]


def settings(*overrides: str) -> Settings:
    return recipe.load(RECIPE, overrides)


def test_a_recipe_names_functions_and_keeps_them(here: Path) -> None:
    named = settings(BOXES, CORNER, NOTED).pnet.train
    assert named.custom_code == {
        "my_code:make_callback": "callbacks",
        "my_code:boxes_only": "loss",
        "my_code:black_corner": "augmentation",
    }
    assert settings().pnet.train.custom_code == {}
    run_recipe.keep(here, settings(BOXES, CORNER, NOTED))
    assert recipe.load(here / "recipe.yaml").pnet.train == named


@pytest.mark.parametrize(
    "setting", ["loss=my_code", "callbacks=[my_code.f]", "augmentation=/my/code.py:f", "loss=a:b:c"]
)
def test_what_names_no_function_is_refused(setting: str) -> None:
    key = setting.partition("=")[0]
    with pytest.raises(UserError, match=rf"pnet\.train\.{key} must name a function as module:"):
        settings(f"pnet.train.{setting}")


def test_a_missing_module_is_refused_before_anything_is_cut(here: Path) -> None:
    with pytest.raises(UserError) as caught:
        custom_code.require_modules(settings("onet.train.loss=no_such_code:f"))
    sentence = str(caught.value)
    assert sentence.startswith("onet.train.loss: there is no module no_such_code; it is looked for")
    assert str(here) in sentence
    custom_code.require_modules(settings(BOXES, CORNER, NOTED))


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("my_code:boxes_onyl", r"my_code\.py has no function boxes_onyl; did you mean my_code:box"),
        ("my_code:SEEN", r"my_code\.py has no function SEEN"),
        ("my_code.inside:f", r"there is no module my_code\.inside"),
        ("sys:exit", r"there is no module sys|has no source file"),
        ("my_code:black_corner", r"must take the arguments \(targets, outputs, train, teacher_out"),
    ],
)
def test_a_function_that_cannot_be_taken_is_named(reference: str, sentence: str) -> None:
    with pytest.raises(UserError, match=rf"^pnet\.train\.loss: .*{sentence}") as caught:
        custom_code.load(reference, "pnet.train.loss", custom.ARGUMENTS["loss"])
    assert "\n" not in str(caught.value)


def test_an_error_inside_the_module_is_passed_on(here: Path) -> None:
    (here / "my_broken.py").write_text("import no_such_package\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        custom_code.load("my_broken:f", "pnet.train.loss", ())
    assert "my_broken" not in sys.modules


def test_the_code_of_the_file_is_run_even_if_only_a_character_changed(here: Path) -> None:
    """Python's own cache takes two files of one second and one size for the same."""
    for number in range(3):
        (here / "my_number.py").write_text(f"CALLS = []\ndef f():\n    return {number}\n")
        first = custom_code.load("my_number:f", "key", ())
        assert first() == number
        assert custom_code.load("my_number:f", "key", ()) is first, "one module, one state"


def test_modules_of_a_package_are_found(here: Path) -> None:
    (here / "my_package").mkdir()
    (here / "my_package" / "__init__.py").write_text("")
    (here / "my_package" / "inner.py").write_text(
        "from my_code import SEEN\ndef f(): return SEEN\n"
    )
    assert custom_code.load("my_package.inner:f", "key", ())() == []
    (here / "my_package" / "__init__.py").write_text("# another file\n")
    digests = custom_code.digests(settings("pnet.train.loss=my_package.inner:f"), "pnet")
    assert [*digests] == ["my_package.inner"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("return None", "it returned None"),
        ("return targets['box']", "dictionary of float32 scalars, one for each of cls, box, landm"),
        ("return {'box': 0.0}", "returned values for box"),
        ("return {}", "returned values for none"),
        ("return dict.fromkeys(outputs, 0.0)", "for cls it returned a float"),
        ("return outputs", r"for cls it returned float32 of shape \(16, 2\)"),
        (
            "return {k: tf.reduce_mean(outputs[k] - targets.get(k, 0)) for k in outputs}",
            "is nan for box.*NaN",
        ),
    ],
)
def test_a_loss_that_returns_something_else_is_refused(
    here: Path, body: str, sentence: str
) -> None:
    from train.trainable_net import build_trainable

    head = "import tensorflow as tf\ndef f(targets, outputs, train, teacher_outputs):\n    "
    (here / "my_loss.py").write_text(head + body + "\n")
    with pytest.raises(UserError, match=rf"^pnet\.train\.loss: my_loss:f .*{sentence}"):
        build_trainable(settings("pnet.train.loss=my_loss:f"), "pnet")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("return crops.images", "must return the crops that it gets"),
        ("return None", "it returned None"),
        (
            "return crops._replace(images=tf.cast(crops.images, tf.float32))",
            r"must return images as uint8 of shape \(10, 12, 12, 3\); it returned float32",
        ),
        ("return crops._replace(boxes=crops.boxes[1:])", r"boxes as float32 of shape \(10, 4\)"),
        ("return crops._replace(sides=crops.sides.numpy())", "sides as .*it returned a ndarray"),
        (
            "return crops._replace(boxes=tf.random.uniform(crops.boxes.shape))",
            r"different crops for the same seed.*tf\.random\.stateless_uniform",
        ),
    ],
)
def test_an_augmentation_that_returns_something_else_is_refused(
    here: Path, body: str, sentence: str
) -> None:
    (here / "my_crops.py").write_text(f"import tensorflow as tf\ndef f(crops, seed):\n    {body}\n")
    train_settings = settings(
        "pnet.train.augmentation=my_crops:f",
        "pnet.train.batch=10",
        "pnet.train.batch_fractions=[0.2, 0.4, 0.2, 0.2]",
    ).pnet.train
    with pytest.raises(UserError, match=rf"^pnet\.train\.augmentation: my_crops:f .*{sentence}"):
        custom.load_augmentation(train_settings, "pnet", 12)


def test_a_callback_that_is_none_is_refused(here: Path) -> None:
    (here / "my_callback.py").write_text("def f(settings, name, folder):\n    return print\n")
    with pytest.raises(UserError, match=r"must return a keras\.callbacks\.Callback; it returned a"):
        custom.make_callbacks(settings("pnet.train.callbacks=[my_callback:f]"), "pnet", here)


SMALL_BATCH = ("pnet.train.batch=40", "pnet.train.batch_fractions=[0.25, 0.25, 0.25, 0.25]")


def batches(*overrides: str, start: int = 0) -> list[Any]:
    """The first batches of a training, as arrays."""
    few = settings("pnet.train.steps=6", "pnet.train.warmup_steps=0", *SMALL_BATCH, *overrides)
    counts = COUNTS | {"part": 12}
    made = dataset.batches(crop_set(counts), "pnet", few.pnet.train, 1, start)
    return [np.asarray(batch[0]) for batch in made]


PLAIN = [f"pnet.train.augment.{key}=0" for key in ("downscale", "noise", "blur", "occlusion")]
PLAIN += [f"pnet.train.augment.{key}=0" for key in ("grayscale", "monochrome", "channel_gain")]
PLAIN += [f"pnet.train.augment.{key}=0" for key in ("brightness", "contrast", "saturation", "hue")]


def test_an_augmentation_is_seen_in_the_batches_and_in_every_one_anew() -> None:
    before, after = batches(*PLAIN), batches(*PLAIN, CORNER)
    chosen = []
    for plain, changed in zip(before, after, strict=True):
        different = (plain != changed).any(axis=-1)
        assert not different[:, 3:].any() and not different[:, :, 3:].any()
        black = np.isclose(changed[:, :3, :3], -127.5 / 128).all(axis=(1, 2, 3))
        assert (black | ~different.any(axis=(1, 2))).all()
        chosen.append(black)
    assert 0.3 < np.mean(chosen) < 0.7
    assert (chosen[0] != chosen[1]).any(), "each step has a seed of its own"


def test_batches_with_an_augmentation_depend_on_the_step_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = batches(CORNER)
    for threads, start in ((1, 2), (4, 0), (4, 3)):
        monkeypatch.setattr(dataset, "pipeline_threads", lambda count=threads: count)
        for batch, expected in zip(batches(CORNER, start=start), whole[start:], strict=True):
            np.testing.assert_array_equal(batch, expected)


@pytest.mark.slow
def test_a_callback_is_called_with_the_figures_of_each_epoch(here: Path, run: Path) -> None:
    train(run, *SHORT, NOTED)
    seen = sys.modules["my_code"].SEEN
    assert [(name, seed, epoch) for name, seed, epoch, _ in seen] == [
        ("pnet", 1, i) for i in range(3)
    ]
    assert {"loss", "cls", "box", "val_loss", "val_recall"} <= set(seen[0][3])
    assert (run / "pnet" / "noted.txt").read_text() == "2"


@pytest.mark.slow
def test_a_loss_decides_what_is_learned_and_which_epoch_is_kept(run: Path, short: Path) -> None:
    train(run, *SHORT, BOXES)
    own, plain = saved_net(run).weights, saved_net(short).weights
    # Without a class loss the class head's bias stays at its start of 0.
    assert (own["cls/bias"] == 0).all() and (plain["cls/bias"] != 0).any()
    rows = read_log(run / "pnet" / "log.csv")
    assert [row["loss"] for row in rows] == pytest.approx([row["box"] for row in rows])
    assert rows[-1]["val_loss"] < rows[0]["val_loss"], "nothing was learned"
    # The class loss of a net that knows nothing would add 0.69.
    assert all(row["val_loss"] < 0.3 for row in rows), "the loss of the boxes alone"
    assert best_row(run / "pnet" / "log.csv")["loss"] == min(row["val_loss"] for row in rows)


@pytest.mark.slow
def test_changed_code_is_refused_by_name_and_made_anew_by_force(here: Path, run: Path) -> None:
    train(run, *SHORT, CORNER)
    first = saved_net(run).weights
    (here / "my_code.py").write_text(CODE.replace("< 0.5", "< 0.9"))
    with pytest.raises(
        UserError, match=r"pnet\.custom_code\.my_code: .* -> .*FORCE=1` makes it anew"
    ):
        train(run, *SHORT, CORNER)
    train(run, *SHORT, CORNER, force=True)
    assert (saved_net(run).weights["box/kernel"] != first["box/kernel"]).any()


@pytest.mark.slow
def test_a_killed_training_with_own_code_ends_the_same(
    here: Path, run: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(run, other, dirs_exist_ok=True)
    own = (*SHORT, BOXES, CORNER, NOTED)
    train(run, *own)
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.StopAtLastStep, "on_train_batch_end", at_step(30, kill))
        with pytest.raises(Killed):
            train(other, *own)
    train(other, *own)
    assert_same(other, run)


def test_every_function_of_the_settings_has_its_arguments() -> None:
    assert set(settings(BOXES, CORNER, NOTED).pnet.train.custom_code.values()) == set(
        custom.ARGUMENTS
    )
