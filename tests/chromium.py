"""A headless Chromium driven by its remote protocol, for tests of pages."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--window-size=1500,1150", "--remote-debugging-port=0"),
)


class Page:
    """One page of a browser, by the connection to it."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._count = socket, 0

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol; its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=120))
            if answer.get("id") == self._count:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    def upload(self, selector: str, file: Path) -> None:
        """Choose a file in a file input."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def screenshot(self, file: Path) -> None:
        """Save what is visible as PNG."""
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))


@contextmanager
def open_page(address: str, profile: Path) -> Iterator[Page]:
    """A page in a browser of its own, which keeps its files in `profile`."""
    from websockets.sync.client import connect

    assert CHROMIUM is not None
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", address]
    output = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=output, stderr=output) as browser:
        try:
            with connect(_page_address(profile), max_size=None) as socket:
                yield Page(socket)
        finally:
            browser.terminate()


def _page_address(profile: Path) -> str:
    """Where the protocol of the browser's page is reached."""
    file = profile / "DevToolsActivePort"
    wait_until(file.exists, "the browser's port")
    port = wait_until(lambda: file.read_text().split("\n")[0], "the browser's port")

    def find() -> str | None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [target for target in json.load(answer) if target["type"] == "page"]
        return pages[0]["webSocketDebuggerUrl"] if pages else None

    found: str = wait_until(find, "the browser's page")
    return found


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 180) -> Any:
    """The first true value of a condition; fails when there is none for so long."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"{what} did not come within {seconds:.0f} s"
        time.sleep(0.2)
    return value
