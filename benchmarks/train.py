"""`python -m benchmarks.train`: samples per second with the input pipeline and without.

Real `fit` steps of the compiled model, at the recipe's batch sizes: once on the batches that a
training gets (drawn, augmented, normalised), once on one batch that is held in memory. Their
ratio is how much of the bare step's speed is left. Blocks of steps of both kinds alternate, short
ones, since the speed of a machine wanders; the first steps of each block are not counted.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from configs.record_settings import SAMPLE_TYPES
from configs.settings import Settings
from mtcnn_detector.net import NETS, NetName
from pipeline import cli, manifest, tf_setup
from pipeline.cli import run_cli

BURN_IN = 8  # steps; more than the pipeline keeps ready
STEPS = {"pnet": 30, "rnet": 10, "onet": 5}  # counted in a block: a second on two cores
CROPS = 4000  # of each kind, where there are no records


def main() -> None:
    """Time each net and print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_arguments(parser)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS, help="which (all)")
    parser.add_argument("--blocks", type=int, default=25, help="of each kind (%(default)s)")
    parser.add_argument("--steps", type=int, help="counted in a block (by the net)")
    arguments = parser.parse_args()
    folder, settings = cli.open_run(arguments)
    tf_setup.import_tensorflow()
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()  # as a training does
    print(
        "| net | batch | crops | in memory, samples/s | pipeline, samples/s | ratio | middle half |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in arguments.nets:
        steps = arguments.steps or STEPS[name]
        print(row(settings, name, folder, arguments.blocks, steps), flush=True)


def row(settings: Settings, name: NetName, run: Path, blocks: int, steps: int) -> str:
    """One net's line of the table."""
    import tensorflow as tf

    from train import dataset, trainable_net

    train = settings.for_net(name).train
    records, origin = crops_of(settings, name, run)
    model, _ = trainable_net.build_trainable(settings, name)
    piped = dataset.batches(records, name, train, settings.seed).repeat()
    held = tf.data.Dataset.from_tensors(next(iter(piped))).repeat()
    for batches in (held, piped):
        model.fit(batches, steps_per_epoch=2, verbose=0, shuffle=False)  # traces the step
    bare, whole = [], []
    for _ in range(blocks):
        bare.append(train.batch / seconds_a_step(model, held, steps))
        whole.append(train.batch / seconds_a_step(model, piped, steps))
    ratios = [b / a for a, b in zip(bare, whole, strict=True)]
    quarter, _, three = statistics.quantiles(ratios)
    medians = f"{statistics.median(bare):.0f} | {statistics.median(whole):.0f}"
    ratio = f"{statistics.median(ratios):.2f} | {quarter:.2f} to {three:.2f}"
    return f"| {name} | {train.batch} | {origin} | {medians} | {ratio} |"


def crops_of(settings: Settings, name: NetName, run: Path) -> tuple[Any, str]:
    """A run's records, or noise where it has none; and which of the two."""
    from data_prep.crops import Crops
    from train import loading

    size, folder = settings.for_net(name).net.size, run / "records" / name
    made = manifest.read_manifest(folder)
    if made is not None and made["complete"]:
        return loading.load(folder, "train", size, made["counts"]["train"]), str(run)
    rng = np.random.default_rng(0)
    total = CROPS * len(SAMPLE_TYPES)
    noise = Crops(
        rng.integers(0, 256, (total, size, size, 3), dtype=np.uint8),
        rng.normal(0, 0.1, (total, 4)).astype(np.float32),
        rng.uniform(0, 1, (total, 10)).astype(np.float32),
        np.full((total, 1), 40, np.float32),
    )
    return loading.CropSet(noise, dict.fromkeys(SAMPLE_TYPES, CROPS)), "noise"


def seconds_a_step(model: Any, batches: Any, steps: int) -> float:
    """Of `fit`, without its start and the burn-in."""
    import keras

    class Clock(keras.callbacks.Callback):
        """The time after each step."""

        def __init__(self) -> None:
            super().__init__()
            self.times: list[float] = []

        def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
            self.times.append(time.perf_counter())

    clock = Clock()
    model.fit(batches, steps_per_epoch=BURN_IN + steps, verbose=0, shuffle=False, callbacks=[clock])
    return (clock.times[-1] - clock.times[BURN_IN - 1]) / steps


if __name__ == "__main__":
    run_cli(main)
