"""Training one net: Keras `fit` with our loss, checkpoints that survive a kill, validation."""

import csv
import importlib.util
import math
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from configs import stages
from configs.errors import UserError
from configs.recipe import to_dict
from configs.settings import NetName, Settings, Train
from models import layouts
from models.layouts import Weights
from train import dataset, metrics, picture
from train.trainee import compiled, keep, settle, start_of, take_over


def train(settings: Settings, name: NetName, run: Path, force: bool) -> None:
    """Train a net on `run/records/<name>` into `run/<name>`; goes on where it was killed.

    With no steps to train it is taken over from its init, and needs no records.

    Raises:
        UserError: records are missing or damaged; the loss is not finite; the export's layout
            cannot hold a net of the recipe; see `configs.stages`.
    """
    layouts.refuse_unless_exportable(settings)
    steps, records_folder = settings.stage(name).train.steps, run / "records" / name
    made = stages.require(records_folder, f"{name}-data") if steps else {}
    stage = stages.Stage(run / name, _recipe(settings, name, made), f"train-{name}")
    if not stage.begin(force):
        return
    keras.utils.set_random_seed(settings.seed)
    tf.config.experimental.enable_op_determinism()  # a resumed training must end the same
    if steps:
        loaded, held_out = _load(records_folder, name, settings.stage(name).net.size, made)
        figures = _fit(settings, name, stage.folder, loaded, held_out)
        told = ", ".join(f"{key} {value:.4f}" for key, value in figures.items())
    else:
        take_over(settings, name, stage.folder)
        figures, told = {}, "taken over"
    stage.finish({"validation": figures})
    print(f"train-{name}: {told}; {stage.folder / 'weights.npz'}")


def _load(
    folder: Path, name: NetName, size: int, made: dict[str, Any]
) -> tuple[dataset.Records, dataset.Records]:
    """The crops to train on and those to validate on."""
    loaded, held_out = (
        dataset.load(folder, split, size, made["counts"].get(split, {}))
        for split in ("train", "validation")
    )
    if not any(len(crops.images) for crops in held_out.values()):
        raise UserError(
            f"{folder} holds no crop to validate on: raise data.validation_share and "
            f"repeat `make {name}-data`."
        )
    return loaded, held_out


def _recipe(settings: Settings, name: NetName, made: dict[str, Any]) -> dict[str, Any]:
    """What decides the trained weights."""
    stage = to_dict(settings)[name]
    part = {"net": stage["net"], "train": stage["train"]}
    if not stage["train"]["frozen"]:
        del stage["train"]["frozen"]  # as trainings from before there was this setting have it
    init = stage["train"].pop("init")
    if init is not None:
        part["init"] = stages.digest(layouts.files(_existing(Path(init), name)))[:16]
    recipe = {"seed": settings.seed, name: part}
    return recipe | ({"records": made["sha256"][:16]} if made else {})


def _existing(path: Path, name: NetName) -> Path:
    if not path.exists():
        raise UserError(f"{path}, which {name}.train.init names, is not there.")
    return path


def _fit(
    settings: Settings,
    name: NetName,
    folder: Path,
    loaded: dataset.Records,
    held_out: dataset.Records,
) -> dict[str, float]:
    train = settings.stage(name).train
    model = compiled(settings, name)
    checkpoint = Checkpoint(folder / "last.weights.h5", train.steps_per_epoch)
    done = checkpoint.restore(model)
    if done:
        print(f"train-{name}: goes on after epoch {done}.")
    callbacks = [
        StopOnNonFinite(name, train),
        StopAtLastStep(train.steps),
        Validation(settings, name, folder, held_out, done),
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
    picture.draw_curves(folder / "log.csv", folder / "curves.png", name)
    return best_row(folder / "log.csv")


def _tensorboard(folder: Path) -> list[keras.callbacks.Callback]:
    if importlib.util.find_spec("tensorboard") is None:
        return []  # an optional extra; the CSV log and the picture are always there
    return [keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)]


class Checkpoint(keras.callbacks.Callback):
    """After every epoch one file from which training goes on exactly as if never stopped.

    Keras' BackupAndRestore writes weights and epoch into two files, one after the other: a kill
    between them repeats an epoch on weights that have seen it. Here the epoch follows from the
    optimizer's count of steps, and the file is moved into place when complete.
    """

    def __init__(self, path: Path, steps_per_epoch: int) -> None:
        super().__init__()
        self.path, self.steps_per_epoch = path, steps_per_epoch

    def restore(self, model: keras.Model) -> int:
        """Load the file if there is one; how many epochs it has behind it."""
        if not self.path.exists():
            return 0
        try:
            with warnings.catch_warnings():
                # Keras only warns of much that does not fit.
                warnings.simplefilter("error", UserWarning)
                model.load_weights(self.path)
        except (ValueError, OSError, KeyError, UserWarning):
            raise UserError(
                f"{self.path} is damaged or of another net: remove it, or make the training anew "
                "with FORCE=1."
            ) from None
        # The last epoch may have been a shorter one.
        return math.ceil(int(model.optimizer.iterations.numpy()) / self.steps_per_epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write and move."""
        temporary = self.path.with_name("new.weights.h5")
        self.model.save_weights(temporary, overwrite=True)
        temporary.replace(self.path)


class StopOnNonFinite(keras.callbacks.Callback):
    """Stop with a sentence instead of training on nothing for hours."""

    def __init__(self, name: NetName, train: Train) -> None:
        super().__init__()
        self.name, self.train_settings = name, train

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Look at the running mean: one NaN stays in it."""
        if logs and not math.isfinite(logs["loss"]):
            parts = ", ".join(f"{key} {value:.3g}" for key, value in logs.items())
            step = int(self.model.optimizer.iterations.numpy())
            raise UserError(
                f"{self.name}: the loss is not finite at step {step} ({parts}): lower "
                f"{self.name}.train.learning_rate (now {self.train_settings.learning_rate:g}); "
                "the last checkpoint is from before."
            )


class StopAtLastStep(keras.callbacks.Callback):
    """End the last epoch where the steps end, before Keras warns of missing data."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """The optimizer counts the steps of all runs of a resumed training."""
        if int(self.model.optimizer.iterations.numpy()) >= self.steps:
            self.model.stop_training = True


class Validation(keras.callbacks.Callback):
    """After every epoch: figures on the held-out crops, the log, and the best weights."""

    def __init__(
        self, settings: Settings, name: NetName, folder: Path, held_out: dataset.Records, done: int
    ) -> None:
        super().__init__()
        self.name, self.folder, self.held_out = name, folder, held_out
        self.stage = settings.stage(name)
        self.start: Weights = {}
        self.rows = [row for row in read_log(folder / "log.csv") if row["epoch"] < done]

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Read what the kept weights are averaged with."""
        self.start = start_of(self.model.net, self.stage.train, self.name)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Judge the averaged weights, which are what is exported, then put the others back."""
        logs = logs if logs is not None else {}
        raw = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        settle(self.model.net, self.stage.train, self.start)
        figures = evaluate(self.model, self.held_out, self.name, self.stage.train)
        if not math.isfinite(figures["loss"]):  # the epoch's last step went wrong
            raise UserError(
                f"{self.name}: the validation loss is not finite after epoch {epoch + 1}: lower "
                f"{self.name}.train.learning_rate (now {self.stage.train.learning_rate:g}); "
                "the last checkpoint is from before."
            )
        best = min((row["val_loss"] for row in self.rows), default=math.inf)
        if figures["loss"] < best:
            keep(self.model.net, self.stage.net, self.name, self.folder)
        self.model.set_weights(raw)
        logs.update({f"val_{key}": value for key, value in figures.items()})
        self.rows.append({"epoch": epoch, **{key: float(value) for key, value in logs.items()}})
        write_log(self.folder / "log.csv", self.rows)


def evaluate(
    model: keras.Model, held_out: dataset.Records, name: NetName, train: Train
) -> dict[str, float]:
    """`metrics.summary` of a net over held-out crops."""
    outputs: dict[str, list[Any]] = {}
    targets: dict[str, list[Any]] = {}
    for images, truth in dataset.validation_batches(held_out, name, train.batch):
        for head, value in model.predict_on_batch(images).items():
            outputs.setdefault(head, []).append(value)
        for key, value in truth.items():
            targets.setdefault(key, []).append(np.asarray(value))
    joined = {key: np.concatenate(parts) for key, parts in outputs.items()}
    truths = {key: np.concatenate(parts) for key, parts in targets.items()}
    truths["side"] = np.concatenate([held_out[kind].sides for kind in held_out])
    joined["face"] = tf.nn.softmax(joined["face"]).numpy()[:, 1]
    return metrics.summary(joined, truths, name, train)


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a training's `log.csv`; none where there is no log."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [{k: float(value) for k, value in row.items()} for row in csv.DictReader(file)]
    return [row | {"epoch": int(row["epoch"])} for row in rows]


def write_log(path: Path, rows: list[dict[str, float]]) -> None:
    """Replace a training's log."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[-1]))
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def best_row(path: Path) -> dict[str, float]:
    """The validation figures of the epoch whose weights were kept."""
    best = min(read_log(path), key=lambda row: row["val_loss"])
    return {key.removeprefix("val_"): v for key, v in best.items() if key.startswith("val_")}
