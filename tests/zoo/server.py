"""A server of files that can misbehave."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK_BYTES = 1000


class FileServer(ThreadingHTTPServer):
    """Files by path, with ranges.

    Attributes:
        files: path -> content.
        requests: (path, its Range header or "") of each request, in order.
        has_ranges: whether parts of files are given.
        tag: ETag of all files; empty for none.
        cuts: bytes after which the connection is cut, for the next answers in turn.
        status: of all answers, in place of the file.
        content_type: of all files.
        shift: bytes by which parts begin too late.
        redirects: path -> other path.
        pause_seconds: between chunks of CHUNK_BYTES; without a pause all comes at once.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.has_ranges, self.tag = True, '"first"'
        self.cuts: list[int] = []
        self.status = 200
        self.content_type = "application/octet-stream"
        self.redirects: dict[str, str] = {}
        self.shift = 0
        self.pause_seconds = 0.0

    @property
    def address(self) -> str:
        """Without a path."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range", "")
        server.requests.append((self.path, wanted))
        if self.path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[self.path])
            self.end_headers()
        elif server.status != 200 or self.path not in server.files:
            self.send_error(server.status if server.status != 200 else 404)
        else:
            self._send(server.files[self.path], wanted)

    def _send(self, content: bytes, wanted: str) -> None:
        start = 0
        if wanted and self.server.has_ranges and self.headers.get("If-Range") in (None, self.server.tag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) + self.server.shift
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        self.send_header("Content-Type", self.server.content_type)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + self.server.cuts.pop(0) if self.server.cuts else len(content)
        step = CHUNK_BYTES if self.server.pause_seconds else len(content)
        for position in range(start, min(end, len(content)), step):
            self.wfile.write(content[position : min(position + step, end)])
            time.sleep(self.server.pause_seconds)
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        """Not to stderr."""


@contextmanager
def serving() -> Iterator[FileServer]:
    """Within the context, a server that answers."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
