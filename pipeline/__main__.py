"""`python -m pipeline`: stages in their order, the state of a run, the reference of settings."""

import argparse
from collections.abc import Callable
from pathlib import Path

from configs import recipe, reference
from mtcnn_detector.errors import UserError
from mtcnn_detector.files import write_atomically
from mtcnn_detector.net import NETS, NetName
from pipeline import cli, make_command, run_recipe, sequence, status
from pipeline.cli import run_cli
from pipeline.sequence import Options
from pipeline.stages import ROUNDS, STAGES, StageSpec

REFERENCE = Path("docs/settings.md")


def main() -> None:
    """Parse the command line and run one command."""
    arguments = _parser().parse_args()
    commands: dict[str, Callable[[argparse.Namespace], None]] = {
        "train": _train,
        "finetune": _finetune,
        "rounds": _rounds,
        "status": _status,
        "settings-doc": _settings_doc,
    }
    commands.get(arguments.command, _stage)(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    running = {target: _purpose(stage) for target, stage in STAGES.items()}
    running["train"] = "run all stages in their order"
    running["finetune"] = "train nets from existing weights, take over the others"
    running["rounds"] = "train the cascade several times, each from the nets before"
    for name, description in running.items():
        command = commands.add_parser(name, help=description, description=description)
        cli.add_arguments(command)
        command.add_argument("--workers", type=int, help="processes that cut records (all cores)")
        command.add_argument(
            "--scheduler", metavar="ADDRESS", help="a Dask scheduler whose workers cut records"
        )
    for name, start in (("finetune", "ours"), ("rounds", "random ones")):
        command = commands.choices[name]
        command.add_argument(
            "--weights", type=Path, metavar="FILE", help=f"weights to start from ({start})"
        )
        command.add_argument("--nets", default="", help="nets to train, such as 'pnet rnet' (all)")
    commands.choices["rounds"].add_argument(
        "--rounds", type=int, default=ROUNDS, help="how many (%(default)s)"
    )
    state = commands.add_parser("status", help="which stages of a run are complete")
    state.add_argument("--run", type=Path, default=Path("runs/mtcnn"), help="%(default)s")
    reference = commands.add_parser("settings-doc", help=f"write {REFERENCE}")
    reference.add_argument("--out", type=Path, default=REFERENCE, help="%(default)s")
    return parser


def _purpose(stage: StageSpec) -> str:
    """What a stage does, for its help."""
    if stage.net is None:
        return "merge the nets into one weights file"
    if stage.makes_records:
        return f"cut the records of {stage.net} from the images"
    return f"train {stage.net}, then measure the recall so far"


def _options(arguments: argparse.Namespace) -> Options:
    make_command.set_variables(cli.make_variables(arguments))
    if arguments.workers is not None and arguments.workers < 1:
        raise UserError(f"WORKERS must be at least 1; got {arguments.workers}.")
    overrides = recipe.split_overrides(arguments.set)
    work = arguments.force, arguments.workers, arguments.scheduler
    return Options(arguments.config, arguments.run, overrides, *work)


def _stage(arguments: argparse.Namespace) -> None:
    sequence.run_stage(STAGES[arguments.command], _options(arguments))


def _train(arguments: argparse.Namespace) -> None:
    sequence.train(_options(arguments))


def _finetune(arguments: argparse.Namespace) -> None:
    sequence.finetune(_options(arguments), arguments.weights, _nets(arguments.nets))


def _rounds(arguments: argparse.Namespace) -> None:
    if arguments.rounds < 1:
        raise UserError(f"ROUNDS must be at least 1; got {arguments.rounds}.")
    options = _options(arguments)
    nets = _nets(arguments.nets) or NETS
    sequence.rounds(options, arguments.rounds, arguments.weights, nets)


def _status(arguments: argparse.Namespace) -> None:
    print(status.describe(arguments.run))


def _settings_doc(arguments: argparse.Namespace) -> None:
    text = reference.render(recipe.load(run_recipe.DEFAULT))
    write_atomically(arguments.out, text.encode())
    print(arguments.out)


def _nets(text: str) -> list[NetName]:
    """The nets that NETS= names, in the order of the cascade."""
    names = text.replace(",", " ").split()
    for name in names:
        if name not in NETS:
            raise UserError(f"NETS={text}: there is no {name}; the nets are {', '.join(NETS)}.")
    return [name for name in NETS if name in names]


if __name__ == "__main__":
    run_cli(main)
