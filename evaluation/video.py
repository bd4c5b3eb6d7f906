"""Faces in a video file or camera: JSON lines of frames, and an annotated video."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from mtcnn_detector.cascade import Faces
from mtcnn_detector.detector import as_dictionaries
from mtcnn_detector.drawing import draw_faces
from mtcnn_detector.errors import UserError
from mtcnn_detector.pixels import Image

CAMERA_RATE = 25.0  # frames per second of the annotated video where the camera gives none
CODEC = "mp4v"  # MPEG-4, which OpenCV's FFmpeg always has

# What is done with the faces of a frame besides: returns more entries for its JSON line.
Handler = Callable[[int, Image, Faces], dict[str, Any]]


class Frame(NamedTuple):
    """A frame of a video."""

    number: int  # from 0
    time: float  # seconds from the beginning
    image: Image


class Video(AbstractContextManager["Video"]):
    """A video file or a camera, as an iterator of its frames.

    Args:
        source: Path of a file, or the number of a camera.

    Raises:
        UserError: it cannot be opened.
    """

    def __init__(self, source: str) -> None:
        self.camera = source.isdecimal()
        if not self.camera and not Path(source).is_file():
            raise UserError(f"VIDEO={source} is not there: name a video file, or a camera (0).")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # quiet: errors are ours to tell
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self._capture = cv2.VideoCapture(int(source) if self.camera else source)
        if not self._capture.isOpened():
            problem = (
                "cannot be opened: is it connected, and may this user read it?"
                if self.camera
                else "cannot be read as a video."
            )
            raise UserError(f"VIDEO={source} {problem}")
        self.source = source
        self.name = f"camera-{source}" if self.camera else Path(source).stem
        self.rate = self._capture.get(cv2.CAP_PROP_FPS) or CAMERA_RATE
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.count = None if self.camera or count <= 0 else count

    def __iter__(self) -> Iterator[Frame]:
        started, number = time.monotonic(), 0
        while True:
            there, bgr = self._capture.read()
            if not there:
                return
            seconds = time.monotonic() - started if self.camera else number / self.rate
            image = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
            yield Frame(number, round(seconds, 3), image)
            number += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._capture.release()


def detect_video(
    source: str, detect: Callable[[Image], Faces], out: Path | None, handler: Handler
) -> None:
    """Detect the faces of every frame; JSON lines go to `out`, or to stdout without it.

    With `out` an annotated video is written beside them. A camera runs until Ctrl-C.

    Raises:
        UserError: the source cannot be opened or has no frame, or the video cannot be written.
    """
    frames = faces_found = 0
    with Video(source) as video, _Results(out, video) as results, contextlib.ExitStack() as stack:
        if video.camera:
            stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        for frame in tqdm(video, video.name, video.count, unit="frame"):
            faces = detect(frame.image)
            results.write(frame, faces, handler(frame.number, frame.image, faces))
            frames, faces_found = frames + 1, faces_found + len(faces.scores)
    if not frames:
        raise UserError(f"VIDEO={source} has no frame that can be read.")
    if video.count is not None and frames < video.count:
        print(f"warning: only {frames} of {video.count} frames could be read.", file=sys.stderr)
    where = f"; annotated video and JSON lines in {out}" if out else ""
    print(f"{faces_found} faces on {frames} frames{where}", file=sys.stderr)


class _Results(AbstractContextManager["_Results"]):
    """The JSON lines and the annotated video of a detection; without a folder lines on stdout."""

    def __init__(self, out: Path | None, video: Video) -> None:
        self._lines: IO[str] | None = None
        self._path, self._rate = None if out is None else out / f"{video.name}.mp4", video.rate
        self._writer: cv2.VideoWriter | None = None
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            self._lines = (out / f"{video.name}.jsonl").open("w", encoding="utf-8")

    def write(self, frame: Frame, faces: Faces, more: dict[str, Any]) -> None:
        """Add a frame: its JSON line, with more entries, and the frame with its faces drawn."""
        row = {"frame": frame.number, "time": frame.time, "faces": as_dictionaries(faces)}
        print(json.dumps(row | more), file=self._lines or sys.stdout, flush=True)
        if self._path is not None:
            writer = self._writer or self._open(self._path, frame.image)
            writer.write(draw_faces(frame.image, faces)[:, :, ::-1])

    def _open(self, path: Path, first: Image) -> cv2.VideoWriter:
        """The writer of a video that has the size of its first frame."""
        height, width = first.shape[:2]
        code = cv2.VideoWriter.fourcc(*CODEC)
        self._writer = cv2.VideoWriter(str(path), code, self._rate, (width, height))
        if not self._writer.isOpened():
            raise UserError(f"{path}: OpenCV cannot write a video of {width} x {height} here.")
        return self._writer

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer is not None:
            self._writer.release()
        if self._lines is not None:
            self._lines.close()
