"""Training one net: from records to weights, by Keras `fit` with our loss and callbacks."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from configs.recipe import refuse_unless_exportable, to_dict
from configs.settings import Settings
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from pipeline import manifest, run_recipe
from pipeline.make_command import make_command
from train import dataset, plot_curves
from train.callbacks import Checkpoint, StopAtLastStep, StopOnNonFinite, Validation
from train.log import best_row
from train.trainable_net import adopt_init, build_trainable


def train(settings: Settings, name: NetName, run: Path, force: bool) -> None:
    """Train a net on `run/records/<name>` into `run/<name>`; goes on where it was killed.

    With no steps to train it is taken over from its init, and needs no records.

    Raises:
        UserError: records are missing or damaged; the loss is not finite; the export's layout
            cannot hold a net of the recipe; see `pipeline.manifest`.
    """
    refuse_unless_exportable(settings)
    steps, records_folder = settings.stage(name).train.steps, run / "records" / name
    made = manifest.require_complete(records_folder, f"{name}-data") if steps else {}
    if steps:
        _refuse_others(made["recipe"], settings, name, run)
    stage = manifest.Stage(run / name, _recipe(settings, name, made), f"train-{name}")
    if not stage.begin(force):
        return
    run_recipe.keep(run, settings)
    keras.utils.set_random_seed(settings.seed)
    tf.config.experimental.enable_op_determinism()  # a resumed training must end the same
    if steps:
        loaded, held_out = _load(records_folder, name, settings.stage(name).net.size, made)
        figures = _fit(settings, name, stage.folder, loaded, held_out)
        told = ", ".join(f"{key} {value:.4f}" for key, value in figures.items())
    else:
        adopt_init(settings, name, stage.folder)
        figures, told = {}, "taken over"
    stage.finish({"validation": figures})
    print(f"train-{name}: {told}; {stage.folder / 'weights.npz'}")


def _refuse_others(recipe: dict[str, Any], settings: Settings, name: NetName, run: Path) -> None:
    """Refuse records of another recipe, or mined by other nets than the run has now."""
    now = manifest.flatten(to_dict(settings))
    source = "data.train."
    # Another seed may be tried on the same records.
    old = {k: v for k, v in recipe.items() if (k in now and k != "seed") or k.startswith(source)}
    new = {k: v for k, v in now.items() if k in old or k.startswith(source)}
    mined_by = settings.stage(name).records.mined_by
    for net in NETS:
        if digest := recipe.get(f"nets.{net}"):
            files = weight_files.files(Path(mined_by or run / net / "weights.npz"))
            old[f"the {net} that mined"] = digest
            new[f"the {net} that mined"] = manifest.digest(files)[: len(digest)]
    if changed := manifest.describe_changes(old, new):
        raise UserError(
            f"{run / 'records' / name} was made by another recipe ({changed}): "
            f"`{make_command(f'{name}-data', FORCE=1)}` makes it anew."
        )


def _load(
    folder: Path, name: NetName, size: int, made: dict[str, Any]
) -> tuple[dataset.CropSet, dataset.CropSet]:
    """The crops to train on and those to validate on."""
    loaded, held_out = (
        dataset.load(folder, split, size, made["counts"].get(split, {}))
        for split in ("train", "validation")
    )
    if not any(held_out.counts.values()):
        raise UserError(
            f"{folder} holds no crop to validate on: raise data.validation_fraction and "
            f"repeat `{make_command(f'{name}-data', FORCE=1)}`."
        )
    return loaded, held_out


def _recipe(settings: Settings, name: NetName, made: dict[str, Any]) -> dict[str, Any]:
    """What decides the trained weights."""
    stage = to_dict(settings)[name]
    part = {"net": stage["net"], "train": stage["train"]}
    # Settings that do nothing are left out, as trainings from before there were such have it.
    idle = [key for key in ("frozen", "landmark_shift") if not stage["train"][key]]
    if stage["train"]["teacher"] is None:
        idle.append("distillation_weight")
    for key in idle:
        del stage["train"][key]
    for key in ("init", "teacher"):
        file = stage["train"].pop(key)
        if file is not None:
            part[key] = manifest.digest(weight_files.files(_existing(Path(file), name, key)))[:16]
    recipe = {"seed": settings.seed, name: part}
    return recipe | ({"records": made["sha256"][:16]} if made else {})


def _existing(path: Path, name: NetName, key: str) -> Path:
    if not path.exists():
        raise UserError(f"{path}, which {name}.train.{key} names, is not there.")
    return path


def _fit(
    settings: Settings,
    name: NetName,
    folder: Path,
    loaded: dataset.CropSet,
    held_out: dataset.CropSet,
) -> dict[str, float]:
    train = settings.stage(name).train
    model, start = build_trainable(settings, name)
    checkpoint = Checkpoint(folder / "last.weights.h5", train.steps_per_epoch)
    done = checkpoint.restore(model)
    if done:
        print(f"train-{name}: goes on after epoch {done}.")
    callbacks = [
        StopOnNonFinite(name, train),
        StopAtLastStep(train.steps),
        Validation(settings.stage(name), name, folder, held_out, start, done),
        *_tensorboard(folder),
        checkpoint,
    ]
    epochs = math.ceil(train.steps / train.steps_per_epoch)
    first = done * train.steps_per_epoch
    model.fit(
        dataset.batches(loaded, name, train, settings.seed, first),
        steps_per_epoch=min(train.steps_per_epoch, train.steps),
        initial_epoch=done,
        epochs=epochs,
        callbacks=callbacks,
        shuffle=False,  # the batches come shuffled
    )
    plot_curves.draw_curves(folder / "log.csv", folder / "curves.png", name)
    return best_row(folder / "log.csv")


def _tensorboard(folder: Path) -> list[keras.callbacks.Callback]:
    if importlib.util.find_spec("tensorboard") is None:
        return []  # an optional extra; the CSV log and the picture are always there
    return [keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)]
