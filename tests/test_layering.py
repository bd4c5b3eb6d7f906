"""Rules of the architecture: directions of imports, packages, no branch on a net's name."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtcnn_detector.net import NETS

ROOT = Path(__file__).parents[1]
FOLDERS = (
    *("mtcnn_detector", "configs", "pipeline", "models"),
    *("data_prep", "train", "export", "evaluation"),
    "app",
)
APART = ("tests", "benchmarks")  # may import every folder; no folder imports them
LIBRARY = "mtcnn_detector"
NESTED = ("mtcnn_detector/weights", "data_prep/readers")  # a module for each file format

# Folder -> folders or modules that it may import besides itself.
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
        *("data_prep.annotations", "data_prep.readers", "data_prep.sources"),
    ],
    "app": [LIBRARY, "pipeline.cli"],
}


def files_of(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


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


def forbidden_imports(folder: str, tree: ast.Module, package: str = "") -> list[str]:
    """Imports of a file of `folder` that `ALLOWED` does not have."""
    return [
        name
        for name in imports(tree, package or folder)
        if name.partition(".")[0] in {*FOLDERS, *APART} - {folder}
        and not any(
            name == allowed or name.startswith(allowed + ".") for allowed in ALLOWED[folder]
        )
    ]


def import_cycles(imported: dict[str, set[str]]) -> list[str]:
    """Modules that import themselves through others; `imported` is module -> what it imports."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [*imported[start]]
        while waiting:
            if (module := waiting.pop()) not in seen:
                seen.add(module)
                waiting += imported.get(module, ())
        return seen

    return [module for module in imported if module in reached(module)]


def import_graph() -> dict[str, set[str]]:
    """Module -> modules of this repository that it imports; a package is its `__init__`."""
    paths = {path: path for folder in FOLDERS for path in files_of(folder)}
    names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in paths}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found = imports(tree_of(path), package_of(path))
        whole = {full if full in names else full.rpartition(".")[0] for full in found}
        graph[name] = (whole & names.keys()) - {name}
    return graph


def branches_on_a_net(tree: ast.Module) -> list[int]:
    """Lines that compare something with a net's name, or match it."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            parts = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            parts = [node.value]
        else:
            continue
        constants = [c for part in parts for c in ast.walk(part) if isinstance(c, ast.Constant)]
        if any(constant.value in NETS for constant in constants):
            lines.append(parts[0].lineno)
    return lines


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_import_only_what_they_may(folder: str) -> None:
    found = {
        str(path.relative_to(ROOT)): forbidden
        for path in files_of(folder)
        if (forbidden := forbidden_imports(folder, tree_of(path), package_of(path)))
    }
    assert not found


@pytest.mark.parametrize(
    ("folder", "line", "forbidden"),
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
        ("app", "from mtcnn_detector import MTCNN", False),
        ("app", "from pipeline.cli import run_cli", False),
        ("app", "from evaluation.metrics import score", True),
    ],
)
def test_a_forbidden_import_is_seen(folder: str, line: str, forbidden: bool) -> None:
    assert bool(forbidden_imports(folder, ast.parse(line))) == forbidden


def test_there_is_no_import_cycle() -> None:
    assert not import_cycles(import_graph())
    assert import_cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c"]


def test_the_library_imports_neither_tensorflow_nor_a_recipe() -> None:
    allowed = {"numpy", "cv2", "openvino", "lz4", LIBRARY, *sys.stdlib_module_names}
    for path in files_of(LIBRARY):
        foreign = {name.partition(".")[0] for name in imports(tree_of(path), package_of(path))}
        assert foreign <= allowed, path.name


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_branch_on_a_nets_name(folder: str) -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for path in files_of(folder)
        if (lines := branches_on_a_net(tree_of(path)))
    }
    assert not found, "what depends on the net belongs in a table"


@pytest.mark.parametrize(
    "line",
    [
        'x = 1 if name == "onet" else 2',
        'if "pnet" != name: pass',
        'if name in ("rnet", "onet"): pass',
        'match name:\n    case "rnet": pass',
    ],
)
def test_a_branch_on_a_nets_name_is_seen(line: str) -> None:
    assert branches_on_a_net(ast.parse(line))


def test_every_folder_is_a_package() -> None:
    """Without its `__init__.py` a folder gives way to an installed package of the same name."""
    for folder in (*FOLDERS, "tests"):
        assert (ROOT / folder / "__init__.py").is_file(), folder
        for path in files_of(folder):
            assert path.parent in (ROOT / folder, *map(ROOT.joinpath, NESTED)), (
                "folders are flat, but for file formats"
            )


def test_no_module_has_a_vague_name() -> None:
    vague = {"utils", "util", "misc", "common", "helpers", "helper"}
    names = {path.stem for folder in (*FOLDERS, *APART) for path in files_of(folder)}
    assert not names & vague


def test_every_module_has_a_docstring() -> None:
    for folder in (*FOLDERS, *APART):
        for path in files_of(folder):
            assert ast.get_docstring(tree_of(path)), path.name


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_map_of_folders_is_complete(page: str) -> None:
    """Each folder has a row, or a paragraph, that begins with its name."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for folder in (*FOLDERS, *APART):
        assert re.search(rf"^(\| .*|\*\*)`{folder}/`", text, re.MULTILINE), folder


@pytest.mark.parametrize("folder", (*FOLDERS, *APART))
def test_files_that_the_readme_names_are_there(folder: str) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in re.findall(rf"^\| `{folder}/[a-z/]*`.*$", text, re.MULTILINE):
        where = ROOT / row.split("`")[1]
        for name in re.findall(r"`([a-z_]+\.(?:py|yaml))`", row):
            assert (where / name).is_file(), f"{where / name}"


LIGHT = ["data_prep.build_records", "data_prep.sampling", "data_prep.crops", "data_prep.mining"]
HEAVY = "{'tensorflow', 'keras', 'matplotlib', 'scipy'}"


def test_workers_start_without_tensorflow() -> None:
    """Each of many processes would otherwise take seconds and hundreds of megabytes."""
    code = f"import sys, {', '.join(LIGHT)}; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr[-500:]


@pytest.mark.parametrize("folder", ["data_prep", "train", "export", "evaluation", "app"])
def test_help_is_printed_without_loading_tensorflow(folder: str) -> None:
    code = (
        f"import runpy, sys; sys.argv[1:] = ['--help']\n"
        f"try: runpy.run_module({folder!r}, run_name='__main__')\n"
        f"except SystemExit as end: print(end.code, sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr[-500:]
    assert done.stdout.startswith(f"usage: python -m {folder}")
