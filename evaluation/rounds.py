"""Model selection among the rounds of a run: the weights of the best round become the run's.

Rounds are compared by AP on the held-out training images, which are the same in every round and
are never trained on. The validation loss of a net would not do: its crops are mined by the nets
before it, which differ from round to round. AP counts both the faces that the whole cascade finds
at the recipe's thresholds and its false alarms.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from configs.settings import Settings
from data_prep.annotations import Annotation
from evaluation import protocol
from evaluation.cli_inputs import exported, refuse_stale
from evaluation.data_sets import held_out, usable
from evaluation.detections import detect_all, lazy_detector, log_folder, our_runtime
from evaluation.metrics import scored_boxes
from evaluation.protocol import Detections, GroundTruth
from mtcnn_detector.boxes import longer_sides
from mtcnn_detector.errors import UserError
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files
from pipeline import folders, manifest
from pipeline.make_command import make_command
from pipeline.stages import EXPORT_FOLDERS, rounds_of
from pipeline.status import rounds_again


def keep_best(settings: Settings, run: Path, force: bool) -> None:
    """Copy the weights of the best of `run/round-*` to `run`; write `run/rounds.md`.

    Raises:
        UserError: there is no round, or one is not complete; or the run's weights are of none
            of the rounds, and `force` is not set.
    """
    rounds = _rounds(run, EXPORT_FOLDERS[settings.export.layout])
    target = run / exported(rounds[0]).name
    if target.exists() and not force:
        _refuse_foreign(target, rounds)
    images = _held_out(settings)
    truths = {annotation.key: _truth(annotation, settings.data.min_face) for annotation in images}
    precision: dict[Path, float] = {}
    for folder in rounds:
        found = _detections(folder, settings.detector, images)
        precision[folder] = protocol.average_precision(found, truths).ap
    best = max(precision, key=lambda folder: precision[folder])  # the first of equals
    _copy(exported(best), target)
    rows = [f"| {folder.name} | {ap:.4f} |" for folder, ap in precision.items()]
    head = f"AP on {len(images)} held-out images:\n\n| round | AP |\n| --- | --- |\n"
    text = head + "\n".join(rows)
    (run / "rounds.md").write_text(text + "\n", encoding="utf-8")
    print(f"{text}\n{best.name} is kept: {target}")


def _refuse_foreign(target: Path, rounds: Sequence[Path]) -> None:
    digests = [manifest.digest(weight_files.files(exported(folder))) for folder in rounds]
    if manifest.digest(weight_files.files(target)) not in digests:
        raise UserError(
            f"{target} is no round's: move it away (FORCE=1 replaces it, and makes all rounds "
            "anew)."
        )


def _held_out(settings: Settings) -> list[Annotation]:
    """Held-out images with labelled faces, without those that training leaves out."""
    with_faces = [one for one in held_out(settings) if "positive" in one.sample_types]
    return usable("held-out images", [one.annotation for one in with_faces])


def _detections(
    folder: Path, settings: DetectorSettings, images: Sequence[Annotation]
) -> dict[str, Detections]:
    """The detections of a round's cascade, by image key; logged in the round's folder."""
    runtime, weights = our_runtime(), exported(folder)
    refuse_stale(weights)
    log = log_folder(folder / "evaluation", weights, settings, runtime) / "held-out.jsonl"
    found = detect_all(lazy_detector(runtime, weights, settings), images, log)
    return scored_boxes(found)


def _rounds(run: Path, export: str) -> list[Path]:
    """The folders of the rounds, in their order."""
    rounds = rounds_of(run)
    if not rounds:
        raise UserError(f"{run} holds no round-1: `{make_command('rounds')}` trains the rounds.")
    for folder in rounds:
        manifest.require_complete(folder / export, "rounds", rounds_again(run, rounds))
    return rounds


def _truth(annotation: Annotation, min_face: int) -> GroundTruth:
    """Faces that no net is trained on are neither missed nor false alarms."""
    ignored = annotation.ignored | (longer_sides(annotation.boxes) < min_face)
    return GroundTruth(annotation.boxes, ignored)


def _copy(source: Path, target: Path) -> None:
    draft = target.with_name(target.name + ".tmp")
    if source.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(source, draft)
    else:
        shutil.copy2(source, draft)
    folders.replace(draft, target)
