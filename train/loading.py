"""Records into memory: all crops of a split, read by several threads."""

import math
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from configs.record_settings import SAMPLE_TYPES, SampleType
from data_prep import records
from data_prep.crops import Crops
from mtcnn_detector.errors import UserError
from pipeline.make_command import make_command

MEMINFO, RESERVED = Path("/proc/meminfo"), 2 << 30  # bytes; for the training itself


class CropSet(NamedTuple):
    """All crops of a split, grouped by kind in the order of `SAMPLE_TYPES`."""

    crops: Crops
    counts: dict[SampleType, int]

    @property
    def kinds(self) -> np.ndarray:
        """(N,) indices into `SAMPLE_TYPES`."""
        return kinds_of(self.counts)


def kinds_of(counts: Mapping[SampleType, int]) -> np.ndarray:
    """(N,) indices into `SAMPLE_TYPES` of so many crops of each kind, kind by kind."""
    return np.repeat(np.arange(len(SAMPLE_TYPES)), [counts[kind] for kind in SAMPLE_TYPES])


class _Shard(NamedTuple):
    path: Path
    kind: SampleType
    crops: int  # how many it holds


def load(
    folder: Path, split: str, size: int, counts: Mapping[str, int], threads: int | None = None
) -> CropSet:
    """Read all crops of a split of a net's records.

    Args:
        folder: the net's records, a folder named after it.
        split: `train` or `validation`.
        size: side of the crops, pixels.
        counts: number of crops of each kind, as the manifest says.
        threads: shards that are read at a time; None: as many as there are cores.

    Raises:
        UserError: a shard is damaged, or the numbers of crops differ from `counts`.
    """
    wanted = {kind: counts.get(kind, 0) for kind in SAMPLE_TYPES}
    remedy = f"`{make_command(f'{folder.name}-data', FORCE=1)}` makes the records anew"
    shards = [shard for kind in SAMPLE_TYPES for shard in _shards(folder / split, size, kind)]
    for kind in SAMPLE_TYPES:
        found = sum(shard.crops for shard in shards if shard.kind == kind)
        if found != wanted[kind]:
            _name_damaged(shards, size, remedy)
            raise UserError(
                f"{folder / split} holds {found} {kind} crops, its manifest counts "
                f"{wanted[kind]}: a shard is missing or cut off; {remedy}."
            )
    # Gigabytes: allocated once, then filled shard by shard.
    count = sum(wanted.values())
    crops = Crops(*(_allocate(count, field, folder) for field in Crops.joined([], size)))
    buffers: tuple[Any, ...] = crops
    ends = np.cumsum([shard.crops for shard in shards])

    def fill(shard: _Shard, end: int) -> None:
        part = records.read_shard(shard.path, size, shard.kind, remedy)
        for buffer, values in zip(buffers, part, strict=True):
            buffer[end - shard.crops : end] = values

    pool = ThreadPoolExecutor(threads or os.cpu_count())  # TensorFlow reads without Python's lock
    try:
        filled = pool.map(fill, shards, ends.tolist())
        for _ in tqdm(
            filled, f"{split} records", len(shards), unit="shard", ncols=80, disable=None
        ):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return CropSet(crops, wanted)


def _shards(folder: Path, size: int, kind: SampleType) -> list[_Shard]:
    """The shards of a kind in their order; how many crops each holds is seen by its size."""
    paths = sorted(folder.glob(f"{kind}-*.tfrecord"))
    return [_Shard(path, kind, records.count_crops(path, size, kind)) for path in paths]


def _name_damaged(shards: list[_Shard], size: int, remedy: str) -> None:
    """Raise UserError for the first shard that is cut off, or of another size or kind."""
    for shard in shards:
        records.read_shard(shard.path, size, shard.kind, remedy)


def _allocate(count: int, like: Any, folder: Path) -> Any:
    """An uninitialised array of `count` rows like those of `like`.

    Where memory is too small for it, it is mapped to an unnamed temporary file in `folder`.
    """
    shape = (count, *like.shape[1:])
    length = math.prod(shape) * like.itemsize
    if not length or length + RESERVED < _available_memory():
        return np.empty(shape, like.dtype)
    print(
        f"{length >> 20} MiB of crops do not fit into memory: they are drawn from a file in "
        f"{folder}, which is slower; fewer crops a face in the recipe would fit."
    )
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, like.dtype, shape=shape).view(np.ndarray)


def _available_memory() -> int:
    """Bytes that the system can still give; unlimited where it does not say."""
    meminfo = MEMINFO.read_text() if MEMINFO.exists() else ""
    found = re.search(r"^MemAvailable: *(\d+) kB$", meminfo, re.MULTILINE)
    return int(found[1]) << 10 if found else sys.maxsize
