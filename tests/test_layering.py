"""The house stands: imports run downwards, rooms are packages, no stage's name is branched on."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.settings import NETS

ROOT = Path(__file__).parents[1]
ROOMS = ("configs", "models", "data_prep", "train", "export", "evaluation")
ASIDE = ("tests", "benchmarks")  # may import every room; no room imports them

# Which modules of which rooms a room may import besides its own.
ALLOWED = {
    "configs": [],
    "models": ["configs"],
    "data_prep": ["configs", "models"],
    "train": ["configs", "models", "data_prep.records", "data_prep.crops"],
    "export": ["configs", "models"],
    "evaluation": [
        *("configs", "models"),
        *("data_prep.annotations", "data_prep.formats", "data_prep.sources"),
    ],
}


def files_of(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """Full names of everything that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written out from the root"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def against_the_arrows(room: str, tree: ast.Module) -> list[str]:
    """What a file of a room imports although the house has no such arrow."""
    return [
        name
        for name in imports(tree)
        if name.partition(".")[0] in {*ROOMS, *ASIDE} - {room}
        and not any(name == held or name.startswith(held + ".") for held in ALLOWED[room])
    ]


def branches_on_a_stage(tree: ast.Module) -> list[int]:
    """Lines that compare something with a stage's name, or match it."""
    lines = []
    for node in ast.walk(tree):
        parts: list[ast.AST] = []
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        if isinstance(node, ast.MatchValue):
            parts = [node.value]
        constants = [c for part in parts for c in ast.walk(part) if isinstance(c, ast.Constant)]
        if any(constant.value in NETS for constant in constants):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_along_the_arrows(room: str) -> None:
    found = {
        str(path.relative_to(ROOT)): against
        for path in files_of(room)
        if (against := against_the_arrows(room, tree_of(path)))
    }
    assert not found


@pytest.mark.parametrize(
    ("room", "line", "against"),
    [
        ("configs", "import models.boxes", True),
        ("models", "def f():\n    from data_prep import records", True),
        ("train", "from data_prep import sampling", True),
        ("train", "from data_prep import records", False),
        ("evaluation", "from data_prep.prepare import prepare", True),
        ("evaluation", "from data_prep.sources import pictures", False),
        ("export", "from tests import test_boxes", True),
        ("data_prep", "from train.losses import losses", True),
        ("data_prep", "from data_prep.crops import Crops", False),
        ("data_prep", "import modelstore", False),
    ],
)
def test_an_import_against_the_arrows_is_seen(room: str, line: str, against: bool) -> None:
    assert bool(against_the_arrows(room, ast.parse(line))) == against


@pytest.mark.parametrize("room", ROOMS)
def test_no_branch_on_a_stages_name(room: str) -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for path in files_of(room)
        if (lines := branches_on_a_stage(tree_of(path)))
    }
    assert not found, "what depends on the net belongs into a table"


@pytest.mark.parametrize(
    "line",
    [
        'x = 1 if name == "onet" else 2',
        'if "pnet" != name: pass',
        'if name in ("rnet", "onet"): pass',
        'match name:\n    case "rnet": pass',
    ],
)
def test_a_branch_on_a_stages_name_is_seen(line: str) -> None:
    assert branches_on_a_stage(ast.parse(line))


def test_every_room_is_a_package() -> None:
    """Without its `__init__.py` a folder gives way to an installed package of the same name."""
    for room in (*ROOMS, "tests"):
        assert (ROOT / room / "__init__.py").is_file(), room
        for path in files_of(room):
            assert path.parent == ROOT / room, "rooms are flat"


def test_no_drawer_for_odds_and_ends() -> None:
    vague = {"utils", "util", "misc", "common", "helpers", "helper"}
    names = {path.stem for room in (*ROOMS, *ASIDE) for path in files_of(room)}
    assert not names & vague


def test_every_file_says_what_it_is_for() -> None:
    for room in (*ROOMS, *ASIDE):
        for path in files_of(room):
            assert ast.get_docstring(tree_of(path)), path.name


LIGHT = ["data_prep.prepare", "data_prep.sampling", "data_prep.crops", "data_prep.mining"]
HEAVY = "{'tensorflow', 'keras', 'matplotlib', 'scipy'}"


def test_workers_start_without_tensorflow() -> None:
    """Each of many processes would otherwise take seconds and hundreds of megabytes."""
    code = f"import sys, {', '.join(LIGHT)}; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr[-500:]


@pytest.mark.parametrize("room", ["data_prep", "train", "export", "evaluation"])
def test_a_command_says_what_it_takes_before_it_loads_tensorflow(room: str) -> None:
    code = (
        f"import runpy, sys; sys.argv[1:] = ['--help']\n"
        f"try: runpy.run_module({room!r}, run_name='__main__')\n"
        f"except SystemExit as end: print(end.code, sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr[-500:]
    assert done.stdout.startswith(f"usage: python -m {room}")
