"""`python -m export`: trained nets into the file that other packages load."""

import argparse
from pathlib import Path

from configs import quiet, recipe, stages
from configs.errors import run_cli
from configs.settings import NETS


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    recipe.add_arguments(parser)
    for name in NETS:
        parser.add_argument(
            f"--{name}",
            type=Path,
            metavar="FILE",
            help=f"take {name} from this weights file (.npz or ipazc's .npy)",
        )
    arguments = parser.parse_args()
    settings = recipe.load(arguments.config, arguments.set)
    given = {name: vars(arguments)[name] for name in NETS if vars(arguments)[name]}
    quiet.import_tensorflow()  # it takes seconds: first the command line's faults
    from export.merge import merge

    with stages.locked(arguments.run):
        merge(arguments.run, given, arguments.force, settings.export.layout)


if __name__ == "__main__":
    run_cli(main)
