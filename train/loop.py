"""Training of one net: its records into weights, by Keras' `fit`; continues where it was killed."""

import importlib.util
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from configs.recipe import refuse_unless_exportable, to_dict
from configs.settings import Settings
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from mtcnn_detector.weights import weight_files
from pipeline import custom_code, folders, manifest, run_recipe
from pipeline.make_command import make_command
from train import custom, dataset, loading, plot_curves
from train.callbacks import Checkpoint, StopAtCtrlC, StopAtLastStep, StopOnNonFinite, Validation
from train.log import best_row
from train.progress import Progress
from train.trainable_net import adopt_init, build_trainable, with_heads_of_init


def train(settings: Settings, name: NetName, run: Path, force: bool = False) -> None:
    """Train a net on `run/records/<name>` into `run/<name>`; goes on where it was killed.

    A training with more steps than the folder's goes on from its last checkpoint. With no steps
    the net is adopted from its init, and needs no records. The run is locked meanwhile.

    Args:
        settings: the recipe.
        name: the net.
        run: the folder of the run.
        force: whether the work of another recipe is replaced.

    Raises:
        UserError: records are missing or damaged; the loss is not finite; the export's layout
            cannot hold a net of the recipe; the recipe's own code cannot be used; see
            `pipeline.manifest`.
    """
    refuse_unless_exportable(settings)
    _refuse_replicas()
    with folders.locked(run):
        _train(settings, name, run, force)


def _train(settings: Settings, name: NetName, run: Path, force: bool) -> None:
    steps, records_folder = settings.for_net(name).train.steps, run / "records" / name
    records = manifest.require_complete(records_folder, f"{name}-data") if steps else {}
    if steps:
        _refuse_other_records(records["recipe"], settings, name, run)
    recipe = _recipe(settings, name, records)
    recipe |= _box_target(settings, name, None if force else run) if steps else {}
    stage = manifest.Stage(run / name, recipe, f"train-{name}")
    custom.load_functions(settings.for_net(name).train, name)
    if force:
        _refuse_own_start(settings, name, stage.folder)
    if not stage.begin(force, may_grow=[f"{name}.train.steps"]):
        return
    run_recipe.keep(run, settings)
    keras.utils.set_random_seed(settings.seed)
    tf.config.experimental.enable_op_determinism()  # a resumed training must end the same
    if steps:
        crops, held_out = _load(records_folder, name, settings.for_net(name).stored_size, records)
        figures = _fit(_limited(settings, name, crops), name, stage.folder, crops, held_out)
        known = {key: value for key, value in figures.items() if math.isfinite(value)}
        result = ", ".join(f"{key} {value:.4f}" for key, value in known.items())
    else:
        adopt_init(settings, name, stage.folder)
        known, result = {}, "taken over"
    weights = stage.folder / "weights.npz"
    # Only the last net's landmarks leave the cascade.
    without = name == NETS[-1] and not weight_files.read_net(weights, name).net.landmarks
    stage.finish({"validation": known} | ({"landmarks": False} if without else {}))
    print(f"train-{name}: {result}{'; no landmark head' * without}; {weights}")


def _refuse_own_start(settings: Settings, name: NetName, folder: Path) -> None:
    """Refuse to remove the weights that the training starts from, with what was made before."""
    train = settings.for_net(name).train
    for key, path in (("init", train.init), ("teacher", train.teacher)):
        files = [] if path is None else weight_files.files(Path(path))
        if any(folder.resolve() in file.resolve().parents for file in files):
            raise UserError(
                f"{path}, which {name}.train.{key} names, is in {folder}, which FORCE=1 removes: "
                "name another run's folder by RUN=."
            )


def _refuse_replicas() -> None:
    """Training on several devices would need other batches and another mean of the losses."""
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        raise UserError(
            f"a net is trained on one device, but the strategy in use has {replicas} replicas: "
            "train outside of its scope; CUDA_VISIBLE_DEVICES=0 chooses one of several GPUs."
        )


def _refuse_other_records(
    recipe: dict[str, Any], settings: Settings, name: NetName, run: Path
) -> None:
    """Refuse records of another recipe, or mined by other nets than the run has now."""
    now = manifest.flatten(to_dict(settings))
    source = "data.train."
    # Another seed may be tried on the same records.
    old = {k: v for k, v in recipe.items() if (k in now and k != "seed") or k.startswith(source)}
    new = {k: v for k, v in now.items() if k in old or k.startswith(source)}
    mined_by = settings.for_net(name).records.mined_by
    for net in NETS:
        if digest := recipe.get(f"nets.{net}"):
            files = weight_files.files(Path(mined_by or run / net / "weights.npz"))
            old[f"the {net} that mined"] = digest
            new[f"the {net} that mined"] = manifest.digest(files)[: len(digest)]
    if changed := manifest.describe_changes(old, new):
        raise UserError(
            f"{run / 'records' / name} was made by another recipe ({changed}): "
            f"`{make_command(f'{name}-data', FORCE=1)}` makes it anew."
        )


def _load(
    folder: Path, name: NetName, size: int, records: dict[str, Any]
) -> tuple[loading.CropSet, loading.CropSet]:
    """The crops to train on and those to validate on."""
    crops, held_out = (
        loading.load(folder, split, size, records["counts"].get(split, {}))
        for split in ("train", "validation")
    )
    if not any(held_out.counts.values()):
        raise UserError(
            f"{folder} holds no crop to validate on: raise data.validation_fraction and "
            f"repeat `{make_command(f'{name}-data', FORCE=1)}`."
        )
    return crops, held_out


def _limited(settings: Settings, name: NetName, crops: loading.CropSet) -> Settings:
    """The recipe with the steps that `max_passes` leaves of a net's training; says so."""
    stage = settings.for_net(name)
    train = stage.train.limited(crops.counts)
    if train.steps < stage.train.steps:
        print(
            f"train-{name}: {train.steps} of {stage.train.steps} steps, which are "
            f"{train.max_passes:g} passes over its crops ({name}.train.max_passes)."
        )
    return settings.with_net(name, replace(stage, train=train))


def _recipe(settings: Settings, name: NetName, records: dict[str, Any]) -> dict[str, Any]:
    """What decides the trained weights."""
    stage = to_dict(settings)[name]
    part = {"net": stage["net"], "train": stage["train"]}
    # Settings without an effect are left out, so that trainings from before they existed match.
    idle = [key for key in ("frozen", "callbacks") if not stage["train"][key]]
    idle += ["box_scale"] if stage["train"]["box_scale"] == 1 else []
    if stage["train"]["teacher"] is None:
        idle.append("distillation_weight")
    for key in idle:
        del stage["train"][key]
    for key in ("init", "teacher"):
        file = stage["train"].pop(key)
        if file is not None:
            part[key] = manifest.digest(weight_files.files(_existing(Path(file), name, key)))[:16]
    if digests := custom_code.digests(settings, name):
        part["custom_code"] = digests
    recipe = {"seed": settings.seed, name: part}
    return recipe | ({"records": records["sha256"][:16]} if records else {})


def _box_target(settings: Settings, name: NetName, run: Path | None) -> dict[str, Any]:
    """The next net's context, which decides the boxes that this net is taught.

    Left out for a run whose training is from before it was kept, so that it still matches.
    """
    before = None if run is None else manifest.read_manifest(run / name)
    kept: dict[str, Any] = {
        following: {"records": {"context": settings.box_target(name)}}
        for following in NETS[NETS.index(name) + 1 :][:1]
    }
    known = before is None or manifest.flatten(kept).keys() <= before["recipe"].keys()
    return kept if known else {}


def _existing(path: Path, name: NetName, key: str) -> Path:
    if not path.exists():
        raise UserError(f"{path}, which {name}.train.{key} names, is not there.")
    return path


def _fit(
    settings: Settings,
    name: NetName,
    folder: Path,
    crops: loading.CropSet,
    held_out: loading.CropSet,
) -> dict[str, float]:
    """Fit from the last checkpoint, or the start, to the last step; the best epoch's figures."""
    settings = with_heads_of_init(settings, name)
    stage = settings.for_net(name)
    train, scale = stage.train, settings.box_target(name) / stage.records.context
    view = dataset.View(stage.net.size, settings.labels, scale)
    model, start = build_trainable(settings, name)
    checkpoint = Checkpoint(folder / "last.weights.h5")
    step = checkpoint.restore(model)
    validation = Validation(stage, name, folder, held_out, start, step, view)
    epoch = len(validation.rows)
    if step:
        print(f"train-{name}: goes on after epoch {epoch}.")
    for gpu in tf.config.list_physical_devices("GPU")[:1]:  # TensorFlow's own message is silenced
        details = tf.config.experimental.get_device_details(gpu)
        print(f"train-{name}: on the GPU {details.get('device_name', gpu.name)}.")
    model.fit(
        dataset.batches(crops, name, train, settings.seed, step, view),
        steps_per_epoch=min(train.steps_per_epoch, train.steps),
        initial_epoch=epoch,
        epochs=epoch + math.ceil((train.steps - step) / train.steps_per_epoch),
        callbacks=[
            StopOnNonFinite(name, train),
            StopAtCtrlC(),
            StopAtLastStep(train.steps),
            validation,
            Progress(name, train.steps),
            *_tensorboard(folder),
            *custom.make_callbacks(settings, name, folder),
            checkpoint,
        ],
        verbose=0,  # `Progress` shows it
        shuffle=False,  # the batches come shuffled
    )
    plot_curves.draw_curves(folder / "log.csv", folder / "curves.png", name)
    return best_row(folder / "log.csv")


def _tensorboard(folder: Path) -> list[keras.callbacks.Callback]:
    if importlib.util.find_spec("tensorboard") is None:
        return []  # an optional extra; the CSV log and the picture are always there
    return [keras.callbacks.TensorBoard(folder / "tensorboard", write_graph=False)]
