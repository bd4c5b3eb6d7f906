"""`python -m benchmarks.resources -- COMMAND`: time, memory and disk that a command takes.

Its processes are looked at twice a second: for each, the peak of its resident memory as the kernel
keeps it (VmHWM; pages of mapped files count), the peak of what is its own (RssAnon), and its CPU
time, user and system. CPU time is what compares between machines that are shared. Linux alone.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

INTERVAL = 0.5  # seconds
TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass
class Process:
    """What was seen of one process; megabytes and seconds."""

    words: str
    peak: float = 0.0
    own_peak: float = 0.0
    cpu: float = 0.0


@dataclass
class Usage:
    """What a command took."""

    command: str
    wall: float = 0.0  # seconds
    status: int | None = None
    disk: float = 0.0  # megabytes that its folder grew by
    processes: dict[int, Process] = field(default_factory=dict)

    @property
    def cpu(self) -> float:
        """Seconds, of all processes."""
        return sum(process.cpu for process in self.processes.values())


def main() -> None:
    """Run, watch, print, and append a line of JSON to the log."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.resources",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--log", type=Path, help="file to which a line of JSON is appended")
    parser.add_argument("--folder", type=Path, help="folder whose growth is measured")
    parser.add_argument("command", nargs="+", help="after --")
    arguments = parser.parse_args()
    usage = watch(arguments.command, arguments.folder)
    print(report(usage))
    if arguments.log:
        with arguments.log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(usage)) + "\n")
    sys.exit(usage.status)


def watch(command: list[str], folder: Path | None) -> Usage:
    """Run a command to its end and look at its processes."""
    usage, start, before = Usage(" ".join(command)), time.monotonic(), size(folder)
    with subprocess.Popen(command) as process:
        while (status := process.poll()) is None:
            for pid in tree(process.pid):
                look(pid, usage.processes)
            time.sleep(INTERVAL)
    usage.status, usage.wall = status, time.monotonic() - start
    usage.disk = size(folder) - before
    return usage


def tree(root: int) -> list[int]:
    """A process and all its descendants."""
    parents: dict[int, int] = {}
    for path in PROC.iterdir():
        if path.name.isdecimal():
            try:
                parents[int(path.name)] = int(_stat(path)[1])
            except OSError:
                continue  # it has ended
    found = [root]
    for pid in found:  # grows while it is gone through
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _stat(path: Path) -> list[str]:
    """The fields behind the name, which may hold anything: state, parent, ..."""
    return (path / "stat").read_text().rpartition(")")[2].split()


def look(pid: int, processes: dict[int, Process]) -> None:
    """Note a process's memory and CPU time; one that has just ended keeps what was noted."""
    path = PROC / str(pid)
    try:
        words = (path / "cmdline").read_text().replace("\0", " ").strip()
        status, stat = (path / "status").read_text(), _stat(path)
    except OSError:
        return
    found = processes.setdefault(pid, Process(words))
    found.words = words or found.words
    found.peak = max(found.peak, _megabytes("VmHWM", status))
    found.own_peak = max(found.own_peak, _megabytes("RssAnon", status))
    found.cpu = (int(stat[11]) + int(stat[12])) / TICKS


def _megabytes(key: str, status: str) -> float:
    line = re.search(rf"^{key}:\s*(\d+) kB$", status, re.MULTILINE)
    return int(line[1]) * 1024 / 1e6 if line else 0.0


def size(folder: Path | None) -> float:
    """Megabytes of all files in a folder."""
    files = [] if folder is None else [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files) / 1e6


def report(usage: Usage) -> str:
    """The whole, then the processes, those with the most memory first."""
    lines = [
        f"{usage.command}: {usage.wall:.0f} s, {usage.cpu:.0f} s of CPU, {usage.disk:.0f} MB more "
        f"on disk, exit status {usage.status}"
    ]
    for process in sorted(usage.processes.values(), key=lambda one: -one.peak):
        lines.append(
            f"{process.peak:8.0f} MB at most ({process.own_peak:.0f} MB of its own), "
            f"{process.cpu:7.1f} s of CPU: {process.words[:100]}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
