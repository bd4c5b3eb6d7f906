"""What runs a converted net: OpenVINO where it is installed, LiteRT otherwise.

Both on one thread and one shape of input at a time; what runs at once is a matter of how many are
laid out. OpenVINO's kernels know PReLU and P-Net's few channels: P-Net takes 0.5 to 0.85 of the
time, by the machine.
"""

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

Run = Callable[[NDArray[Any]], NDArray[Any]]  # pixels, 0 to 255 -> all heads side by side
Runner = Callable[[tuple[int, ...]], Run]  # lays a net out for inputs of one shape


def litert(content: bytes) -> Runner:
    """Of a LiteRT model, with its own XNNPACK kernels."""

    def laid_out(shape: tuple[int, ...]) -> Run:
        interpreter = Interpreter(model_content=content, num_threads=1)
        given = interpreter.get_input_details()[0]["index"]
        said = interpreter.get_output_details()[0]["index"]
        interpreter.resize_tensor_input(given, shape)
        interpreter.allocate_tensors()

        def run(pixels: NDArray[Any]) -> NDArray[Any]:
            # Straight into its memory; the view must be gone when it runs.
            interpreter.tensor(given)()[...] = pixels
            interpreter.invoke()
            heads: NDArray[Any] = interpreter.get_tensor(said)
            return heads

        return run

    return laid_out


def openvino(content: bytes) -> Runner:
    """Of the same LiteRT model, with OpenVINO's kernels."""
    import openvino as ov

    core = ov.Core()
    core.set_property({"ENABLE_MMAP": False})  # the file is gone before the net is
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.tflite"
        path.write_bytes(content)
        model = core.read_model(path)
    # Left to itself it computes in bfloat16 where the processor can.
    alone = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "ENABLE_CPU_PINNING": False}
    exact = {"INFERENCE_PRECISION_HINT": "f32"}

    def laid_out(shape: tuple[int, ...]) -> Run:
        still = model.clone()
        still.reshape(list(shape))
        request = core.compile_model(still, "CPU", alone | exact).create_infer_request()
        given, said = request.get_input_tensor().data, request.get_output_tensor().data

        def run(pixels: NDArray[Any]) -> NDArray[Any]:
            given[...] = pixels
            request.infer()
            heads: NDArray[Any] = said.copy()
            return heads

        return run

    return laid_out


fastest = openvino if find_spec("openvino") else litert
