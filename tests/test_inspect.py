"""`python -m export inspect`: the description of a weights file, and failed checks."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.__main__ import main
from export.formats import FORMATS
from export.inspect import inspect
from mtcnn_detector.architecture import PAPER_NETS
from mtcnn_detector.net import NETS
from mtcnn_detector.weights import weight_files
from mtcnn_detector.weights.weight_files import LAYOUTS
from pipeline.cli import run_cli
from tests.weights_files import lively, saved

LIVELY = {name: lively(name, seed) for seed, name in enumerate(NETS)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_named_and_passes(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weight_files.write(layout, tmp_path / "weights", LIVELY)
    assert inspect(tmp_path / "weights")
    lines = capsys.readouterr().out.splitlines()
    files = weight_files.files(tmp_path / "weights")
    assert [line.partition(": ")[0] for line in lines[: len(files)]] == [str(f) for f in files]
    counts = {
        "pnet": "13 arrays, 6,632",
        "rnet": "16 arrays, 100,178",
        "onet": "21 arrays, 389,040",
    }
    for name, count in counts.items():
        assert any(
            line.startswith(f"{name}: {LAYOUTS[layout].owner} layout; {count} numbers")
            for line in lines
        )
    assert "  a cell of its map sees 12 pixels from 0 + 2 x" in lines
    assert sum(line.startswith("  ok: ") for line in lines) == 6
    assert not [line for line in lines if "FAILED" in line]
    assert any("layer6/kernel" in line and "(576, 128)" in line for line in lines)


def test_layouts_that_cannot_hold_a_net_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = PAPER_NETS["pnet"].layers
    net = replace(PAPER_NETS["pnet"], layers=(replace(layers[0], conv=12), *layers[1:]))
    weight_files.write_own(tmp_path / "w.npz", lively("pnet", 0, net))
    assert inspect(tmp_path / "w.npz")
    text = capsys.readouterr().out
    assert "pnet: our own layout; 13 arrays" in text
    formats = "own, savedmodel, savedmodel-cascade, tflite, tflite-int8, onnx"
    assert f"can be part of an export as {formats}\n" in text
    assert "not as facenet: FaceNet's (src/align) layout cannot hold pnet.layer1" in text


def test_a_net_with_constant_outputs_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pnet = LIVELY["pnet"]
    zeros = {key: np.zeros_like(array) for key, array in pnet.weights.items()}
    weight_files.write_own(tmp_path / "w.npz", pnet._replace(weights=zeros))
    monkeypatch.setattr(sys, "argv", ["export", "inspect", str(tmp_path / "w.npz")])
    with pytest.raises(SystemExit, match="a check has failed"):
        run_cli(main)
    assert "FAILED: its outputs are finite numbers that change with the pixels: score is" in (
        capsys.readouterr().out
    )


def test_a_command_without_a_file_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["export", "inspect"])
    with pytest.raises(SystemExit, match="make inspect FILE="):
        run_cli(main)


def test_an_unknown_file_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "w.npy", {"pnet": {"pnet": {"dense": {"kernel": np.zeros((3, 3))}}}})
    monkeypatch.setattr(sys, "argv", ["export", "inspect", str(path)])
    with pytest.raises(SystemExit) as caught:
        run_cli(main)
    assert str(caught.value).startswith(f"error: {path}: it resembles ipazc's (mtcnn 0.1.x) layout")


@pytest.mark.parametrize("format_name", ["tflite", "onnx", "savedmodel"])
def test_exported_nets_are_described_and_checked(
    tmp_path: Path, format_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if format_name == "onnx":
        pytest.importorskip("onnx")
    FORMATS[format_name].write(tmp_path, LIVELY, {})
    assert inspect(tmp_path)
    text = capsys.readouterr().out
    for name, size in (("pnet", 12), ("rnet", 24), ("onet", 48)):
        assert f"{name}: {tmp_path / name}" in text
        assert (
            f"an exported net ({'SavedModel' if format_name == 'savedmodel' else format_name})"
            in text
        )
        assert f"; {size} pixels, gives " in text
    assert "  a cell of its map sees 12 pixels from 0 + 2 x\n" in text
    assert text.count("  ok: its outputs are finite numbers") == 3
    assert "FAILED" not in text
