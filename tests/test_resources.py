"""What a command takes: the peaks of all its processes, children of children too."""

import sys
from pathlib import Path

import pytest

from benchmarks import resources

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' /proc"),
]
PARENT = """
import subprocess, sys, time
held = bytearray(b"x") * 200_000_000
subprocess.run([sys.executable, "-c", sys.argv[1]])
sys.exit(3)
"""
CHILD = """
import pathlib, time
held = bytearray(b"x") * 90_000_000
pathlib.Path(FILE).write_bytes(bytes(4_000_000))
end = time.process_time() + 2
while time.process_time() < end:
    pass
time.sleep(1.5)
"""


def test_memory_time_and_disk_of_a_command_and_its_child(tmp_path: Path) -> None:
    child = CHILD.replace("FILE", repr(str(tmp_path / "made")))
    usage = resources.watch([sys.executable, "-c", PARENT, child], tmp_path)
    assert usage.status == 3
    assert usage.disk == pytest.approx(4)
    largest, other = sorted(usage.processes.values(), key=lambda one: -one.peak)
    assert 200 < largest.own_peak <= largest.peak < 260
    assert 90 < other.own_peak <= other.peak < 150
    assert 1.9 < other.cpu < 3
    assert usage.wall > 3.4
    assert "of CPU, 4 MB more on disk, exit status 3" in resources.report(usage)
