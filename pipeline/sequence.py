"""The stages in their order: a whole training, fine-tuning from weights, rounds of the cascade.

Each stage is started as a command of its own, so it begins and ends as if the user had typed it.
"""

import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from configs import recipe
from configs.settings import Settings
from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS, NetName
from pipeline import finetuning, run_recipe
from pipeline.cli import without_force
from pipeline.finetuning import as_overrides, start_from
from pipeline.stages import DATA, STAGES, StageSpec


@dataclass(frozen=True)
class Options:
    """What a user named of a run's command line; None or empty is left to the stages.

    Args:
        config: The recipe.
        run: The run's folder.
        overrides: Settings over the recipe, as `key.path=value`.
        force: Whether stages are made anew.
        workers: Processes that cut records.
        scheduler: Of a Dask cluster that cuts records in place of processes of this machine.
    """

    config: Path | None = None
    run: Path | None = None
    overrides: Sequence[str] = ()
    force: bool = False
    workers: int | None = None
    scheduler: str | None = None

    def arguments(self, module: str) -> list[str]:
        """As arguments of `python -m <module>`."""
        words = [] if self.config is None else ["--config", str(self.config)]
        words += [] if self.run is None else ["--run", str(self.run)]
        words += ["--set", *self.overrides] if self.overrides else []
        words += ["--force"] if self.force else []
        if self.workers is not None and module == DATA:
            words += ["--workers", str(self.workers)]
        if self.scheduler is not None and module == DATA:
            words += ["--scheduler", self.scheduler]
        return words


def run_stage(stage: StageSpec, options: Options) -> None:
    """Run the commands of a stage.

    Raises:
        SystemExit: a command has failed; with its exit status.
    """
    for command in stage.commands:
        run_module([*command, *options.arguments(command[0])])


def train(options: Options) -> None:
    """Run all stages of a run in their order."""
    if options.force:
        print(
            "FORCE=1 makes all stages anew, from the first. After an interruption, repeat the "
            "command without it: it goes on in the stage where it was; where a later one is still "
            "of before, it stops and says what to type.",
            flush=True,
        )
    for stage in STAGES.values():
        run_stage(stage, options)


def finetune(options: Options, weights: Path | None, nets: Sequence[NetName]) -> None:
    """Train nets from existing weights, take over the others; see `finetuning.write_recipe`."""
    config, run = finetuning.write_recipe(
        options.config, options.run, options.overrides, weights, nets
    )
    train(replace(options, config=config, run=run))


def rounds(options: Options, count: int, weights: Path | None, nets: Sequence[NetName]) -> None:
    """Train the cascade `count` times, each time from the nets before; keep the best of them.

    The recipe's seed is that of the first round, and one more with each round.

    Args:
        options: The run, whose folders `round-<number>` hold the rounds.
        count: How many rounds.
        weights: What the first round starts from; None: the recipe's `init`.
        nets: Which nets are trained when there are weights to start from.

    Raises:
        UserError: the recipe or the weights are missing.
    """
    if weights is not None and not weights.exists():
        raise UserError(f"WEIGHTS={weights} is not there: it names the weights to start from.")
    config, folder = run_recipe.locate(options.config, options.run)
    begun = {} if weights is None else dict.fromkeys(NETS, weights)
    settings = recipe.load(config, options.overrides)
    kept = {net: path for net, path in begun.items() if not _is_trained(settings, net, nets)}
    changes = finetuning.contexts(begun) | (finetuning.shifts(kept, settings) if kept else {})
    own = finetuning.own_settings(config)
    changes = {key: value for key, value in changes.items() if key not in own}
    common = [*as_overrides(changes), *options.overrides]  # of all rounds, and of the run
    settings = recipe.load(config, common)
    if not (folder / run_recipe.FILE).exists():
        run_recipe.keep(folder, settings)
    for number in range(1, count + 1):
        run = folder / f"round-{number}"
        print(f"round {number} of {count}: {run}", flush=True)
        start = {} if weights is None else start_from(dict.fromkeys(NETS, weights), nets)
        # What is taken over from the round before has its boxes scaled already.
        taken_over = [net for net in NETS if number > 1 and not _is_trained(settings, net, nets)]
        last = {f"{net}.train.box_scale": 1 for net in taken_over}
        last["seed"] = settings.seed + number - 1
        overrides = [*as_overrides(start), *common, *as_overrides(last)]
        train(replace(options, config=config, run=run, overrides=overrides))
        weights = run
    run_recipe.keep(folder, settings)
    run_module(["evaluation", "rounds", *options.arguments("evaluation")])


def _is_trained(settings: Settings, net: NetName, nets: Sequence[NetName]) -> bool:
    return net in nets and settings.for_net(net).train.steps > 0


def run_module(words: Sequence[str]) -> None:
    """Run `python -m <words>` and wait for it.

    Ctrl-C reaches the command itself, which ends it with its own message; SIGTERM is passed on.
    While Python starts and imports, a Ctrl-C would end in a traceback: the command inherits that it
    is held back, until `run_cli` lets it through.

    Raises:
        SystemExit: it has failed; with its exit status, or 128 and the signal that killed it.
    """
    print("python -m", shlex.join(words), flush=True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    with subprocess.Popen([sys.executable, "-m", *words]) as process:

        def terminate(*_: int | FrameType | None) -> None:
            process.terminate()

        handler = signal.signal(signal.SIGTERM, terminate)
        try:
            status = _wait(process, before)
        finally:
            signal.signal(signal.SIGTERM, handler)
    if status < 0:
        name = signal.Signals(-status).name
        again = f"repeat the command{without_force(words)} to go on"
        print(f"error: python -m {words[0]} was killed ({name}); {again}.", file=sys.stderr)
    if status:
        sys.exit(status if status > 0 else 128 - status)


def _wait(process: "subprocess.Popen[bytes]", mask: set[int | signal.Signals]) -> int:
    """The exit status; a Ctrl-C on the way is for the process to answer, one held back as well.

    Args:
        process: the command.
        mask: the signals to hold back from here on.
    """
    while True:
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return process.wait()
        except KeyboardInterrupt:
            continue
