"""The report of an evaluation: an HTML page, metrics as Markdown and JSON, a sheet of images."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from configs.settings import Settings
from evaluation import detections, metrics, plots, report_page, sweep, visualization
from evaluation.metrics import Score
from mtcnn_detector.files import write_atomically
from pipeline import manifest


@dataclass(frozen=True)
class Evaluation:
    """Scores of weights files by their labels, and how they were measured."""

    weights: Mapping[str, Path]
    scores: Mapping[str, Score]
    settings: Settings
    runtime: str  # in words


def make(settings: Settings, files: Mapping[str, Path], folder: Path, package: Path | None) -> None:
    """Evaluate weights files, by their labels; write the report into `folder` and print where.

    Detections are logged below `folder` and resumed. `package` is the folder of the original
    mtcnn 0.1.1 to run in place of our detector.
    """
    runtime = detections.package_runtime(package) if package else detections.our_runtime()
    scores = {}
    for label, weights in files.items():
        print(f"{label}: {weights}")
        detector = detections.lazy_detector(runtime, weights, settings.detector)
        log = detections.log_folder(folder / "logs", weights, settings.detector, runtime)
        scores[label] = metrics.score(settings, detector, log)
    description = f"mtcnn 0.1.1 from {package}" if package else "Our detector"
    target = write(Evaluation(files, scores, settings, description), folder)
    print(f"{(folder / 'figures.md').read_text(encoding='utf-8')}{folder / 'figures.md'}\n{target}")


def make_sweep(
    settings: Settings, weights: Path, folder: Path, count: int, package: Path | None
) -> None:
    """Run or resume the sweep; write `sweep.md` and `sweep.png` into `folder` and print them.

    Args:
        settings: The recipe: its validation images and its detector's settings.
        weights: A file with all three nets.
        folder: Where the detections and the results go.
        count: Number of images, evenly spaced over all.
        package: The folder of the original mtcnn 0.1.1 to run in place of our detector.

    Raises:
        UserError: no source has labelled boxes.
    """
    runtime = detections.package_runtime(package) if package else detections.our_runtime()
    annotations = sweep.choose(settings, count)
    results = sweep.measure(settings.detector, runtime, weights, annotations, folder / "logs")
    opening = (
        f"{weights} on {len(annotations)} images; **bold**: the recipe's values. Settings were "
        "timed one after another, so their times also depend on the load of the machine."
    )
    text = f"{opening}\n\n{sweep.table(results)}"
    (folder / "sweep.md").write_text(text + "\n", encoding="utf-8")
    print(f"{text}\n{folder / 'sweep.md'}")
    if plots.available():
        plots.sweep(results, folder / "sweep.png")
        print(folder / "sweep.png")


def write(evaluation: Evaluation, folder: Path) -> Path:
    """Write `report.html`, and parts of it as `figures.md`, `report.json`, `detections.jpg`.

    An earlier report is replaced; a note is printed when its inputs were others.

    Returns:
        The page's path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns = {label: metrics.figures(score) for label, score in evaluation.scores.items()}
    _write_json(evaluation, columns, folder / "report.json")
    (folder / "figures.md").write_text(metrics.table(columns) + "\n", encoding="utf-8")
    first, sheet = next(iter(evaluation.scores.values())), folder / "detections.jpg"
    page = report_page.render(
        evaluation.scores,
        sheet.read_bytes() if visualization.draw_sheet(first, sheet) else None,
        title=f"Evaluation of {next(iter(columns))}",
        runtime=evaluation.runtime,
        detector=evaluation.settings.detector,
        weights=evaluation.weights,
        sources=_sources(evaluation),
    )
    target = folder / "report.html"
    target.write_text(page, encoding="utf-8")
    return target


def _write_json(
    evaluation: Evaluation, columns: Mapping[str, metrics.Figures], target: Path
) -> None:
    inputs = manifest.flatten(
        {
            "weights": {label: str(path) for label, path in evaluation.weights.items()},
            "runtime": evaluation.runtime,
            "detector": asdict(evaluation.settings.detector),
            "data": {
                name: _labels(evaluation, name) for name in evaluation.settings.data.validation
            },
        }
    )
    if target.exists():
        before = json.loads(target.read_text(encoding="utf-8"))["inputs"]
        if changed := manifest.describe_changes(before, inputs):
            print(f"note: the report that was in {target.parent} is replaced ({changed}).")
    content = json.dumps({"inputs": inputs, "figures": columns}, indent=1) + "\n"
    write_atomically(target, content.encode())


def _labels(evaluation: Evaluation, name: str) -> str:
    data = evaluation.settings.data
    return str(Path(data.folder) / data.validation[name].labels)


def _sources(evaluation: Evaluation) -> list[report_page.Source]:
    first = next(iter(evaluation.scores.values()))
    counts = {name: len(one.annotations) for name, one in first.boxes.items()}
    counts |= {name: len(one.annotations) for name, one in first.landmarks.items()}
    return [
        report_page.Source(name, count, _labels(evaluation, name)) for name, count in counts.items()
    ]
