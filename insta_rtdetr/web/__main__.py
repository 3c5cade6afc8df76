"""Serve a page on which images are dropped, and an endpoint for programs (described on /docs).

    python -m insta_rtdetr.web --model quickstart_MNV2_D3_256
"""

import argparse
import contextlib
import socket
import sys
from pathlib import Path

from insta_rtdetr.command_line import CommandParser, run_command, use_threads
from insta_rtdetr.errors import UserError, report
from insta_rtdetr.predict import create_model

try:
    import uvicorn

    from .app import Demo, create_app
    from .examples import examples_for
    from .limits import MEGA, Limits
except ImportError as error:
    sys.exit(report(UserError(f"The web demo needs fastapi and uvicorn ({error}).  Run: pip install fastapi uvicorn")))

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 5123


def main(arguments: list[str] | None = None, prog: str = "python -m insta_rtdetr.web") -> int:
    """Run the command line and return the exit code."""
    return run_command(lambda: serve(parse(arguments, prog)))


def serve(args: argparse.Namespace) -> None:
    """Load the model and serve the page until Ctrl+C.

    Raises:
        UserError: the address, the model or an example cannot be used.
    """
    use_threads(args.threads)
    listener = listen(args.host, args.port)
    app = create_app(make_demo(args))
    host, port = listener.getsockname()[:2]
    sys.stdout.write(f"Open http://{f'[{host}]' if ':' in host else host}:{port} in a browser; Ctrl+C ends it.\n")
    sys.stdout.flush()
    with contextlib.suppress(KeyboardInterrupt):  # The server raises it again after it has ended.
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def parse(arguments: list[str] | None, prog: str) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        UserError: an option is wrong.
    """
    parser = CommandParser(prog, __doc__)
    parser.add_model()
    option = parser.add_argument
    option("--host", default=DEFAULT_HOST, help=f"address to serve on (default {DEFAULT_HOST}: this machine only)")
    option("--port", type=int, default=DEFAULT_PORT, help=f"(default {DEFAULT_PORT}; 0: any that is free)")
    option("--allow-host", nargs="*", default=[], metavar="NAME", help="names of this server (localhost needs none)")
    option("--threshold", type=float, default=0.5, metavar="P", help="where the page's threshold starts (default 0.5)")
    option("--examples", type=Path, metavar="FOLDER", help="images to offer (default: some for this model's classes)")
    option("--max-megabytes", type=float, default=20, metavar="MB", help="of a file (default 20)")
    option(
        "--max-megapixels", type=float, default=16, metavar="MP",
        help="of an image (default 16); Detectron2's models need a megabyte of memory for each million and object",
    )  # fmt: skip
    option("--tile", type=int, default=640, metavar="PIXELS", help="side of a large image's tiles (default 640)")
    args = parser.parse_args(arguments)
    if args.tile < 1:
        parser.error(f"--tile is {args.tile}, wanted at least 1")
    if not 0 <= args.threshold <= 1:
        parser.error(f"--threshold is {args.threshold}, wanted 0 to 1")
    if not 0 <= args.port < 2**16:
        parser.error(f"--port is {args.port}, wanted 0 to 65535")
    if min(args.max_megabytes, args.max_megapixels) <= 0:
        parser.error("--max-megabytes and --max-megapixels must be above 0")
    return args


def listen(host: str, port: int) -> socket.socket:
    """Open the socket of the server, before the model is loaded, so that a port in use is reported at once.

    Raises:
        UserError: the address cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(f"Cannot serve on {host}, port {port}: {error.strerror}.  Choose another --port.") from error
    return listener


def make_demo(args: argparse.Namespace) -> Demo:
    """Load the model and the examples.

    Raises:
        UserError, CheckpointError: see `create_model` and `examples_for`.
    """
    model = create_model(args.config_file, args.weights, args.device, args.opts)
    examples = examples_for(model.categories.names, args.examples)
    limits = Limits(int(args.max_megabytes * MEGA), int(args.max_megapixels * MEGA))
    hosts = (args.host, *args.allow_host)
    return Demo(model, Path(args.config_file).stem, args.threshold, examples, limits, hosts, args.tile)


if __name__ == "__main__":
    sys.exit(main())
