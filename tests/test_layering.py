"""The house stands: imports run downwards, rooms are packages, no stage's name is branched on."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtcnn_detector.net import NETS

ROOT = Path(__file__).parents[1]
ROOMS = (
    *("mtcnn_detector", "configs", "pipeline", "models"),
    *("data_prep", "train", "export", "evaluation"),
)
ASIDE = ("tests", "benchmarks")  # may import every room; no room imports them
LIBRARY = "mtcnn_detector"

# Which modules of which rooms a room may import besides its own.
BELOW = [LIBRARY, "configs", "pipeline", "models"]
ALLOWED = {
    LIBRARY: [],
    "configs": [LIBRARY],
    "pipeline": [LIBRARY, "configs"],
    "models": [LIBRARY, "configs", "pipeline"],
    "data_prep": BELOW,
    "train": [*BELOW, "data_prep.records", "data_prep.crops"],
    "export": BELOW,
    "evaluation": [
        *BELOW,
        *("data_prep.annotations", "data_prep.formats", "data_prep.sources"),
    ],
}


def files_of(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module, package: str = "") -> Iterator[str]:
    """Full names of everything that a file imports, wherever in it; `package` is its folder's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level]
            start = [*parents, node.module] if node.level and node.module else parents
            module = ".".join(start) if node.level else node.module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def package_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


def against_the_arrows(room: str, tree: ast.Module, package: str = "") -> list[str]:
    """What a file of a room imports although the house has no such arrow."""
    return [
        name
        for name in imports(tree, package or room)
        if name.partition(".")[0] in {*ROOMS, *ASIDE} - {room}
        and not any(name == held or name.startswith(held + ".") for held in ALLOWED[room])
    ]


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """Modules from which a walk along the arrows leads back to them."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [*arrows[start]]
        while waiting:
            if (module := waiting.pop()) not in seen:
                seen.add(module)
                waiting += arrows.get(module, ())
        return seen

    return [module for module in arrows if module in reached(module)]


def arrows_of_the_house() -> dict[str, set[str]]:
    """Module -> the modules of the house that it imports; a package stands for its `__init__`."""
    paths = {path: path for room in ROOMS for path in files_of(room)}
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in paths}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    arrows: dict[str, set[str]] = {}
    for name, path in names.items():
        found = imports(tree_of(path), package_of(path))
        whole = {full if full in names else full.rpartition(".")[0] for full in found}
        arrows[name] = (whole & names.keys()) - {name}
    return arrows


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
        if (against := against_the_arrows(room, tree_of(path), package_of(path)))
    }
    assert not found


@pytest.mark.parametrize(
    ("room", "line", "against"),
    [
        ("configs", "import models.folding", True),
        ("configs", "from pipeline import manifest", True),
        ("mtcnn_detector", "from configs import recipe", True),
        ("mtcnn_detector", "from .boxes import iou", False),
        ("models", "def f():\n    from data_prep import records", True),
        ("train", "from data_prep import sampling", True),
        ("train", "from data_prep import records", False),
        ("evaluation", "from data_prep.build_records import prepare", True),
        ("evaluation", "from data_prep.sources import pictures", False),
        ("export", "from tests import test_boxes", True),
        ("data_prep", "from train.losses import losses", True),
        ("data_prep", "from data_prep.crops import Crops", False),
        ("data_prep", "import modelstore", False),
    ],
)
def test_an_import_against_the_arrows_is_seen(room: str, line: str, against: bool) -> None:
    assert bool(against_the_arrows(room, ast.parse(line))) == against


def test_no_import_leads_back_to_where_it_came_from() -> None:
    assert not circles(arrows_of_the_house())
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_the_library_imports_neither_tensorflow_nor_a_recipe() -> None:
    held = {"numpy", "cv2", "openvino", "lz4", LIBRARY, *sys.stdlib_module_names}
    for path in files_of(LIBRARY):
        foreign = {name.partition(".")[0] for name in imports(tree_of(path), package_of(path))}
        assert foreign <= held, path.name


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
            flat = path.parent == ROOT / room or path.parent == ROOT / LIBRARY / "weights"
            assert flat, "rooms are flat, but for the families of weights files"


def test_no_drawer_for_odds_and_ends() -> None:
    vague = {"utils", "util", "misc", "common", "helpers", "helper"}
    names = {path.stem for room in (*ROOMS, *ASIDE) for path in files_of(room)}
    assert not names & vague


def test_every_file_says_what_it_is_for() -> None:
    for room in (*ROOMS, *ASIDE):
        for path in files_of(room):
            assert ast.get_docstring(tree_of(path)), path.name


LIGHT = ["data_prep.build_records", "data_prep.sampling", "data_prep.crops", "data_prep.mining"]
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
