"""`python -m data_prep`: images and annotations into TFRecords."""

import argparse
import os
from pathlib import Path

from data_prep import download
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from pipeline import cli, folders
from pipeline.cli import run_cli


def main() -> None:
    """Parse the command line and run one command."""
    arguments = _parser().parse_args()
    if arguments.command == "wider":
        download.download_wider(arguments.folder, arguments.url)
    elif arguments.command == "sample":
        from data_prep.sample_faces import compose

        compose(arguments.folder, arguments.train, arguments.validation, arguments.seed)
    elif arguments.command == "labels":
        _labels(arguments)
    else:
        _records(arguments)


def _labels(arguments: argparse.Namespace) -> None:
    from data_prep.label_check import check
    from data_prep.sources import label_sets, labelled_images

    run = cli.open_run(arguments)
    sets = label_sets(Path(run.settings.data.folder), run.settings.data.train)
    images = labelled_images(run.settings, 0, sets)
    check(run.settings, sets, images, run.folder, loud=True)


def _records(arguments: argparse.Namespace) -> None:
    from data_prep.build_records import prepare

    run = cli.open_run(arguments)
    if arguments.workers < 1:
        raise UserError(f"--workers must be at least 1; got {arguments.workers}.")
    with folders.locked(run.folder):
        prepare(
            run.settings,
            arguments.command,
            run.folder,
            arguments.workers,
            arguments.force,
            arguments.scheduler,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_prep", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in NETS:
        records = commands.add_parser(name, help=f"make the records that {name} is trained on")
        cli.add_arguments(records)
        cores = os.cpu_count() or 1
        records.add_argument("--workers", type=int, default=cores, help="processes (%(default)s)")
        records.add_argument(
            "--scheduler", metavar="ADDRESS", help="a Dask scheduler whose workers cut the crops"
        )
    labels = commands.add_parser("labels", help="check the labels of a recipe's sources")
    cli.add_arguments(labels)
    wider = commands.add_parser("wider", help="download WIDER FACE")
    wider.add_argument("--folder", type=Path, default=Path("data"), help="default: %(default)s")
    wider.add_argument("--url", default=download.HUB, help="where the three zips lie (%(default)s)")
    sample = commands.add_parser("sample", help="compose the demo's scenes")
    sample.add_argument("--folder", type=Path, default=Path("data/sample"), help="%(default)s")
    sample.add_argument("--train", type=int, default=240, help="scenes (%(default)s)")
    sample.add_argument("--validation", type=int, default=60, help="scenes (%(default)s)")
    sample.add_argument("--seed", type=int, default=1, help="(%(default)s)")
    return parser


if __name__ == "__main__":
    run_cli(main)
