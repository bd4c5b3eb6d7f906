"""Kill `make demo` at random moments, go on each time, and compare with a run left alone.

    python -m benchmarks.kills --undisturbed runs/demo --kills 5

Every record and every trained array must be the same, byte for byte.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np

from mtcnn_detector.errors import UserError
from mtcnn_detector.net import NETS
from pipeline.cli import run_cli


def main() -> None:
    """Disturb, finish, compare."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--undisturbed", type=Path, default=Path("runs/demo"), help="%(default)s")
    parser.add_argument("--run", type=Path, default=Path("runs/kills"), help="%(default)s")
    parser.add_argument("--kills", type=int, default=5, help="how many (%(default)s)")
    parser.add_argument("--longest", type=float, default=90, help="seconds between (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    arguments = parser.parse_args()
    if arguments.run.exists():
        raise UserError(f"{arguments.run} is there already: remove it, or name another --run.")
    moments = random.Random(arguments.seed)
    command = ["make", "demo", f"RUN={arguments.run}"]
    for number in range(arguments.kills):
        seconds = moments.uniform(5, arguments.longest)
        last = _killed(command, seconds, arguments.run)
        print(f"kill {number + 1} after {seconds:.0f} s: {last}", flush=True)
    finished = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if finished.returncode:
        raise UserError(f"{' '.join(command)} failed after the kills.")
    _compare(arguments.undisturbed, arguments.run)


def _killed(command: list[str], seconds: float, run: Path) -> str:
    """Start the command in a group of its own and kill the whole group with -9."""
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    newest = max(run.rglob("*"), key=lambda p: p.stat().st_mtime, default=run)
    return f"last written {newest}"


def _compare(left: Path, right: Path) -> None:
    for name in NETS:
        digests = [_manifest(run / "records" / name)["sha256"] for run in (left, right)]
        same = "the same" if digests[0] == digests[1] else "DIFFERENT"
        print(f"records of {name}: {same} ({digests[0][:12]}, {digests[1][:12]})")
        weights = [np.load(run / name / "weights.npz") for run in (left, right)]
        equal = all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0].files)
        print(f"weights of {name}: {'the same' if equal else 'DIFFERENT'}")


def _manifest(folder: Path) -> dict[str, str]:
    manifest: dict[str, str] = json.loads((folder / "manifest.json").read_text())
    return manifest


if __name__ == "__main__":
    run_cli(main)
