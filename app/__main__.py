"""`python -m app`: starts the page and prints its address."""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from pipeline.cli import run_cli

UPLOADS = "mtcnn-app-"  # the temporary folder of uploads begins so


def main() -> None:
    """Parse the command line and serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m app", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    parser.add_argument("--port", type=int, default=7860, help="its port (%(default)s)")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that uploads are removed then, too
    with tempfile.TemporaryDirectory(prefix=UPLOADS) as uploads:
        # Read when gradio is imported.
        os.environ["GRADIO_TEMP_DIR"] = uploads
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ["no_proxy"] = "*"  # gradio asks its own page whether it is up
        serve(arguments.host, arguments.port)


def serve(host: str, port: int) -> None:
    """Serve the page; raises `UserError` without gradio, or where it cannot listen there."""
    from mtcnn_detector import UserError

    try:
        import gradio as gr
    except ImportError:
        raise UserError("The page needs gradio: `pip install -e '.[app]'`.") from None
    from app.page import build

    page = build(Path.cwd())
    theme = gr.themes.Default(font="sans-serif", font_mono="monospace")  # no fonts from elsewhere
    try:
        page.launch(
            server_name=host,
            server_port=port,
            theme=theme,
            show_error=True,
            max_file_size="50mb",
            footer_links=[],
            quiet=True,
            prevent_thread_lock=True,
        )
    except (OSError, OverflowError):  # the latter of a port over 65535
        raise UserError(
            f"The page cannot listen at {host}:{port}: the port is in use, or the address is none "
            "of this computer's; choose another by --port (PORT=) or --host (HOST=)."
        ) from None
    print(f"http://{host}:{port} is the page; Ctrl-C ends it.", flush=True)
    page.block_thread()


if __name__ == "__main__":
    run_cli(main)
