"""The driver: pictures in, shards out; in parallel, resumable, the same for any worker count."""

import json
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from configs import quiet, stages
from configs.errors import UserError
from configs.recipe import to_dict
from configs.settings import KINDS, NETS, Kind, NetName, Settings
from data_prep.crops import Crops, cut_crops
from data_prep.mining import mine
from data_prep.sampling import Targets, Windows, sample
from data_prep.sources import SPLITS, Picture, Split, fingerprint, pictures
from models import layouts, pixels
from models.layouts import Trained

SCHEMA_VERSION = 1


class Chunk(NamedTuple):
    """The pictures of one set of shards, one shard for each kind."""

    split: Split
    number: int
    pictures: list[Picture]

    def shard(self, folder: Path, kind: Kind) -> Path:
        """Where the shard of one kind lies."""
        return folder / self.split / f"{kind}-{self.number:05}.tfrecord"

    def summary(self, folder: Path) -> Path:
        """Counts and broken pictures; written last, so its presence means complete."""
        return folder / self.split / f"chunk-{self.number:05}.json"


class Cut(NamedTuple):
    """What a worker makes of a chunk."""

    crops: dict[Kind, Crops]
    broken: list[str]


@dataclass(frozen=True)
class Plan:
    """All that a worker needs to know; small, and the same for every worker."""

    settings: Settings
    name: NetName
    nets: Mapping[NetName, Trained]  # those before, which propose

    @property
    def size(self) -> int:
        """The side of the crops."""
        return self.settings.stage(self.name).net.size


def prepare(settings: Settings, name: NetName, run: Path, workers: int, force: bool) -> None:
    """Make a net's records under `run/records/<name>`.

    Raises:
        UserError: see `configs.stages` and the annotation readers; too many broken pictures.
    """
    nets = tuple(run / earlier / "weights.npz" for earlier in NETS[: NETS.index(name)])
    trained: dict[NetName, Trained] = {}
    for earlier, path in zip(NETS, nets, strict=False):
        stages.require(run / earlier, f"train-{earlier}")
        trained |= layouts.read(path)
    split = pictures(settings, settings.stage(name).records.scale_balance)
    recipe = _recipe(settings, name, nets) | {"annotations": fingerprint(split)}
    stage = stages.Stage(run / "records" / name, recipe, f"{name}-data")
    if not stage.begin(force):
        return
    chunks = list(_chunks(split, settings.stage(name).records.images_per_shard))
    for part in SPLITS:
        (stage.folder / part).mkdir(exist_ok=True)
    missing = [chunk for chunk in chunks if not chunk.summary(stage.folder).exists()]
    if len(missing) < len(chunks):
        print(f"{name}-data: goes on; {len(chunks) - len(missing)} of {len(chunks)} chunks done.")
    _fill(Plan(settings, name, trained), stage.folder, missing, workers)
    _finish(stage, chunks, settings.data.broken_share)


def _recipe(settings: Settings, name: NetName, nets: tuple[Path, ...]) -> dict[str, Any]:
    """What decides the content of the records."""
    whole = to_dict(settings)
    recipe = {key: whole[key] for key in ("seed", "data", "labels")}
    recipe["data"].pop("validation"), recipe["data"].pop("broken_share")
    recipe[name] = {"records": whole[name]["records"], "size": whole[name]["net"]["size"]}
    recipe["schema"] = SCHEMA_VERSION
    if nets:
        recipe["detector"] = {k: v for k, v in whole["detector"].items() if k != "thresholds"}
        recipe["nets"] = {path.parent.name: stages.digest([path])[:16] for path in nets}
    return recipe


def _chunks(split: Mapping[Split, list[Picture]], images_per_shard: int) -> Iterator[Chunk]:
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


def _write(folder: Path, chunk: Chunk, cut: Cut) -> dict[Kind, int]:
    """Write a chunk's shards, then its summary; how many crops of each kind it has."""
    quiet.import_tensorflow()  # takes seconds, while the workers cut on
    from data_prep import records

    for kind in KINDS:
        records.write_shard(chunk.shard(folder, kind), cut.crops[kind], kind)
    counts = {kind: len(cut.crops[kind].images) for kind in KINDS}
    summary = chunk.summary(folder)
    temporary = summary.with_name(summary.name + ".tmp")
    temporary.write_text(json.dumps({"counts": counts, "broken": cut.broken}), encoding="utf-8")
    temporary.replace(summary)
    return counts


def _cut_in_order(plan: Plan, chunks: list[Chunk], workers: int) -> Iterator[tuple[Chunk, Cut]]:
    """Every chunk with its crops; never more than a few waiting, so memory stays flat."""
    # The helper that tidies up after us would say so, below the sentence that Ctrl-C ends with.
    sys.warnoptions.append("ignore:resource_tracker")
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, spawn, initializer=_start_worker, initargs=(plan,))
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


def _submit(pool: ProcessPoolExecutor, chunk: list[Picture]) -> Future[Cut]:
    """Hand out a chunk; workers that start now never hear Ctrl-C: the parent decides."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(_cut_chunk, chunk)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _finish(stage: stages.Stage, chunks: list[Chunk], broken_share: float) -> None:
    summaries = [json.loads(chunk.summary(stage.folder).read_text()) for chunk in chunks]
    broken = [name for summary in summaries for name in summary["broken"]]
    images = sum(len(chunk.pictures) for chunk in chunks)
    if len(broken) > broken_share * images:
        for chunk, summary in zip(chunks, summaries, strict=True):
            if summary["broken"]:
                chunk.summary(stage.folder).unlink()  # looked at again next time
        raise UserError(
            f"{len(broken)} of {images} pictures are missing or unreadable, first {broken[0]}: "
            "mend them and repeat the command, or raise data.broken_share."
        )
    counts: dict[str, Counter[str]] = {part: Counter() for part in SPLITS}
    for chunk, summary in zip(chunks, summaries, strict=True):
        counts[chunk.split].update(summary["counts"])
    shards = [chunk.shard(stage.folder, kind) for chunk in chunks for kind in KINDS]
    stage.finish(
        {
            "images": images,
            "broken": broken,
            "counts": counts,
            "shards": len(shards),
            "sha256": stages.digest(shards),
        }
    )
    told = ", ".join(f"{counts['train'][kind]} {kind}" for kind in KINDS)
    print(
        f"{stage.command}: {told} crops to train on, "
        f"{sum(counts['validation'].values())} to validate; {len(broken)} pictures left out."
    )


# What follows runs in the workers. They import no TensorFlow unless they mine.


class _Worker(NamedTuple):
    plan: Plan
    cascade: Any  # models.cascade.Cascade, or None for the first net


_worker: _Worker


def _start_worker(plan: Plan) -> None:
    global _worker
    threading.Thread(target=_die_with_parent, daemon=True).start()
    pixels.use_threads(1)
    cascade = None
    if plan.nets:
        quiet.import_tensorflow()
        from models.cascade import Cascade
        from models.engine import use_threads

        use_threads(1)  # results must not depend on how the work was shared out
        low = plan.settings.stage(plan.name).records.proposal_thresholds
        cascade = Cascade(plan.nets, plan.settings.detector.at(low))
    _worker = _Worker(plan, cascade)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _cut_chunk(chunk: list[Picture]) -> Cut:
    parts: dict[Kind, list[Crops]] = {kind: [] for kind in KINDS}
    broken = []
    for picture in chunk:
        image = pixels.read_image(picture.annotation.image)
        if image is None:
            broken.append(str(picture.annotation.image))
            continue
        for kind, windows in _windows(picture, image).items():
            parts[kind].append(cut_crops(image, windows, _worker.plan.size))
    return Cut({k: Crops.joined(p, _worker.plan.size) for k, p in parts.items()}, broken)


def _windows(picture: Picture, image: pixels.Image) -> dict[Kind, Windows]:
    """All windows of one picture; they follow from the seed and its name."""
    plan, annotation = _worker.plan, picture.annotation
    settings = plan.settings
    _check_inside(picture, image)
    records = settings.stage(plan.name).records
    seeds = [settings.seed, NETS.index(plan.name), *annotation.key.encode()]
    rng = np.random.default_rng(seeds)
    targets = Targets.of(annotation, settings.data.min_face, picture.weights)
    height, width = image.shape[:2]
    found = sample(rng, height, width, targets, records, settings.labels)
    if _worker.cascade is not None and set(picture.kinds) != {"landmark"}:
        proposed = _worker.cascade.detect(image).boxes
        mined = mine(rng, proposed, targets, records, settings.labels)
        found |= {kind: Windows.joined([found[kind], mined[kind]]) for kind in mined}
    return {kind: windows for kind, windows in found.items() if kind in picture.kinds}


def _check_inside(picture: Picture, image: pixels.Image) -> None:
    height, width = image.shape[:2]
    boxes = picture.annotation.boxes
    outside = (boxes[:, :2] >= (width, height)).any(axis=1) | (boxes[:, 2:] <= 0).any(axis=1)
    if outside.any():
        box = ", ".join(f"{value:g}" for value in boxes[outside][0])
        raise UserError(
            f"{picture.annotation.where}: the face ({box}) lies outside its picture "
            f"{picture.annotation.image} of {width} x {height} pixels; correct or remove it."
        )
