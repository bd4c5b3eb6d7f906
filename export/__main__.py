"""`python -m export`: trained nets into the files that other packages load."""

import argparse
import sys
from pathlib import Path

from configs import recipe
from export.formats import FORMATS
from mtcnn_detector.net import NETS
from pipeline import cli, manifest, tf_setup
from pipeline.cli import run_cli


def main() -> None:
    """Parse the command line and export, or inspect."""
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    cli.add_arguments(parser)
    for name in NETS:
        parser.add_argument(
            f"--{name}",
            type=Path,
            metavar="FILE",
            help=f"take {name} from this weights file, of any layout, or folder of such files",
        )
    parser.add_argument(
        "--format", choices=FORMATS, help="what is written (the recipe's export.layout)"
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="for tflite-int8: pictures with faces, from which it takes the ranges of its values",
    )
    commands = parser.add_subparsers(dest="command", metavar="")
    looking = commands.add_parser("inspect", help="tell what a weights file is; runs nothing in it")
    looking.add_argument("file", type=Path, help="a weights file, or a folder of a layout's files")
    arguments = parser.parse_args()
    settings = recipe.load(arguments.config, arguments.set)
    kind = arguments.format or settings.export.layout
    tf_setup.import_tensorflow()  # it takes seconds: first the command line's faults
    if arguments.command:
        _inspect(arguments.file)
    else:
        _merge(arguments, kind)


def _inspect(file: Path) -> None:
    from export.inspect import inspect

    if not inspect(file):
        sys.exit("error: a check has failed.")


def _merge(arguments: argparse.Namespace, kind: str) -> None:
    from export.merge import merge

    given = {name: vars(arguments)[name] for name in NETS if vars(arguments)[name]}
    with manifest.locked(arguments.run):
        merge(arguments.run, given, arguments.force, kind, arguments.pictures)


if __name__ == "__main__":
    run_cli(main)
