"""Small trainings of P-Net, for the tests of what they leave and of how they are stopped."""

import shutil
from pathlib import Path

import numpy as np

from configs import recipe
from configs.settings import SAMPLE_TYPES
from data_prep import records
from data_prep.crops import Crops
from mtcnn_detector.weights import weight_files
from pipeline import manifest
from train import callbacks, loop

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "configs/mtcnn.yaml"
SMALL = ("pnet.train.batch=32", "pnet.train.warmup_steps=5", "pnet.train.ema_decay=0.9")
SHORT = (*SMALL, "pnet.train.steps=45", "pnet.train.steps_per_epoch=20")


class Died(BaseException):
    """Stands for `kill -9` at a chosen place."""


def some_crops(kind, count, rng):
    """Faces are darker in the middle, so that there is something to learn."""
    images = rng.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8)
    if kind != "negative":
        images[:, 3:9, 3:9] //= 3
    boxes = rng.normal(0, 0.1, (count, 4)).astype(np.float32)
    landmarks = rng.uniform(0.2, 0.8, (count, 10)).astype(np.float32)
    if kind in ("negative", "landmark"):
        boxes[:] = np.nan
    if kind != "landmark":
        landmarks[:] = np.nan
    return Crops(images, boxes, landmarks, np.full((count, 1), 30, np.float32))


def write_records(run, counts=(("train", 150), ("validation", 40))):
    """Records of P-Net as `data_prep` leaves them."""
    rng = np.random.default_rng(0)
    sources = recipe.to_dict(recipe.load(RECIPE))["data"]["train"]
    made_by = {"seed": 1, "data": {"train": sources}}
    stage = manifest.Stage(run / "records" / "pnet", made_by, "pnet-data")
    stage.begin(False)
    for split, count in counts:
        (stage.folder / split).mkdir()
        for kind in SAMPLE_TYPES:
            shard = stage.folder / split / f"{kind}-00000.tfrecord"
            records.write_shard(shard, some_crops(kind, count, rng), kind)
    made = {split: dict.fromkeys(SAMPLE_TYPES, count) for split, count in counts}
    stage.finish({"sha256": "0123456789abcdef" * 4, "counts": made})
    return run


def train(run, *overrides, force=False):
    """In this process, as `python -m train pnet` does it."""
    loop.train(recipe.load(RECIPE, overrides), "pnet", run, force)


def kept(run):
    """The net that a run's training has written."""
    return weight_files.read(run / "pnet" / "weights.npz")["pnet"]


def assert_same(run, other):
    """Bit for bit the same weights, and the same log."""
    found, wanted = kept(run).weights, kept(other).weights
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    log, same = (r / "pnet" / "log.csv" for r in (run, other))
    assert log.read_text() == same.read_text()


def copied(run, folder):
    """A run to go on with, in a folder of the test's own."""
    shutil.copytree(run, folder / "run")
    return folder / "run"


def dies(*_):
    raise Died


def at_step(step, action):
    """A stand-in for what happens after each batch, with an action more after one of them."""
    real = callbacks.StopAtLastStep.on_train_batch_end

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations.numpy()) == step:
            action()
        real(self, batch, logs)

    return on_train_batch_end
