"""A small Hugging Face Hub on the loopback interface, for tests with the real client.

It knows model repositories and what clients ask about them, see hub_routes and hub_files; large files travel
by Git LFS and lie on another origin. Use it as a context manager and give its `endpoint` to the client:

    with HubServer() as hub:
        hub.add("zoo/tiny", {"config.json": b"{}"})
        hub.fault(refuse(429), times=2)
        hf_hub_download("zoo/tiny", "config.json", endpoint=hub.endpoint, cache_dir=tmp_path, token=False)
        assert [request.method for request in hub.requests] == ["HEAD", "HEAD", "HEAD", "GET"]

The client reads ENVIRONMENT when it is imported: put it in place before.
"""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import hub_files  # noqa: F401  (adds its routes)
from hub_routes import Answer, Request, respond, shown
from hub_store import UNKNOWN, Store

ENVIRONMENT = {
    # Xet is spoken by a compiled client with a service of its own; without it the client uses LFS.
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    # No token of the machine; a test may put one of `HubServer.users` into HF_TOKEN.
    "HF_TOKEN": "",
    "HF_TOKEN_PATH": os.devnull,
    "NO_PROXY": "127.0.0.1,localhost",
}

# What goes wrong: gets the function that answers, so that it can act before, after or instead.
Change = Callable[[Callable[[], Answer]], Answer]


def refuse(status: int) -> Change:
    """Answer with this status and do nothing, as a Hub that is asked too often (429) or down (503)."""
    return lambda proceed: shown({"error": "Try again later"}, status)


def delay(seconds: float) -> Change:
    """Answer late."""

    def change(proceed: Callable[[], Answer]) -> Answer:
        time.sleep(seconds)
        return proceed()

    return change


def truncate(proceed: Callable[[], Answer]) -> Answer:
    """Close the connection after half of the body."""
    answer = proceed()
    return replace(answer, sent=len(answer.body) // 2)


def corrupt(proceed: Callable[[], Answer]) -> Answer:
    """Flip the last bit of the body: as many bytes, other content."""
    answer = proceed()
    return replace(answer, body=answer.body[:-1] + bytes([answer.body[-1] ^ 1]))


def follow(more: Iterable[bytes]) -> Change:
    """Do not say how long the body is, and let it go on."""

    def change(proceed: Callable[[], Answer]) -> Answer:
        answer = proceed()
        return replace(answer, headers={**answer.headers, "Content-Length": None}, more=more)

    return change


@dataclass
class Fault:
    """A change and the requests that it strikes."""

    change: Change
    pattern: re.Pattern[str]
    left: float


class Handler(BaseHTTPRequestHandler):
    """Reads a request, asks the Hub, sends the answer and closes the connection."""

    server: "Listener"

    def serve(self) -> None:
        # Read in any case: an answer to half a request reaches the client as a broken connection.
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.hub.handle(self.command, self.path, headers, body)
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.sent])
            for piece in answer.more:
                self.wfile.write(piece)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Listener(ThreadingHTTPServer):
    """The socket of a Hub; a client that hangs up is none of its troubles."""

    daemon_threads = True

    def __init__(self, hub: "HubServer") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.hub = hub

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            self.hub.errors.append(error)


class HubServer(Store):
    """A Hub that runs from `with` to its end, or to `stop`.

    Attributes:
        endpoint: address to give to the client.
        storage: the other origin, which takes and serves the bytes of large files.
        requests: all requests so far, in the order of their arrival.
        errors: mistakes within the double, or requests that it does not know; raised at the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.errors: list[BaseException | None] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._listener = Listener(self)
        port = self._listener.server_address[1]
        self.endpoint, self.storage = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,))

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is None and self.errors:
            raise AssertionError("The Hub's double failed") from self.errors[0]

    def stop(self) -> None:
        """Be gone: connections are refused from now on."""
        if self._thread.is_alive():
            self._listener.shutdown()
            self._listener.server_close()
            self._thread.join()

    def fault(self, change: Change, pattern: str = "", times: float = float("inf")) -> None:
        """Let something go wrong with the next requests.

        Args:
            change: `refuse(status)`, `delay(seconds)`, `truncate`, `corrupt` or `follow(more)`.
            pattern: regular expression that is searched in ``METHOD /quoted/path``; by default any request.
            times: number of requests after which all is well again.
        """
        self._faults.append(Fault(change, re.compile(pattern), times))

    def handle(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Answer:
        """Record a request and answer it."""
        path, _, query = target.partition("?")
        token = headers.pop("authorization", None)
        user = token and self.users.get(token.removeprefix("Bearer "), UNKNOWN)
        request = Request(method, path, parse_qs(query), headers, user, body)

        def proceed() -> Answer:
            with self._lock:
                return respond(self, request)

        try:
            return self._strike(request, proceed)
        except Exception as error:
            self.errors.append(error)
            # A status that clients do not retry.
            return shown({"error": repr(error)}, 501)

    def _strike(self, request: Request, proceed: Callable[[], Answer]) -> Answer:
        with self._lock:
            self.requests.append(request)
            target = f"{request.method} {request.path}"
            struck = (fault for fault in self._faults if fault.left > 0 and fault.pattern.search(target))
            fault = next(struck, None)
            if fault:
                fault.left -= 1
        return fault.change(proceed) if fault else proceed()
