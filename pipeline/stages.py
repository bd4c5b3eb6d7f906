"""Table of the stages of a run, in their order: targets, commands, folders."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mtcnn_detector.net import NETS, NetName

DATA = "data_prep"


@dataclass(frozen=True)
class StageSpec:
    """One stage.

    Args:
        target: Its make target.
        folder: Where its manifest is, in the run's folder.
        commands: Arguments of `python -m`, one after the other, before the run's own.
        net: The net that it is about; None: all of them.
    """

    target: str
    folder: str
    commands: tuple[tuple[str, ...], ...]
    net: NetName | None = None

    @property
    def makes_records(self) -> bool:
        """Whether it cuts records, which a net that is taken over does not need."""
        return self.commands[0][0] == DATA


def _stages() -> Iterator[StageSpec]:
    for net in NETS:
        yield StageSpec(f"{net}-data", f"records/{net}", ((DATA, net),), net)
        trained = ("train", net), ("evaluation", "recall", net)
        yield StageSpec(f"train-{net}", net, trained, net)
    yield StageSpec("export-weights", "export", (("export",),))


STAGES: dict[str, StageSpec] = {stage.target: stage for stage in _stages()}
ROUNDS = 2  # of the cascade, unless a command says how many
EXPORT_FOLDERS = {"ipazc": "export", "own": "export-own"}  # by the recipe's export.layout


def rounds_of(run: Path) -> list[Path]:
    """The folders `round-<number>` of a run, in their order."""
    found = [path for path in run.glob("round-*") if path.name[len("round-") :].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[len("round-") :]))
