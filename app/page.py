"""The page: an image, sliders of the detector's settings, weights, and the result by net."""

from pathlib import Path
from typing import Any

import gradio as gr

from app import playground
from mtcnn_detector import UserError
from mtcnn_detector.pixels import Image
from mtcnn_detector.settings import DetectorSettings

DEFAULTS = DetectorSettings()
NONE, UPLOADED = "none", "the uploaded file"
TABS = ("Faces", *playground.TITLES.values())
CACHE_SECONDS = 600  # files of a page are deleted at this age, and all of them at the end
INTRODUCTION = """# MTCNN playground
Drop an image or use the camera, move the sliders, and look at what each net lets through.
Everything runs on the computer that started this page; nothing that is uploaded is kept."""


def _image_upload() -> Any:
    """An image component that hands over RGB pixels, or says in one sentence why it cannot."""
    component = gr.Image(label="Image", sources=["upload", "webcam", "clipboard"], elem_id="image")
    # Of a subclass gradio would write a stub file beside this one.
    component.preprocess = _read_pixels
    return component


def _read_pixels(payload: Any) -> Image | None:
    if payload is None or payload.path is None:
        return None
    try:
        return playground.read_upload(Path(payload.path))
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from None


def build(root: Path) -> gr.Blocks:
    """The page, with the weights under `root` to choose from."""
    choices, detectors = playground.weights_choices(root), playground.Detectors()
    page: gr.Blocks
    with gr.Blocks(
        title="MTCNN playground",
        analytics_enabled=False,
        delete_cache=(CACHE_SECONDS, CACHE_SECONDS),
    ) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=1):
                image = _image_upload()
                sliders = _sliders()
                names = _weights(list(choices))
            with gr.Column(scale=2), gr.Row():
                _, *first_outputs = _result("first", visible=True)
                second_column, *second_outputs = _result("second", visible=False)

        def update(pixels: Image | None, *values: Any) -> list[Any]:
            *settings, first, second, upload = values
            paths = {**choices, UPLOADED: upload and Path(upload)}
            results: list[Any] = [gr.update(visible=second != NONE)]
            for name in (first, second):
                if pixels is None or name == NONE:
                    results += ["", *[None] * len(TABS)]
                else:
                    results += _update_one(detectors, pixels, name, paths, settings)
            return results

        inputs = [image, *sliders, *names]
        outputs = [second_column, *first_outputs, *second_outputs]
        triggers = [component.change for component in inputs]
        gr.on(
            triggers,
            update,
            inputs,
            outputs,
            trigger_mode="always_last",
            show_progress="hidden",
            api_name="detect",
        )
    return page


def _sliders() -> list[gr.Slider]:
    first, second, third = DEFAULTS.thresholds
    return [
        gr.Slider(
            12, 200, DEFAULTS.min_face_size, step=1, label="Smallest face (px)", elem_id="min-face"
        ),
        gr.Slider(
            0.5, 0.95, DEFAULTS.scale_factor, step=0.001, label="Scale factor", elem_id="factor"
        ),
        gr.Slider(0, 0.99, first, step=0.01, label="Threshold of P-Net", elem_id="pnet"),
        gr.Slider(0, 0.99, second, step=0.01, label="Threshold of R-Net", elem_id="rnet"),
        gr.Slider(0, 0.99, third, step=0.01, label="Threshold of O-Net", elem_id="onet"),
    ]


def _weights(names: list[str]) -> list[Any]:
    """Two choices of weights, and a file to upload."""
    options = [*names, UPLOADED]
    return [
        gr.Dropdown(options, value=options[0], label="Weights", elem_id="first-weights"),
        gr.Dropdown([NONE, *options], value=NONE, label="Compare with", elem_id="second-weights"),
        gr.File(label="A weights file", elem_id="weights-file", height=100),
    ]


def _result(name: str, visible: bool) -> list[Any]:
    """A column, its table and the images of its tabs, of one choice of weights."""
    with gr.Column(visible=visible) as column:
        table = gr.Markdown(elem_id=f"{name}-table")
        with gr.Tabs():
            images = []
            for title in TABS:
                with gr.Tab(title):
                    images.append(
                        gr.Image(
                            show_label=False,
                            interactive=False,
                            buttons=["fullscreen"],
                            elem_id=f"{name}-{title}",
                        )
                    )
    return [column, table, *images]


def _update_one(
    detectors: playground.Detectors,
    pixels: Image,
    name: str,
    paths: dict[str, Any],
    settings: list[float],
) -> list[Any]:
    """The table and the images of one choice of weights."""
    min_face, factor, *thresholds = settings
    first, second, third = thresholds
    try:
        if paths[name] is None:
            raise UserError("Upload a weights file first, or choose other weights.")
        chosen = DetectorSettings(int(min_face), factor, (first, second, third))
        results = playground.detect(detectors.cascade(paths[name], chosen), pixels)
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from None
    return [playground.summary(name, results), *playground.drawings(pixels, results)]
