"""Keras callbacks: atomic checkpoints, validation, stops at the last step and at NaN."""

import math
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from configs.settings import NetSettings
from configs.train_settings import TrainSettings
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NetName
from mtcnn_detector.weights.weight_files import Weights
from pipeline import interrupts
from pipeline.make_command import make_command
from train import dataset, loading, metrics
from train.log import read_log, write_log
from train.trainable_net import average_with_init, save_inference_net


class Checkpoint(keras.callbacks.Callback):
    """One file after every epoch from which training goes on exactly as if never stopped.

    Keras' BackupAndRestore writes weights and epoch into two files, one after the other: a kill
    between them repeats an epoch on weights that have seen it. Here the optimizer's step count
    lies in the same file, which is written atomically.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def restore(self, model: keras.Model) -> int:
        """Load the file if there is one; the number of steps behind it.

        Raises:
            UserError: the file is damaged or of another net.
        """
        if not self.path.exists():
            return 0
        try:
            with warnings.catch_warnings():
                # Keras only warns of most arrays that do not fit.
                warnings.simplefilter("error", UserWarning)
                model.load_weights(self.path)
        except (ValueError, OSError, KeyError, UserWarning):
            raise UserError(
                f"{self.path} is damaged or of another net: remove it, or make the training anew "
                f"with `{make_command(f'train-{self.path.parent.name}', FORCE=1)}`."
            ) from None
        return int(model.optimizer.iterations.numpy())

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write under another name, then rename."""
        temporary = self.path.with_name("new.weights.h5")
        self.model.save_weights(temporary, overwrite=True)
        temporary.replace(self.path)


class StopOnNonFinite(keras.callbacks.Callback):
    """Stop with one sentence at the first loss that is not finite."""

    def __init__(self, name: NetName, train: TrainSettings) -> None:
        super().__init__()
        self.name, self.train_settings = name, train

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Check the running mean of the epoch: a NaN stays in it."""
        if logs and not math.isfinite(logs["loss"]):
            parts = ", ".join(f"{key} {value:.3g}" for key, value in logs.items())
            step = int(self.model.optimizer.iterations.numpy())
            raise UserError(
                f"{self.name}: the loss is not finite at step {step} ({parts}): lower "
                f"{self.name}.train.learning_rate (now {self.train_settings.learning_rate:g}); "
                "the last checkpoint is from before."
            )


class StopAtCtrlC(keras.callbacks.Callback):
    """Stop at a Ctrl-C that Keras has dropped."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """After a batch, in whose end Keras drops it."""
        interrupts.check()


class StopAtLastStep(keras.callbacks.Callback):
    """End the last epoch where the steps end, before Keras warns of missing data."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """The optimizer's count holds the steps before a resumption, too."""
        if int(self.model.optimizer.iterations.numpy()) >= self.steps:
            self.model.stop_training = True


class Validation(keras.callbacks.Callback):
    """After every epoch: figures on the held-out crops, the log, and the best weights."""

    def __init__(
        self,
        stage: NetSettings,
        name: NetName,
        folder: Path,
        held_out: loading.CropSet,
        start: Weights,
        step: int,
        view: dataset.View = dataset.AS_STORED,
    ) -> None:
        """Take up the log in `folder` at `step`; saved weights are averaged with `start`."""
        super().__init__()
        self.stage, self.name, self.folder, self.held_out = stage, name, folder, held_out
        self.start, self.view = start, view
        # A kill between log and checkpoint leaves a row of an epoch that will be repeated.
        self.rows = [row for row in read_log(folder / "log.csv") if row["step"] <= step]

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Evaluate the averaged weights, which are the exported ones, then restore the raw ones."""
        logs = logs if logs is not None else {}
        raw = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        average_with_init(self.model.net, self.stage.train.init_average, self.start)
        # Without the shifts of the saved net, which would count as errors.
        figures = evaluate(self.model, self.held_out, self.name, self.stage.train, self.view)
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
        place = {"epoch": epoch, "step": int(self.model.optimizer.iterations.numpy())}
        self.rows.append(place | {key: float(value) for key, value in logs.items()})
        write_log(self.folder / "log.csv", self.rows)


def evaluate(
    model: keras.Model,
    held_out: loading.CropSet,
    name: NetName,
    train: TrainSettings,
    view: dataset.View = dataset.AS_STORED,
) -> dict[str, float]:
    """`metrics.summary` of a net on held-out crops; a loss of the recipe's own is their `loss`."""
    outputs: dict[str, list[Any]] = {}
    targets: dict[str, list[Any]] = {}
    for images, batch_targets in dataset.validation_batches(held_out, name, train.batch, view):
        for head, value in model.predict_on_batch(images).items():
            outputs.setdefault(head, []).append(value)
        for key, value in batch_targets.items():
            targets.setdefault(key, []).append(np.asarray(value))
    all_outputs = {key: np.concatenate(parts) for key, parts in outputs.items()}
    all_targets = {key: np.concatenate(parts) for key, parts in targets.items()}
    own = {}
    if train.loss is not None:
        own["loss"] = model.loss_of(*map(_tensors, (all_targets, all_outputs)))
    all_targets["side"] = held_out.crops.sides
    all_outputs["cls"] = tf.nn.softmax(all_outputs["cls"]).numpy()[:, 1]
    return metrics.summary(all_outputs, all_targets, name, train) | own


def _tensors(arrays: dict[str, Any]) -> dict[str, tf.Tensor]:
    return {key: tf.convert_to_tensor(array) for key, array in arrays.items()}
