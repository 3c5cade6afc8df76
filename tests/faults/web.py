"""A real server with a tiny model, and clients that do not behave."""

import http.client
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import uvicorn
from PIL import Image

from insta_rtdetr import create_model
from insta_rtdetr.web import limits
from insta_rtdetr.web.app import Demo, create_app
from insta_rtdetr.web.limits import Limits
from tests.tiny import tiny_config, tiny_model
from tests.web.test_app import as_file, png_that_claims

from .children import Child
from .table import Row, Step

MEGA = 10**6
PAUSE = 2


class Server:
    """A server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = listener.getsockname()[1]
        self.child = Child(_serve, listener, folder, log=folder / "server.log")
        listener.close()
        while self.ask("GET", "/api/model", None)[0] != 200:
            time.sleep(0.2)

    def ask(self, method: str, path: str, body: bytes | None, headers: dict | None = None) -> tuple[int, str]:
        """The status and the text of an answer; status 0 if the connection ends without one."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            allowed = answer.getheader("Access-Control-Allow-Origin") or ""
            return answer.status, answer.read().decode(errors="replace") + allowed
        except (OSError, http.client.HTTPException) as error:
            return 0, type(error).__name__
        finally:
            connection.close()

    def predict(self, body: bytes) -> tuple[int, str]:
        """Send an image."""
        return self.ask("POST", "/api/predict?threshold=0.0", body)

    def open(self, head: str, body: bytes = b"") -> socket.socket:
        """Send the beginning of a request for a prediction by hand."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        client.sendall(f"POST /api/predict HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode() + body)
        return client

    def end(self) -> None:
        """Kill it."""
        self.child.send(signal.SIGKILL)
        self.child.wait()

    @property
    def megabytes(self) -> float:
        """Its resident memory."""
        pages = int(Path(f"/proc/{self.child.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / MEGA


def small_image() -> bytes:
    """A PNG of noise, 80 x 48 pixels."""
    return as_file(np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8))


def _serve(listener: socket.socket, folder: Path) -> None:
    torch.set_num_threads(1)
    limits.PAUSE_SECONDS = PAUSE
    (folder / "tiny.yaml").write_text(tiny_config("TEST.DETECTIONS_PER_IMAGE", 10).dump())
    torch.save({"model": tiny_model().state_dict()}, folder / "tiny.pth")
    model = create_model(folder / "tiny.yaml", folder / "tiny.pth")
    app = create_app(Demo(model, "tiny", limits=Limits(MEGA, 100_000)))
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def steps(folder: Path) -> Iterator[Step]:
    """Yield all faults, of one server that lasts until the last one.

    Args:
        folder: for files.
    """
    server = Server(folder)
    image = small_image()
    try:
        for fault in (uploads_at_once, stalling, leaving, wrong_lengths, bombs, foreign):
            yield fault.__name__, partial(_healthy, fault, server, image)
        yield "memory", partial(memory, server, image, 1000)
    finally:
        server.end()


def _healthy(fault: Callable[[Server, bytes], Row], server: Server, image: bytes) -> Row:
    """Do a fault; then the server must answer, and its log have no traceback."""
    row = fault(server, image)
    status, _ = server.predict(image)
    row.add("" if status == 200 else f"an image gets {status} afterwards")
    return row.add("the log has a traceback: " + server.child.last_line if "Traceback" in server.child.said else "")


def uploads_at_once(server: Server, image: bytes) -> Row:
    """30 uploads at once."""
    row = Row("30 uploads at once", "each is answered (200) or refused (503); the server answers others meanwhile")
    with ThreadPoolExecutor(31) as threads:
        answers = [threads.submit(server.predict, image) for _ in range(30)]
        about = server.ask("GET", "/api/model", None)[0]
        statuses = Counter(answer.result()[0] for answer in answers)
    for status in statuses.elements():
        row.add("" if status in (200, 503) else f"status {status}")
    return row.add("" if about == 200 else f"/api/model gets {about}", f"statuses {dict(statuses)}")


def stalling(server: Server, image: bytes) -> Row:
    """Sixteen clients, as many as there are places, that send the beginning of an image and then nothing."""
    row = Row(f"16 clients stall in an upload (limit here {PAUSE} s)", "each gets 408; then images are answered")
    clients = [server.open("Content-Length: 5000\r\n", b"begun") for _ in range(16)]
    time.sleep(0.3)
    refused = server.predict(image)[0]
    row.add("" if refused == 503 else f"an image meanwhile gets {refused}, wanted 503")
    for client in clients:
        text = client.recv(1000)
        row.add("" if b" 408 " in text else f"answer {text[:60]!r}", "408 to each, 503 to others meanwhile")
        client.close()
    return row


def leaving(server: Server, image: bytes) -> Row:
    """Clients that leave in the middle of an upload, and before the answer."""
    row = Row("40 clients leave in the upload or before the answer", "the server goes on")
    for number in range(40):
        body = image if number % 2 else image[: len(image) // 2]
        server.open(f"Content-Length: {len(image)}\r\n", body).close()
        row.add("")
    time.sleep(1)
    return row


def wrong_lengths(server: Server, image: bytes) -> Row:
    """Content-Length that is no number, negative, twice, larger or smaller than what is sent, and absurd."""
    row = Row("wrong Content-Length", "refused (400, 408, 413), or the connection is closed")
    heads = {
        "no number": "Content-Length: many\r\n",
        "negative": "Content-Length: -5\r\n",
        "two": "Content-Length: 5\r\nContent-Length: 50\r\n",
        "too short": "Content-Length: 100\r\n",
        "too long": f"Content-Length: {len(image) + 1000}\r\n",
        "10 TB": "Content-Length: 10000000000000\r\n",
        "with chunks": "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "chunk of 10 TB": "Transfer-Encoding: chunked\r\n",
    }
    said = []
    for name, head in heads.items():
        client = server.open(head, b"9184e72a000\r\n" + image if name == "chunk of 10 TB" else image)
        try:
            status = client.recv(1000)[9:12].decode() or "closed"
        except OSError as error:
            status = f"closed ({type(error).__name__})"
        client.close()
        said.append(f"{name}: {status}")
        row.add("" if status.startswith(("400", "408", "413", "closed")) else f"{name}: {status}")
    row.said = ", ".join(said)
    return row


def bombs(server: Server, image: bytes) -> Row:
    """Images that unpack to far more than they weigh, and files larger than the limit."""
    row = Row("image bombs and large files", "refused (400, 413, 415), memory grows by less than 50 MB")
    before = server.megabytes
    black = as_file(Image.new("L", (20_000, 20_000)), "PNG")
    frames = [Image.new("L", (300, 300), n % 256) for n in range(500)]
    cases = {
        "a PNG of 400 million black pixels": black,
        "a PNG that claims 60,000 x 60,000": png_that_claims(60_000, 60_000),
        "a TIFF of 64 million pixels": as_file(Image.new("L", (8000, 8000)), "TIFF", compression="tiff_deflate"),
        "a WebP of 256 million pixels": as_file(Image.new("L", (16_000, 16_000)), "WEBP"),
        "10 MB of zeros": bytes(10 * MEGA),
        "a GIF of 500 frames": as_file(frames[0], "GIF", save_all=True, append_images=frames[1:]),
    }
    said = []
    for name, body in cases.items():
        status, text = server.predict(body)
        is_right = status in (400, 413, 415) or (name.startswith("a GIF") and status == 200)
        said.append(f"{name}: {status}")
        row.add("" if is_right else f"{name}: {status} {text[:80]}")
    growth = server.megabytes - before
    row.said = f"{', '.join(said)}; {growth:.0f} MB more"
    return row.add("" if growth < 50 else f"memory grew by {growth:.0f} MB")


def foreign(server: Server, image: bytes) -> Row:
    """Requests with the Host or the Origin of another server."""
    row = Row("Host or Origin of another server", "refused, and no answer allows another origin")
    own = f"127.0.0.1:{server.port}"
    cases: list[tuple[dict, Callable[[int], bool]]] = [
        ({"Host": "evil.example"}, lambda status: status == 421),
        ({"Host": f"evil.example:{server.port}", "Origin": "http://evil.example"}, lambda status: status == 421),
        ({"Host": own, "Origin": "http://evil.example"}, lambda status: status == 403),
        ({"Host": own, "Origin": "null"}, lambda status: status == 403),
        ({"Host": own, "Origin": f"http://{own}"}, lambda status: status == 200),
    ]
    statuses = []
    for headers, is_right in cases:
        status, text = server.ask("POST", "/api/predict", image, headers)
        statuses.append(str(status))
        wrong = f"{headers}: {status}" if not is_right(status) else ""
        row.add(wrong or ("an answer allows origins" if text.endswith(("*", "evil.example")) else ""))
    row.said = f"statuses {', '.join(statuses)}; the last is the server's own page"
    return row


def memory(server: Server, image: bytes, number: int) -> Row:
    """The memory after many requests against that after ten."""
    row = Row(f"{number} images one after another", "memory as after 10, within 20 MB")
    for done in range(1, number + 1):
        status, _ = server.predict(image)
        if status != 200:
            return row.add(f"status {status} at request {done}")
        if done == 10:
            before = server.megabytes
    after = server.megabytes
    return row.add("" if after - before < 20 else "memory grew", f"{before:.0f} MB after 10, {after:.0f} MB after all")
