"""Small trainings on synthetic records, for tests of their results and of their interruption."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from configs import recipe
from configs.record_settings import SAMPLE_TYPES, SampleType
from data_prep import records
from data_prep.crops import Crops
from mtcnn_detector.net import NetName
from mtcnn_detector.weights import weight_files
from pipeline import manifest
from train import callbacks, loop

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "configs/mtcnn.yaml"
SMALL = (
    *("pnet.train.batch=32", "pnet.train.warmup_steps=5", "pnet.train.ema_decay=0.9"),
    "rnet.records.context=1",  # P-Net's boxes as they are in the records
)
SHORT = (*SMALL, "pnet.train.steps=45", "pnet.train.steps_per_epoch=20")


class Killed(BaseException):
    """Stands for `kill -9` at a chosen place."""


def kill(*_: Any) -> None:
    """End a training as if killed."""
    raise Killed


def synthetic_crops(kind: SampleType, count: int, size: int, rng: np.random.Generator) -> Crops:
    """Noise; faces are darker in the middle, so that there is something to learn."""
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    if kind != "negative":
        middle = slice(size // 4, size - size // 4)
        images[:, middle, middle] //= 3
    boxes = rng.normal(0, 0.1, (count, 4)).astype(np.float32)
    landmarks = rng.uniform(0.2, 0.8, (count, 10)).astype(np.float32)
    if kind in ("negative", "landmark"):
        boxes[:] = np.nan
    if kind != "landmark":
        landmarks[:] = np.nan
    return Crops(images, boxes, landmarks, np.full((count, 1), 30, np.float32))


def write_records(
    run: Path,
    counts: Sequence[tuple[str, int]] = (("train", 150), ("validation", 40)),
    name: NetName = "pnet",
    kinds: Sequence[SampleType] = SAMPLE_TYPES,
) -> Path:
    """A net's records as `data_prep` leaves them, with `counts` crops of these kinds in a split."""
    rng = np.random.default_rng(0)
    settings = recipe.load(RECIPE)
    sources = recipe.to_dict(settings)["data"]["train"]
    made_by = {"seed": 1, "data": {"train": sources}}
    stage = manifest.Stage(run / "records" / name, made_by, f"{name}-data")
    stage.begin(False)
    for split, count in counts:
        (stage.folder / split).mkdir()
        for kind in kinds:
            shard = stage.folder / split / f"{kind}-00000.tfrecord"
            crops = synthetic_crops(kind, count, settings.for_net(name).stored_size, rng)
            records.write_shard(shard, crops, kind)
    made = {split: dict.fromkeys(kinds, count) for split, count in counts}
    stage.finish({"sha256": "0123456789abcdef" * 4, "counts": made})
    return run


def train(run: Path, *overrides: str, name: NetName = "pnet", force: bool = False) -> None:
    """In this process, as `python -m train <name>` does it."""
    loop.train(recipe.load(RECIPE, overrides), name, run, force)


def saved_net(run: Path, name: NetName = "pnet") -> weight_files.TrainedNet:
    """The net that a run's training has written."""
    return weight_files.read(run / name / "weights.npz")[name]


def assert_same(run: Path, other: Path) -> None:
    """Bit for bit the same weights, and the same log."""
    found, wanted = saved_net(run).weights, saved_net(other).weights
    assert list(found) == list(wanted)
    for key, value in wanted.items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)
    log, same = (r / "pnet" / "log.csv" for r in (run, other))
    assert log.read_text() == same.read_text()


def copy_run(run: Path, folder: Path) -> Path:
    """A copy to go on with, in a folder of the test's own."""
    shutil.copytree(run, folder / "run")
    return folder / "run"


def at_step(step: int, action: Callable[[], None]) -> Callable[..., None]:
    """A stand-in for `StopAtLastStep.on_train_batch_end` with an action at one of the steps."""
    real = callbacks.StopAtLastStep.on_train_batch_end

    def on_train_batch_end(
        self: callbacks.StopAtLastStep, batch: int, logs: dict[str, float] | None = None
    ) -> None:
        if int(self.model.optimizer.iterations.numpy()) == step:
            action()
        real(self, batch, logs)

    return on_train_batch_end
