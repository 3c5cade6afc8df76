"""Refusing requests that other pages make in a browser on this machine.

A page elsewhere may send requests to a server on localhost.  It cannot read the answers, because they allow no other
origin (CORS), unless a domain of its own turns out to be 127.0.0.1 (DNS rebinding).  Its requests then have that domain
as their Host.
"""

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class KnownHosts:
    """ASGI application in front of another one, which passes on what is addressed to this server and sent by its page.

    Addresses of numbers are always known: no domain is needed for them.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        """Set up the application.

        Args:
            app: the application behind.
            names: names of this server, beside localhost and that of the machine.
        """
        self._app = app
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_known(host):
            detail = f"The server is not {host[:100]!r}.  Start it with --allow-host NAME to use another name."
            return JSONResponse({"detail": detail}, 421)
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return JSONResponse({"detail": "Pages of other servers cannot use this one."}, 403)
        return None

    def _is_known(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self._names:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True
