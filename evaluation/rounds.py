"""The best of the rounds about the cascade that a run has gone.

Rounds are compared by AP on the held-out training pictures, which are the same in every round and
which none has trained on. A net's validation loss would not do: its crops are mined by the nets
before it, and these are others in every round. AP counts the faces that the whole cascade finds
at the recipe's thresholds and its false alarms alike.
"""

import shutil
from pathlib import Path

from configs.settings import Settings
from data_prep.annotations import Annotation
from data_prep.sources import labelled_images
from evaluation import protocol
from evaluation.cli_inputs import exported
from evaluation.detections import detect_all, log_folder, our_runtime, when_needed
from evaluation.protocol import Detections, GroundTruth
from mtcnn_detector import pixels
from mtcnn_detector.boxes import longer_sides
from mtcnn_detector.cascade import Faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.settings import DetectorSettings
from mtcnn_detector.weights import weight_files
from pipeline import manifest

EXPORTS = {"ipazc": "export", "own": "export-own"}  # by export.layout: its stage's folder


def keep_best(settings: Settings, run: Path, force: bool) -> None:
    """Copy the weights of the best of `run/round-*` to `run`; write `run/rounds.md`.

    Raises:
        UserError: there is no round, or one is not complete; or the run has weights that are
            none of the rounds', and `force` is not set.
    """
    rounds = _rounds(run, EXPORTS[settings.export.layout])
    target = run / exported(rounds[0]).name
    if target.exists() and not force:
        digests = [manifest.digest(weight_files.files(exported(folder))) for folder in rounds]
        if manifest.digest(weight_files.files(target)) not in digests:
            raise UserError(
                f"{target} is no round's: move it away (FORCE=1 replaces it, and makes all rounds "
                "anew)."
            )
    split = labelled_images(settings, settings.pnet.records.scale_balance)["validation"]
    labelled = [picture.annotation for picture in split if "positive" in picture.sample_types]
    # The stages have left out a few, too (data.max_broken_fraction).
    held_out = [one for one in labelled if pixels.read_image(one.image) is not None]
    truths = {annotation.key: _truth(annotation, settings.data.min_face) for annotation in held_out}
    figures: dict[Path, float] = {}
    for folder in rounds:
        weights = exported(folder)
        found = _found(folder, weights, settings.detector, held_out)
        detections = {key: Detections(faces.boxes, faces.scores) for key, faces in found.items()}
        figures[folder] = protocol.average_precision(detections, truths).ap
    best = max(figures, key=lambda folder: figures[folder])  # the first of equals
    _copy(exported(best), target)
    rows = [f"| {folder.name} | {ap:.4f} |" for folder, ap in figures.items()]
    head = f"AP on {len(held_out)} held-out pictures:\n\n| round | AP |\n| --- | --- |\n"
    text = head + "\n".join(rows)
    (run / "rounds.md").write_text(text + "\n", encoding="utf-8")
    print(f"{text}\n{best.name} is kept: {target}")


def _found(
    folder: Path, weights: Path, settings: DetectorSettings, held_out: list[Annotation]
) -> dict[str, Faces]:
    """What a round's cascade finds, by picture; kept in the round's folder."""
    runtime = our_runtime()
    log = log_folder(folder / "evaluation", weights, settings, runtime) / "held-out.jsonl"
    seen = detect_all(when_needed(runtime, weights, settings), held_out, log)
    return {key: picture.faces for key, picture in seen.items()}


def _rounds(run: Path, export: str) -> list[Path]:
    """The rounds' folders, in their order."""
    numbered = {path.name.removeprefix("round-"): path for path in run.glob("round-*")}
    found = [numbered[n] for n in sorted((n for n in numbered if n.isdecimal()), key=int)]
    if not found:
        raise UserError(f"{run} holds no round-1: `make rounds` trains the rounds.")
    for folder in found:
        manifest.require(folder / export, "rounds")
    return found


def _truth(annotation: Annotation, min_face: int) -> GroundTruth:
    """Faces that no net is trained on are neither missed nor false alarms."""
    ignored = annotation.ignored | (longer_sides(annotation.boxes) < min_face)
    return GroundTruth(annotation.key, annotation.boxes, ignored)


def _copy(source: Path, target: Path) -> None:
    draft = target.with_name(target.name + ".tmp")
    if source.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(source, draft)
    else:
        shutil.copy2(source, draft)
    manifest.put(draft, target)
