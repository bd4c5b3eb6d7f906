"""`python -m evaluation`: figures of weights on labelled pictures."""

import argparse
from pathlib import Path

from configs import quiet, recipe, stages
from configs.errors import UserError, run_cli
from configs.settings import NETS, Settings


def main() -> None:
    """Parse the command line and evaluate."""
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    recall = commands.add_parser("recall", help="faces that survive each net of a run, by size")
    recall.add_argument("net", choices=NETS, help="the last net to look at")
    recipe.add_arguments(recall)
    figures = commands.add_parser("score", help="AP and landmark error of a weights file")
    recipe.add_arguments(figures)
    figures.add_argument(
        "--weights", type=Path, metavar="FILE", help="default: the run's mtcnn_weights.npy"
    )
    figures.add_argument("--against", type=Path, metavar="FILE", help="weights to stand beside it")
    figures.add_argument(
        "--mtcnn",
        type=Path,
        metavar="FOLDER",
        help="run the real mtcnn 0.1.1 from this folder instead of our detector",
    )
    arguments = parser.parse_args()
    settings = recipe.load(arguments.config, arguments.set)
    quiet.import_tensorflow()
    if arguments.command == "recall":
        from evaluation.recall import report

        stages.require(arguments.run / arguments.net, f"train-{arguments.net}")
        report(settings, arguments.net, arguments.run)
    else:
        _score(settings, arguments)


def _score(settings: Settings, arguments: argparse.Namespace) -> None:
    from evaluation import detect, pictures, score

    weights = arguments.weights or arguments.run / "mtcnn_weights.npy"
    columns, folders = {}, []
    for path in filter(None, (weights, arguments.against)):
        if not path.exists():
            raise UserError(
                f"{path} is not there: `make export-weights` writes a run's weights, "
                "WEIGHTS= names other ones."
            )
        runtime = "mtcnn" if arguments.mtcnn else "ours"
        folders.append(score.log_folder(arguments.run, path, settings.detector, runtime))
        if arguments.mtcnn:
            detector = detect.package(path, settings.detector, arguments.mtcnn)
        else:
            detector = detect.ours(path, settings.detector)
        columns[str(path)] = score.score(settings, detector, folders[-1])
    report = arguments.run / "evaluation"
    (report / "figures.md").write_text(score.table(columns) + "\n", encoding="utf-8")
    pictures.draw_sheet(settings, folders[0], report / "detections.jpg")
    print(f"{score.table(columns)}\n{report / 'figures.md'}\n{report / 'detections.jpg'}")


if __name__ == "__main__":
    run_cli(main)
