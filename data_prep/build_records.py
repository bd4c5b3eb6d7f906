"""Records stage: annotated images to TFRecord shards; parallel, resumable, reproducible.

The shards are the same bytes for any number of workers and after any interruption.
"""

import contextlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from configs.recipe import refuse_unless_exportable, to_dict
from configs.record_settings import SAMPLE_TYPES, SampleType
from configs.settings import NetSettings, Settings
from data_prep import label_check, thinning
from data_prep.annotations import LabelSet
from data_prep.enough_landmarks import refuse_too_few
from data_prep.readers.entries import first_sentences
from data_prep.sources import (
    SPLITS,
    Images,
    check_counts,
    fingerprint,
    label_sets,
    labelled_images,
)
from data_prep.worker import Cut, Plan
from data_prep.worker_pool import Chunk, LocalPool, Pool, cut_in_order
from mtcnn_detector.errors import UserError
from mtcnn_detector.files import write_atomically
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from pipeline import custom_code, folders, manifest, run_recipe, tf_setup
from pipeline.make_command import make_command
from pipeline.survival import require_survival

SCHEMA_VERSION = 3  # of `records.FEATURES` and of what a crop is; 2 named the landmarks `points`
# Parts of data's settings that change no crop: the fingerprint of the annotations stands for the
# folder, which may be moved or named in another way.
NOT_IN_RECIPE = ("validation", "max_broken_fraction", "min_survival", "object", "folder")
MAX_NAMED = 5  # images that a message names
SHEET = "crops.jpg"


def prepare(
    settings: Settings,
    name: NetName,
    run: Path,
    workers: int | None = None,
    force: bool = False,
    scheduler: str | None = None,
) -> None:
    """Make a net's records under `run/records/<name>`, or go on where an earlier call stopped.

    The run is locked meanwhile. The workers are processes that import the caller's script, which
    therefore needs `if __name__ == "__main__":`; a notebook does not.

    Args:
        settings: the recipe.
        name: the net that is trained on them.
        run: the folder of the run.
        workers: number of processes; None: as many as cores.
        force: whether records of another recipe are replaced.
        scheduler: of a Dask cluster whose workers cut in place of processes of this machine.

    Raises:
        UserError: as `pipeline.manifest` and the annotation readers; or too many images are
            broken; or a worker was killed.
    """
    refuse_unless_exportable(settings)
    custom_code.require_modules(settings)
    with folders.locked(run):
        _prepare(settings, name, run, workers or os.cpu_count() or 1, force, scheduler)


def _prepare(
    settings: Settings, name: NetName, run: Path, workers: int, force: bool, scheduler: str | None
) -> None:
    if not settings.for_net(name).train.steps:
        print(f"{name}-data: {name} is taken over as it is (train.steps: 0); it needs no records.")
        return
    nets = _miners(settings, name, run)
    trained = {miner: weight_files.read_net(path, miner) for miner, path in nets.items()}
    data = settings.data
    sets = label_sets(Path(data.folder), data.train, data.landmarks)
    split = labelled_images(settings, settings.for_net(name).records.scale_balance, sets)
    refuse_too_few(settings, split)
    recipe = _recipe(settings, name, nets) | {"annotations": fingerprint(split)}
    folder, planned = run / "records" / name, thinning.plan(split, settings, name, bool(nets))
    recipe, kept = thinning.take_over(None if force else folder, recipe, name, planned)
    stage = manifest.Stage(folder, recipe, f"{name}-data")
    chunks = list(_chunks(split, settings.for_net(name).records.images_per_shard))
    checked = _checked_images(settings, name, run, sets, split)
    if not force:
        _forget_changed(stage, chunks, checked.digests)
    if not stage.begin(force):
        return
    run_recipe.keep(run, settings)
    for part in SPLITS:
        (stage.folder / part).mkdir(exist_ok=True)
    missing = [chunk for chunk in chunks if not chunk.summary(stage.folder).exists()]
    if len(missing) < len(chunks):
        print(f"{name}-data: goes on; {len(chunks) - len(missing)} of {len(chunks)} chunks done.")
    plan = Plan(settings, name, trained, checked.problems, kept)
    if missing:
        _fill(plan, _pool(plan, workers, scheduler), stage.folder, missing, checked.digests)
    _finish(stage, chunks, settings.for_net(name), settings.data.max_broken_fraction)


def _checked_images(
    settings: Settings,
    name: NetName,
    run: Path,
    sets: Mapping[str, LabelSet],
    split: Images,
) -> label_check.Checked:
    """Facts about the images; refused are labels that do not fit, and too many broken images."""
    checked = label_check.check(settings, sets, split, run, loud=name == NETS[0])
    total = sum(map(len, split.values()))
    label_check.refuse_broken(checked.problems, total, settings.data.max_broken_fraction)
    check_counts(split, settings.data.validation_fraction)
    return checked


def _forget_changed(stage: manifest.Stage, chunks: list[Chunk], digests: Mapping[str, str]) -> None:
    """Have chunks cut again whose images changed meanwhile; of complete records, refuse them.

    Raises:
        UserError: the records are complete, and an image is another than the one they were cut
            from; names it.
    """
    found = manifest.read_manifest(stage.folder)
    if found is None or manifest.describe_changes(found["recipe"], manifest.flatten(stage.recipe)):
        return
    changed: dict[str, Path] = {}
    for path in (chunk.summary(stage.folder) for chunk in chunks):
        images = json.loads(path.read_text()).get("images", {}) if path.exists() else {}
        changed |= {key: path for key, digest in images.items() if digests.get(key) != digest}
    if changed and found["complete"]:
        names = ", ".join([*changed][:MAX_NAMED]) + (", ..." if len(changed) > MAX_NAMED else "")
        raise UserError(
            f"{len(changed)} images changed since {stage.folder} was cut from them ({names}): "
            f"`{make_command(stage.command, FORCE=1)}` cuts all anew, RUN= names another folder."
        )
    for path in set(changed.values()):
        path.unlink()


def _miners(settings: Settings, name: NetName, run: Path) -> dict[NetName, Path]:
    """The nets that propose windows for this one, and their files."""
    mined_by = settings.for_net(name).records.mined_by
    if mined_by is not None:
        return {name: Path(mined_by)}
    earlier = NETS[: NETS.index(name)]
    for net in earlier:
        manifest.require_complete(run / net, f"train-{net}")
    if earlier:
        require_survival(run, earlier[-1], settings.data.min_survival)
    return {net: run / net / "weights.npz" for net in earlier}


def _recipe(settings: Settings, name: NetName, nets: Mapping[NetName, Path]) -> dict[str, Any]:
    """The settings and inputs that decide the content of the records."""
    whole = to_dict(settings)
    recipe = {key: whole[key] for key in ("seed", "data", "labels")}
    for key in NOT_IN_RECIPE:
        recipe["data"].pop(key)
    if settings.data.landmarks:
        recipe["data"].pop("landmarks")  # as in records from before it could be false
    records = {key: value for key, value in whole[name]["records"].items() if key != "mined_by"}
    recipe[name] = {"records": records, "size": whole[name]["net"]["size"]}
    recipe["schema"] = SCHEMA_VERSION
    if nets:
        recipe["detector"] = {k: v for k, v in whole["detector"].items() if k != "thresholds"}
        digests = {net: manifest.digest(weight_files.files(path)) for net, path in nets.items()}
        recipe["nets"] = {net: digest[:16] for net, digest in digests.items()}
    return recipe


def _chunks(split: Images, images_per_shard: int) -> Iterator[Chunk]:
    for part in SPLITS:
        for number, start in enumerate(range(0, len(split[part]), images_per_shard)):
            yield Chunk(part, number, list(split[part][start : start + images_per_shard]))


def _pool(plan: Plan, workers: int, scheduler: str | None) -> Pool:
    if scheduler is None:
        return LocalPool(plan, workers)
    from data_prep.cluster import ClusterPool

    return ClusterPool(plan, scheduler)


def _fill(
    plan: Plan, pool: Pool, folder: Path, chunks: list[Chunk], digests: Mapping[str, str]
) -> None:
    """Cut chunks in the workers, piece by piece; write them here, in order."""
    total = sum(len(chunk.images) for chunk in chunks)
    pieces = [piece for chunk in chunks for piece in chunk.pieces()]
    ahead = 2 * max(len(chunk.pieces()) for chunk in chunks)  # two chunks for each worker
    made: Counter[str] = Counter()
    with (
        tqdm(total=total, unit="img", desc=f"{plan.name}-data", smoothing=0.05) as bar,
        contextlib.closing(cut_in_order(pool, pieces, ahead)) as cuts,
    ):
        for chunk in chunks:
            parts = []
            for piece, cut in itertools.islice(cuts, len(chunk.pieces())):
                parts.append(cut)
                bar.update(len(piece.images))
            whole = Cut.joined(parts, plan.stored_size)
            made.update(_write(folder, chunk, whole, digests))
            bar.set_postfix_str(f"{sum(made.values())} crops")


def _write(
    folder: Path, chunk: Chunk, cut: Cut, digests: Mapping[str, str]
) -> dict[SampleType, int]:
    """Write a chunk's shards, then its summary; returns the number of crops of each kind."""
    tf_setup.import_tensorflow()  # takes seconds, while the workers cut on
    from data_prep import records

    for kind in SAMPLE_TYPES:
        records.write_shard(chunk.shard(folder, kind), cut.crops[kind], kind)
    counts = {kind: len(cut.crops[kind].images) for kind in SAMPLE_TYPES}
    images = {one.annotation.key: digests[one.annotation.key] for one in chunk.images}
    summary = json.dumps({"counts": counts, "broken": cut.broken, "images": images})
    write_atomically(chunk.summary(folder), summary.encode())
    return counts


def _finish(
    stage: manifest.Stage, chunks: list[Chunk], net: NetSettings, max_broken_fraction: float
) -> None:
    """Complete the manifest, unless too many images are broken."""
    summaries = [json.loads(chunk.summary(stage.folder).read_text()) for chunk in chunks]
    broken = {path: reason for one in summaries for path, reason in one["broken"].items()}
    images = sum(len(chunk.images) for chunk in chunks)
    if len(broken) > max_broken_fraction * images:
        for chunk, summary in zip(chunks, summaries, strict=True):
            if summary["broken"]:
                chunk.summary(stage.folder).unlink()  # read again by the next call
    label_check.refuse_broken(broken, images, max_broken_fraction)
    tf_setup.import_tensorflow()
    from data_prep import crop_sheet

    counts: dict[str, Counter[str]] = {part: Counter() for part in SPLITS}
    for chunk, summary in zip(chunks, summaries, strict=True):
        counts[chunk.split].update(summary["counts"])
    shards = [chunk.shard(stage.folder, kind) for chunk in chunks for kind in SAMPLE_TYPES]
    facts = {"images": images, "broken": broken, "counts": counts, "shards": len(shards)}
    crop_sheet.write(stage.folder / SHEET, stage.folder / "train", net.stored_size, net.net.size)
    stage.finish(facts | {"sha256": manifest.digest(shards)})
    by_kind = ", ".join(f"{counts['train'][kind]} {kind}" for kind in SAMPLE_TYPES)
    print(
        f"{stage.command}: {by_kind} crops to train on, "
        f"{sum(counts['validation'].values())} to validate; {len(broken)} images left out"
        + (f": {first_sentences([*broken.values()])}." if broken else ".")
    )
