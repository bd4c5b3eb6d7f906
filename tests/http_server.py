"""A local HTTP server of archives that misbehaves as told, and archives made in memory."""

import io
import re
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def archive_of(members: Mapping[str, bytes]) -> bytes:
    """A zip archive of files by their names."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return content.getvalue()


@dataclass
class Server:
    """What the server has, how it misbehaves, and which byte each request began with."""

    archives: dict[str, bytes] = field(default_factory=dict)
    breaks_after: list[int] = field(default_factory=list)  # bytes of the next responses
    answers: list[int] = field(default_factory=list)  # statuses of the next responses
    ignores_range: bool = False
    says_length: bool = True
    silence: float = 0  # seconds before a connection is closed
    announced: str | None = None  # X-Linked-ETag of a redirect, as the Hub gives it
    redirects: dict[str, str] = field(default_factory=dict)  # path -> path
    starts: list[int] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        state = self.state
        if state.announced is not None and not self.path.startswith("/cdn"):
            return self.reply(
                302, {"Location": "/cdn" + self.path, "X-Linked-ETag": state.announced}
            )
        if self.path in state.redirects:
            return self.reply(302, {"Location": state.redirects[self.path]})
        if state.answers:
            return self.reply(state.answers.pop(0))
        body = state.archives.get(self.path.removeprefix("/cdn"))
        if body is None:
            return self.reply(404)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        state.starts.append(start)
        if asked and not state.ignores_range:
            if start >= len(body):
                return self.reply(416, {"Content-Range": f"bytes */{len(body)}"})
            ranged = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
            return self.send(206, ranged, body[start:])
        return self.send(200, {}, body)

    def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        if self.state.says_length:
            headers["Content-Length"] = str(len(body))
        self.reply(status, headers)
        self.wfile.write(
            body[: self.state.breaks_after.pop(0)] if self.state.breaks_after else body
        )
        threading.Event().wait(self.state.silence)

    def reply(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Keep the tests' output clean."""


@contextmanager
def serving(state: Server) -> Iterator[Server]:
    """Serve in a thread; `state.url` is the address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state})) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_address[1]}/"
        try:
            yield state
        finally:
            http.shutdown()
            thread.join()
