"""What a user sees when a command ends badly, and with which exit status."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run(body: str, unbuffered: str = "") -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command whose `main` has this body."""
    script = (
        "import errno, os, signal, time; from pathlib import Path\n"
        "from mtcnn_detector.errors import UserError; from pipeline.cli import run_cli\n"
        f"def main() -> None:\n    print('begun')\n    {body}\nrun_cli(main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ, PYTHONUNBUFFERED=unbuffered),
    )
    return done.returncode, done.stdout, done.stderr


def test_all_is_well() -> None:
    assert run("pass") == (0, "begun\n", "")


def test_what_the_user_can_mend_is_one_sentence() -> None:
    assert run("raise UserError('a.yaml: seed is wrong.')") == (
        1,
        "begun\n",
        "error: a.yaml: seed is wrong.\n",
    )


def test_ctrl_c_loses_no_output_and_has_its_own_status() -> None:
    message = "\nstopped; the same command goes on from here.\n"
    interrupted = f"os.kill(os.getpid(), {int(signal.SIGINT)}); time.sleep(30)"
    assert run(interrupted) == (130, "begun\n", message)
    forced = f"import sys; sys.argv.append('--force'); {interrupted}"
    assert run(forced)[2] == "\nstopped; the same command without FORCE=1 goes on from here.\n"


def test_ctrl_c_does_not_wait_for_threads() -> None:
    slow = "import threading; threading.Thread(target=time.sleep, args=(50,)).start()"
    began = time.monotonic()
    status, _, _ = run(f"{slow}; raise KeyboardInterrupt")
    assert status == 130
    assert time.monotonic() - began < 25


def test_ctrl_c_is_not_lost_in_a_clean_up() -> None:
    drops = "class Dying:\n        def __del__(self): raise KeyboardInterrupt\n    Dying()"
    began = time.monotonic()
    status, _, message = run(f"{drops}\n    time.sleep(30)")
    assert (status, message) == (130, "\nstopped; the same command goes on from here.\n")
    assert time.monotonic() - began < 25


def test_ctrl_c_is_not_lost_in_a_clean_up_on_a_busy_machine() -> None:
    slow = "import threading; start, waits = threading.Timer.start, [0.5, 0]"
    slow += "; threading.Timer.start = lambda self: (start(self), time.sleep(waits.pop(0)))"
    drops = "class Dying:\n        def __del__(self): raise KeyboardInterrupt\n    Dying()"
    status, _, message = run(f"{slow}\n    {drops}\n    time.sleep(5)")
    assert (status, message) == (130, "\nstopped; the same command goes on from here.\n")


def test_other_faults_of_a_clean_up_are_reported() -> None:
    status, _, message = run("type('Dying', (), {'__del__': lambda self: 1 / 0})()")
    assert status == 0
    assert "ZeroDivisionError" in message


def test_a_full_disk_is_reported_with_the_file() -> None:
    status, _, message = run("raise OSError(errno.ENOSPC, 'No space left on device', 'a/b.tmp')")
    assert status == 1
    assert message == (
        "error: the disk is full while writing a/b.tmp: free some space and repeat the command.\n"
    )
    assert "error: the disk is full: free" in run("raise OSError(errno.ENOSPC, 'No space')")[2]
    message = run("raise OSError(errno.EDQUOT, 'Disk quota exceeded', 'a')")[2]
    assert message.startswith("error: the disk quota is used up while writing a: free some space")


def test_a_reader_that_leaves_gets_no_traceback() -> None:
    left = "read, write = os.pipe(); os.close(read); os.dup2(write, 1)"
    for body, unbuffered in (("print(1, flush=True)", ""), ("print(1)", ""), ("print(1)", "1")):
        status, _, err = run(f"{left}; {body}", unbuffered)
        assert (status, err) == (128 + signal.SIGPIPE, "")
    status, _, err = run("read, write = os.pipe(); os.close(read); os.write(write, b'1')")
    assert status == 1 and "BrokenPipeError" in err, "another pipe's end is a fault of ours"


def test_a_place_that_cannot_be_written_is_reported() -> None:
    status, _, message = run("raise PermissionError(errno.EACCES, 'Permission denied', 'runs/x')")
    assert status == 1
    assert message == "error: runs/x: Permission denied; mend that, or name another place.\n"
    status, _, message = run("Path('a' * 300).exists()")
    assert status == 1
    assert message.endswith("aaa: File name too long; mend that, or name another place.\n")


def test_our_own_faults_keep_their_traceback() -> None:
    for fault in ("OSError(errno.ENOENT, 'No such file', 'x')", "ValueError('odd')"):
        status, _, message = run(f"raise {fault}")
        assert status == 1
        assert message.startswith("Traceback")
        assert "error: " not in message
