"""`python -m benchmarks.loading`: how fast a training's records come into memory.

Records of noise are written as a record stage writes them, then loaded as a training does, by one
thread and by as many as there are cores, in turns; the reading of the disk counts, though files
just written mostly come out of the system's memory.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from configs.record_settings import SAMPLE_TYPES
from pipeline import tf_setup
from pipeline.cli import run_cli

CROPS = 900  # in a shard: O-Net's of 64 images, at full size


def main() -> None:
    """Write, load, print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loading",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, help="where the records are (a temporary folder)")
    parser.add_argument("--size", type=int, default=48, help="side of a crop, px (%(default)s)")
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of crops (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(%(default)s)")
    arguments = parser.parse_args()
    tf_setup.import_tensorflow()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary) / "onet"
        counts = write(folder / "train", arguments.size, arguments.gigabytes)
        files = [path.stat().st_size for path in folder.rglob("*.tfrecord")]
        print(f"{sum(files) / 1e9:.2f} GB in {len(files)} shards")
        print("| threads | seconds | seconds of CPU | MB/s |")
        print("| --- | --- | --- | --- |")
        for _ in range(arguments.rounds):
            for threads in sorted({1, os.cpu_count() or 1}):
                wall, cpu = load(folder, arguments.size, counts, threads)
                print(f"| {threads} | {wall:.1f} | {cpu:.1f} | {sum(files) / 1e6 / wall:.0f} |")


def write(folder: Path, size: int, gigabytes: float) -> dict[str, int]:
    """Shards of noise of all kinds; how many crops there are of each."""
    from data_prep import records
    from data_prep.crops import Crops

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (CROPS, size, size, 3), np.uint8)
    targets = (rng.random((CROPS, values), np.float32) for values in records.TARGETS.values())
    crops, shards = Crops(images, *targets), max(round(gigabytes * 1e9 / images.nbytes / 4), 1)
    folder.mkdir(parents=True)
    for kind in SAMPLE_TYPES:
        for number in range(shards):
            records.write_shard(folder / f"{kind}-{number:05}.tfrecord", crops, kind)
    return dict.fromkeys(SAMPLE_TYPES, shards * CROPS)


def load(folder: Path, size: int, counts: dict[str, int], threads: int) -> tuple[float, float]:
    """Seconds and seconds of CPU of one loading."""
    from train import loading

    start, before = time.perf_counter(), cpu_seconds()
    loading.load(folder, "train", size, counts, threads)
    return time.perf_counter() - start, cpu_seconds() - before


def cpu_seconds() -> float:
    """Of this process, user and system."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    run_cli(main)
