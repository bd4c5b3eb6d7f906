"""The report of weights beside others: one page of figures, curves and pictures of mistakes."""

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from configs.settings import Settings
from evaluation import detections, error_analysis, metrics, page, plots, sweep, visualization
from evaluation.error_analysis import DetectionError
from evaluation.metrics import BoxScore, LandmarkFigures, Score
from mtcnn_detector.files import write_atomically
from pipeline import manifest

TILES, OF_ONE_PICTURE = 12, 3  # shown of each span of sizes
COLOURS = "Red: {}; green: what was reported; white: labelled faces."


@dataclass(frozen=True)
class Judged:
    """Weights files by their labels, the one to look at first, and how they did."""

    weights: Mapping[str, Path]
    scores: Mapping[str, Score]
    settings: Settings
    runtime: str


def make(settings: Settings, files: Mapping[str, Path], folder: Path, package: Path | None) -> None:
    """Judge weights files by their labels and write the report into `folder`; print where.

    Detections are logged below `folder` and gone on with. `package` is the folder of the real
    mtcnn 0.1.1 to run in place of our detector.
    """
    runtime = detections.package_runtime(package) if package else detections.our_runtime()
    scores = {}
    for label, weights in files.items():
        print(f"{label}: {weights}")
        detector = detections.when_needed(runtime, weights, settings.detector)
        log = detections.log_folder(folder / "logs", weights, settings.detector, runtime)
        scores[label] = metrics.score(settings, detector, log)
    told = f"mtcnn 0.1.1 from {package}" if package else "Our detector"
    target = write(Judged(files, scores, settings, told), folder)
    print(f"{(folder / 'figures.md').read_text(encoding='utf-8')}{folder / 'figures.md'}\n{target}")


def make_sweep(
    settings: Settings, weights: Path, folder: Path, count: int, package: Path | None
) -> None:
    """Run or resume the sweep; write `sweep.md` and `sweep.png` into `folder` and print them.

    Args:
        settings: The recipe: its validation pictures and its detector's settings.
        weights: A file with all three nets.
        folder: Where the detections and the results go.
        count: How many of the pictures to look at, evenly chosen.
        package: The folder of the real mtcnn 0.1.1 to run in place of our detector.

    Raises:
        UserError: no source has labelled boxes.
    """
    runtime = detections.package_runtime(package) if package else detections.our_runtime()
    pictures = sweep.choose(settings, count)
    results = sweep.measure(settings.detector, runtime, weights, pictures, folder / "logs")
    opening = (
        f"{weights} on {len(pictures)} pictures; **bold**: the recipe's values. Times are of the "
        "machine as it was, one setting after another."
    )
    text = f"{opening}\n\n{sweep.table(results)}"
    (folder / "sweep.md").write_text(text + "\n", encoding="utf-8")
    print(f"{text}\n{folder / 'sweep.md'}")
    if plots.at_hand():
        plots.sweep(results, folder / "sweep.png")
        print(folder / "sweep.png")


def write(judged: Judged, folder: Path) -> Path:
    """Write `report.html`, and what is in it as `figures.md`, `report.json`, `detections.jpg`.

    The report before is replaced, which is said when it was about something else.

    Returns:
        The page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns = {label: metrics.figures(one) for label, one in judged.scores.items()}
    _write_json(judged, columns, folder / "report.json")
    (folder / "figures.md").write_text(metrics.table(columns) + "\n", encoding="utf-8")
    first, *others = judged.scores.values()
    parts = [*_opening(judged), _figures(columns), *_curves(judged.scores)]
    for name, boxes in first.boxes.items():
        parts += _missed(name, boxes, others[0].boxes[name] if others else None)
        parts += _false_alarms(name, boxes, others[0].boxes[name] if others else None)
    for name, landmarks in first.landmarks.items():
        parts += _worst_landmarks(name, landmarks)
    if visualization.draw_sheet(first, folder / "detections.jpg"):
        parts += [
            page.heading("Some pictures"),
            page.paragraph("Found: green, with the score and the five landmarks. Missed: red."),
            page.image((folder / "detections.jpg").read_bytes(), "jpeg", "detections"),
        ]
    target = folder / "report.html"
    target.write_text(page.page(f"Evaluation of {next(iter(columns))}", parts), encoding="utf-8")
    return target


def _write_json(judged: Judged, columns: Mapping[str, metrics.Figures], target: Path) -> None:
    inputs = manifest.flat(
        {
            "weights": {label: str(path) for label, path in judged.weights.items()},
            "runtime": judged.runtime,
            "detector": asdict(judged.settings.detector),
            "data": {name: _labels(judged, name) for name in judged.settings.data.validation},
        }
    )
    if target.exists():
        before = json.loads(target.read_text(encoding="utf-8"))["inputs"]
        if changed := manifest.changes(before, inputs):
            print(f"note: the report that was in {target.parent} is replaced ({changed}).")
    content = json.dumps({"inputs": inputs, "figures": columns}, indent=1) + "\n"
    write_atomically(target, content.encode())


def _labels(judged: Judged, name: str) -> str:
    data = judged.settings.data
    return str(Path(data.folder) / data.validation[name].labels)


def _opening(judged: Judged) -> Iterator[str]:
    detector = judged.settings.detector
    thresholds = ", ".join(f"{threshold:g}" for threshold in detector.thresholds)
    yield page.paragraph(
        f"{judged.runtime}; faces from {detector.min_face_size} px, scale factor "
        f"{detector.scale_factor:g}, thresholds {thresholds}. A face is found when a box overlaps "
        "it at IoU 0.5; every other box is a false alarm, also a second one on the same face."
    )
    first = next(iter(judged.scores.values()))
    counts = {name: len(one.pictures) for name, one in first.boxes.items()}
    counts |= {name: len(one.pictures) for name, one in first.landmarks.items()}
    for label, path in judged.weights.items():
        yield page.paragraph(f"{label}: `{path}`")
    for name, count in counts.items():
        yield page.paragraph(f"{name}: {count} pictures, `{_labels(judged, name)}`")


def _figures(columns: Mapping[str, metrics.Figures]) -> str:
    rows = list(dict.fromkeys(row for figures in columns.values() for row in figures))
    cells = [[row, *(figures.get(row, "") for figures in columns.values())] for row in rows]
    return page.table(["", *columns], cells)


def _curves(scores: Mapping[str, Score]) -> Iterator[str]:
    first = next(iter(scores.values()))
    if not plots.at_hand():
        yield page.paragraph(plots.MISSING)
        return
    for name in first.boxes:
        yield page.heading(f"{name}: precision and recall")
        yield _plot(plots.precision_recall, scores, name)
        yield _plot(plots.recall_by_size, scores, name)
    for name in first.landmarks:
        yield page.heading(f"{name}: landmarks")
        yield _plot(plots.landmark_errors, scores, name)


def _plot(
    draw: Callable[[Mapping[str, Score], str, IO[bytes]], None],
    scores: Mapping[str, Score],
    name: str,
) -> str:
    content = io.BytesIO()
    draw(scores, name, content)
    return page.image(content.getvalue(), "png", f"{name}: {draw.__name__}")


def _missed(name: str, boxes: BoxScore, other: BoxScore | None) -> Iterator[str]:
    lost = error_analysis.missed(boxes, other)
    yield page.heading(f"{name}: what was missed")
    yield page.table(*error_analysis.count_kinds(lost))
    beside = ""
    if other:
        rescued = sum(miss.other > 0 for miss in lost)
        won = sum(miss.other > 0 for miss in error_analysis.missed(other, boxes))
        beside = (
            f"The other weights find {rescued} of them, which come first here; they miss {won} "
            "that these find. "
        )
    yield page.paragraph(
        f"“Lost by” names the net after which no box was left on the face. "
        f"{beside}{COLOURS.format('the missed face')}"
    )
    yield from _by_size(lost, _told_miss)


def _false_alarms(name: str, boxes: BoxScore, other: BoxScore | None) -> Iterator[str]:
    alarms = error_analysis.false_alarms(boxes, other)
    yield page.heading(f"{name}: the worst false alarms")
    yield page.table(*error_analysis.count_kinds(alarms))
    yield page.paragraph(
        f"The highest scores come first. {COLOURS.format('the false alarm')} Look twice: some are "
        "faces that nobody labelled."
    )
    yield from _by_size(alarms, _told_alarm)


def _worst_landmarks(name: str, landmarks: LandmarkFigures) -> Iterator[str]:
    errors = landmarks.landmarks.errors
    yield page.heading(f"{name}: the worst landmarks")
    yield page.paragraph("White rings: the labelled landmarks; green: the reported ones.")
    rows = [
        row for row in zip(landmarks.pictures, landmarks.seen, strict=True) if row[0].key in errors
    ]
    rows.sort(key=lambda row: -errors[row[0].key])
    yield page.tiles(
        page.Tile(
            visualization.as_jpeg(visualization.landmarks_tile(picture, seen.faces)),
            [f"error {100 * errors[picture.key]:.1f} %"],
            picture.image.name,
            picture.image,
        )
        for picture, seen in rows[:TILES]
    )


def _by_size(
    every: Sequence[DetectionError], told: Callable[[DetectionError], list[str]]
) -> Iterator[str]:
    for label, within in error_analysis.in_spans(every).items():
        shown = error_analysis.some(within, TILES, OF_ONE_PICTURE)
        yield page.heading(f"{label} (px): {len(shown)} of {len(within)}", 3)
        yield page.tiles(_tile(mistake, told(mistake)) for mistake in shown)


def _tile(mistake: DetectionError, told: list[str]) -> page.Tile:
    beside = [f"the other weights: {mistake.other:.3f}"] if mistake.other else []
    path, jpeg = mistake.picture.image, visualization.as_jpeg(visualization.mistake_tile(mistake))
    return page.Tile(jpeg, [*told, *beside], path.name, path)


def _told_miss(miss: DetectionError) -> list[str]:
    near = [f"IoU {miss.overlap:.2f} at {miss.score:.3f}"] if miss.score else []
    return [f"{miss.side:.0f} px: {miss.kind}", *near]


def _told_alarm(alarm: DetectionError) -> list[str]:
    near = [f"IoU {alarm.overlap:.2f}"] if alarm.overlap >= error_analysis.NEAR else []
    return [f"{alarm.score:.3f}, {alarm.side:.0f} px", ", ".join([alarm.kind, *near])]
