"""Bounds on what the Hub's client asks, waits for, reads and says. They hold within `limited` alone.

The client has no setting for how often it asks again (23 s for a Hub that is busy), reads answers of any length, waits
for some without end, and warns of each try in words that hold addresses which give access.
"""

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

TRIES = 3
STALL = 3.0
"""Seconds to wait for the next bytes of a download, each of three times; HF_HUB_DOWNLOAD_TIMEOUT wins."""
PATIENCE = 60.0
"""Seconds to wait for what the client itself would wait for without end, as the Hub's answer to a commit."""
MAX_ANSWER = 2**24
"""Bytes of an answer that is no file, at most."""
BUSY = (408, 429, 500, 502, 503, 504)
LOGGERS = ("huggingface_hub", "httpx", "httpx2", "httpcore", "httpcore2")


class GaveUp(OSError):
    """Enough tries; the last one had this status, or broke off."""

    def __init__(self, status: int | None = None) -> None:
        super().__init__()
        self.status = status


class TooMuch(OSError):
    """An answer goes on after all the bytes that were announced."""


@dataclass
class _Limits:
    """How much may be answered, and how often was asked."""

    most: int
    tries: Counter = field(default_factory=Counter)


_mine: ContextVar[_Limits | None] = ContextVar("limits", default=None)
# The client sends several large files in threads of its own, which know of no context.
_all: list[_Limits] = []


def _current() -> _Limits | None:
    return _mine.get() or (_all[-1] if _all else None)


@contextmanager
def limited(most: int = MAX_ANSWER) -> Iterator[None]:
    """Let the client ask a few times only, briefly and silently, and read no more than so many bytes of an answer.

    Raises:
        GaveUp: after enough tries.
        TooMuch: if an answer goes on.
    """
    from huggingface_hub import get_session

    _silence()
    hooks = get_session().event_hooks
    if _before not in hooks["request"]:
        hooks["request"].append(_before)
        hooks["response"].append(_after)
    mine = _Limits(most)
    token = _mine.set(mine)
    _all.append(mine)
    try:
        yield
    finally:
        # By identity: others may have asked as often.
        _all[:] = [each for each in _all if each is not mine]
        _mine.reset(token)


def _silence() -> None:
    # What a logger hands on goes past the filters of those above it, to any handler there: each needs its own.
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in LOGGERS]
    loggers = [logging.getLogger(name) for name in names]
    for place in (*loggers, *(handler for logger in loggers for handler in logger.handlers)):
        place.addFilter(_quiet)


def _quiet(record: logging.LogRecord) -> bool:
    return _current() is None


def _key(request: Any) -> tuple[int, str, str, str | None]:
    # A download that got further asks for another range, and starts to count anew.
    return threading.get_ident(), request.method, str(request.url), request.headers.get("range")


def _before(request: Any) -> None:
    limits = _current()
    if limits is None:
        return
    limits.tries[_key(request)] += 1
    if limits.tries[_key(request)] > TRIES:
        raise GaveUp()
    # Unpacked, an answer may be a thousand times as long as on its way.
    request.headers["accept-encoding"] = "identity"
    request.extensions["timeout"] = _patience(request)


def _patience(request: Any) -> dict[str, float]:
    from huggingface_hub import constants

    # What the client says of its downloads, unless the user says something else.
    known = constants.DEFAULT_DOWNLOAD_TIMEOUT if request.method == "GET" else None
    given = request.extensions.get("timeout") or dict.fromkeys(("connect", "read", "write", "pool"))
    return {name: PATIENCE if value is None else STALL if value == known else value for name, value in given.items()}


def _after(response: Any) -> None:
    limits = _current()
    if limits is None:
        return
    if response.status_code in BUSY and limits.tries[_key(response.request)] >= TRIES:
        raise GaveUp(response.status_code)
    # The Hub may ask for hours, and the client would wait for them.
    for name in ("retry-after", "ratelimit"):
        response.headers.pop(name, None)
    if response.headers.get("content-encoding", "identity") != "identity":
        raise TooMuch()
    response.stream = _limited(response.stream, limits.most)


def _limited(stream: Any, most: int) -> Any:
    """The bytes of an answer, until there are too many."""
    from huggingface_hub.errors import HTTPError

    # Which library the client speaks through depends on its version, and each takes streams of its own class only.
    library: Any = import_module(HTTPError.__module__.partition(".")[0])

    class Limited(library.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            left = most
            for chunk in stream:
                left -= len(chunk)
                if left < 0:
                    raise TooMuch()
                yield chunk

        def close(self) -> None:
            stream.close()

    return Limited()
