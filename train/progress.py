"""Progress of a training: a bar over an epoch's steps in a terminal, and a line of figures."""

import math
import shutil

import keras
from tqdm import tqdm

from mtcnn_detector.net import NetName

WIDTH = 80  # columns


class Progress(keras.callbacks.Callback):
    """In place of Keras' bar, which is wider and writes a line a step into a file."""

    def __init__(self, name: NetName, steps: int) -> None:
        """`steps`: of the whole training."""
        super().__init__()
        self.name, self.steps, self.bar = name, steps, tqdm(disable=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """A new bar; where the output is no terminal tqdm shows none."""
        left = self.steps - int(self.model.optimizer.iterations.numpy())
        self.bar = tqdm(
            total=min(self.params["steps"], left),
            desc=self._title(epoch),
            unit="step",
            ncols=min(WIDTH, shutil.get_terminal_size().columns),
            leave=False,
            disable=None,
        )

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Move the bar; the loss is the epoch's running mean."""
        if logs:
            self.bar.set_postfix_str(f"loss {logs['loss']:.4g}", refresh=False)
        self.bar.update()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Replace the bar by the epoch's figures."""
        self.bar.close()
        print(f"{self._title(epoch)}: {epoch_figures(logs or {})}", flush=True)

    def _title(self, epoch: int) -> str:
        return f"{self.name} {epoch + 1}/{self.params['epochs']}"


def epoch_figures(logs: dict[str, float]) -> str:
    """The losses of an epoch and its figures on the held-out crops, as far as there are any."""
    shown = {key.removeprefix("val_"): v for key, v in logs.items() if key.startswith("val_")}
    parts = [f"loss {logs['loss']:.3f}", f"validation {shown['loss']:.3f}"]
    known = {key: value for key, value in shown.items() if math.isfinite(value)}
    parts += [f"{key} {known[key]:.3f}" for key in ("recall", "iou", "nme") if key in known]
    return ", ".join(parts)
