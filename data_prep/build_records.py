"""The driver: pictures in, shards out; in parallel, resumable, the same for any worker count."""

import json
import multiprocessing
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from configs.recipe import refuse_unless_exportable, to_dict
from configs.settings import SAMPLE_TYPES, SampleType, Settings
from data_prep import worker
from data_prep.sources import SPLITS, LabelledImage, Split, fingerprint, pictures
from data_prep.worker import Cut, Plan
from mtcnn_detector.errors import UserError
from mtcnn_detector.files import write_atomically
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from pipeline import manifest, tf_setup

SCHEMA_VERSION = 2
TOLD = 5  # pictures that cannot be used, by name


class Chunk(NamedTuple):
    """The pictures of one set of shards, one shard for each kind."""

    split: Split
    number: int
    pictures: list[LabelledImage]

    def shard(self, folder: Path, kind: SampleType) -> Path:
        """Where the shard of one kind lies."""
        return folder / self.split / f"{kind}-{self.number:05}.tfrecord"

    def summary(self, folder: Path) -> Path:
        """Counts and broken pictures; written last, so its presence means complete."""
        return folder / self.split / f"chunk-{self.number:05}.json"


def prepare(settings: Settings, name: NetName, run: Path, workers: int, force: bool) -> None:
    """Make a net's records under `run/records/<name>`.

    Raises:
        UserError: see `pipeline.manifest` and the annotation readers; too many broken pictures.
    """
    refuse_unless_exportable(settings)
    if not settings.stage(name).train.steps:
        print(f"{name}-data: {name} is taken over as it is (train.steps: 0); it needs no records.")
        return
    nets = _miners(settings, name, run)
    trained = {miner: weight_files.read_net(path, miner) for miner, path in nets.items()}
    split = pictures(settings, settings.stage(name).records.scale_balance)
    recipe = _recipe(settings, name, nets) | {"annotations": fingerprint(split)}
    stage = manifest.Stage(run / "records" / name, recipe, f"{name}-data")
    if not stage.begin(force):
        return
    chunks = list(_chunks(split, settings.stage(name).records.images_per_shard))
    for part in SPLITS:
        (stage.folder / part).mkdir(exist_ok=True)
    missing = [chunk for chunk in chunks if not chunk.summary(stage.folder).exists()]
    if len(missing) < len(chunks):
        print(f"{name}-data: goes on; {len(chunks) - len(missing)} of {len(chunks)} chunks done.")
    _fill(Plan(settings, name, trained), stage.folder, missing, workers)
    _finish(stage, chunks, settings.data.max_broken_fraction)


def _miners(settings: Settings, name: NetName, run: Path) -> dict[NetName, Path]:
    """The nets that propose windows for this one, and their files."""
    mined_by = settings.stage(name).records.mined_by
    if mined_by is not None:
        return {name: Path(mined_by)}
    earlier = NETS[: NETS.index(name)]
    for net in earlier:
        manifest.require(run / net, f"train-{net}")
    return {net: run / net / "weights.npz" for net in earlier}


def _recipe(settings: Settings, name: NetName, nets: Mapping[NetName, Path]) -> dict[str, Any]:
    """What decides the content of the records."""
    whole = to_dict(settings)
    recipe = {key: whole[key] for key in ("seed", "data", "labels")}
    for key in (
        "validation",
        "max_broken_fraction",
        "folder",
    ):  # the annotations' fingerprint stands
        recipe["data"].pop(key)  # for the folder, which may be moved or named in another way
    records = {key: value for key, value in whole[name]["records"].items() if key != "mined_by"}
    recipe[name] = {"records": records, "size": whole[name]["net"]["size"]}
    recipe["schema"] = SCHEMA_VERSION
    if nets:
        recipe["detector"] = {k: v for k, v in whole["detector"].items() if k != "thresholds"}
        digests = {net: manifest.digest(weight_files.files(path)) for net, path in nets.items()}
        recipe["nets"] = {net: digest[:16] for net, digest in digests.items()}
    return recipe


def _chunks(split: Mapping[Split, list[LabelledImage]], images_per_shard: int) -> Iterator[Chunk]:
    for part in SPLITS:
        for number, start in enumerate(range(0, len(split[part]), images_per_shard)):
            yield Chunk(part, number, split[part][start : start + images_per_shard])


def _fill(plan: Plan, folder: Path, chunks: list[Chunk], workers: int) -> None:
    """Cut chunks in worker processes; write them here, in order."""
    total = sum(len(chunk.pictures) for chunk in chunks)
    made: Counter[str] = Counter()
    with tqdm(total=total, unit="img", desc=f"{plan.name}-data", smoothing=0.05) as bar:
        for chunk, cut in _cut_in_order(plan, chunks, workers):
            counts = _write(folder, chunk, cut)
            made.update(counts)
            bar.update(len(chunk.pictures))
            bar.set_postfix_str(f"{sum(made.values())} crops")


def _write(folder: Path, chunk: Chunk, cut: Cut) -> dict[SampleType, int]:
    """Write a chunk's shards, then its summary; how many crops of each kind it has."""
    tf_setup.import_tensorflow()  # takes seconds, while the workers cut on
    from data_prep import records

    for kind in SAMPLE_TYPES:
        records.write_shard(chunk.shard(folder, kind), cut.crops[kind], kind)
    counts = {kind: len(cut.crops[kind].images) for kind in SAMPLE_TYPES}
    told = json.dumps({"counts": counts, "broken": cut.broken})
    write_atomically(chunk.summary(folder), told.encode())
    return counts


def _cut_in_order(plan: Plan, chunks: list[Chunk], workers: int) -> Iterator[tuple[Chunk, Cut]]:
    """Every chunk with its crops; never more than a few waiting, so memory stays flat."""
    # The helper that tidies up after us would say so, below the sentence that Ctrl-C ends with.
    sys.warnoptions.append("ignore:resource_tracker")
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, initializer=worker.start, initargs=(plan,))
    waiting: deque[tuple[Chunk, Future[Cut]]] = deque()
    try:
        for chunk in chunks:
            waiting.append((chunk, _submit(pool, chunk.pictures)))
            if len(waiting) > 2 * workers:
                yield waiting[0][0], waiting.popleft()[1].result()
        while waiting:
            yield waiting[0][0], waiting.popleft()[1].result()
    except BrokenProcessPool:
        raise UserError(
            "a worker was killed, probably for want of memory: repeat the command with "
            "WORKERS=1, or lower images_per_shard."
        ) from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, chunk: list[LabelledImage]) -> Future[Cut]:
    """Hand out a chunk; workers that start now never hear Ctrl-C: the parent decides."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(worker.cut_chunk, chunk)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _finish(stage: manifest.Stage, chunks: list[Chunk], max_broken_fraction: float) -> None:
    summaries = [json.loads(chunk.summary(stage.folder).read_text()) for chunk in chunks]
    broken = {path: why for one in summaries for path, why in one["broken"].items()}
    images = sum(len(chunk.pictures) for chunk in chunks)
    if len(broken) > max_broken_fraction * images:
        for chunk, summary in zip(chunks, summaries, strict=True):
            if summary["broken"]:
                chunk.summary(stage.folder).unlink()  # looked at again next time
        raise UserError(
            f"{len(broken)} of {images} pictures cannot be used: {_first(broken)}. Mend them and "
            "repeat the command, or raise data.max_broken_fraction."
        )
    counts: dict[str, Counter[str]] = {part: Counter() for part in SPLITS}
    for chunk, summary in zip(chunks, summaries, strict=True):
        counts[chunk.split].update(summary["counts"])
    shards = [chunk.shard(stage.folder, kind) for chunk in chunks for kind in SAMPLE_TYPES]
    stage.finish(
        {
            "images": images,
            "broken": broken,
            "counts": counts,
            "shards": len(shards),
            "sha256": manifest.digest(shards),
        }
    )
    told = ", ".join(f"{counts['train'][kind]} {kind}" for kind in SAMPLE_TYPES)
    print(
        f"{stage.command}: {told} crops to train on, "
        f"{sum(counts['validation'].values())} to validate; {len(broken)} pictures left out"
        + (f": {_first(broken)}." if broken else ".")
    )


def _first(broken: Mapping[str, str]) -> str:
    """The first reasons; the manifest has all."""
    told = list(broken.values())
    more = f"; and {len(told) - TOLD} more" if len(told) > TOLD else ""
    return "; ".join(told[:TOLD]) + more
