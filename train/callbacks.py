"""What happens after steps and epochs: checkpoints that survive a kill, validation, stops."""

import math
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from configs.settings import NetSettings, TrainSettings
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NetName
from mtcnn_detector.weights.weight_files import Weights
from pipeline.make_command import make_command
from train import dataset, metrics
from train.log import read_log, write_log
from train.trainable_net import average_with_init, save_inference_net


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
                f"with `{make_command(f'train-{self.path.parent.name}', FORCE=1)}`."
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

    def __init__(self, name: NetName, train: TrainSettings) -> None:
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
        self,
        stage: NetSettings,
        name: NetName,
        folder: Path,
        held_out: dataset.CropSet,
        start: Weights,
        done: int,
    ) -> None:
        """`start` is what the kept weights are averaged with; `done` epochs are in the log."""
        super().__init__()
        self.stage, self.name, self.folder, self.held_out = stage, name, folder, held_out
        self.start = start
        self.rows = [row for row in read_log(folder / "log.csv") if row["epoch"] < done]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Judge the averaged weights, which are what is exported, then put the others back."""
        logs = logs if logs is not None else {}
        raw = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        average_with_init(self.model.net, self.stage.train.init_average, self.start)
        # As it was trained: the shifts of what is kept would count as errors.
        figures = evaluate(self.model, self.held_out, self.name, self.stage.train)
        if not math.isfinite(figures["loss"]):  # the epoch's last step went wrong
            raise UserError(
                f"{self.name}: the validation loss is not finite after epoch {epoch + 1}: lower "
                f"{self.name}.train.learning_rate (now {self.stage.train.learning_rate:g}); "
                "the last checkpoint is from before."
            )
        best = min((row["val_loss"] for row in self.rows), default=math.inf)
        if figures["loss"] < best:
            save_inference_net(self.model.net, self.stage, self.name, self.folder)
        self.model.set_weights(raw)
        logs.update({f"val_{key}": value for key, value in figures.items()})
        self.rows.append({"epoch": epoch, **{key: float(value) for key, value in logs.items()}})
        write_log(self.folder / "log.csv", self.rows)


def evaluate(
    model: keras.Model, held_out: dataset.CropSet, name: NetName, train: TrainSettings
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
    truths["side"] = held_out.crops.sides
    joined["cls"] = tf.nn.softmax(joined["cls"]).numpy()[:, 1]
    return metrics.summary(joined, truths, name, train)
