"""What stands before the network: who may come in, how much at once, how many, for how long.

An ASGI middleware. What it lets through is a form whose files lie in a folder of their own, which
it removes when the answer has been sent.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess.deploy.form import Form, read_form
from minivess.deploy.problems import as_problem, problem
from minivess.deploy.upload import Limits, too_large
from minivess.errors import MinivessError

if TYPE_CHECKING:
    from starlette.responses import Response

    from minivess.deploy.counters import Counters

type Message = MutableMapping[str, Any]
type Scope = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type App = Callable[[Scope, Receive, Send], Awaitable[None]]

PATH = "/segment"
HEALTH = ("/livez", "/readyz", "/healthz")
DOCUMENTS = ("/", "/docs.json", "/static_content/")
FORM = "minivess.form"
# Set while a request runs; true once its client has gone.
GONE: ContextVar[threading.Event] = ContextVar("GONE")

CLIENT_GONE = 499  # the status that nginx logs for it
_MOST_DRAINED, _DRAIN_S = 1 << 25, 2.0
_FORM_BYTES = 1 << 16  # fields and boundaries beside the files
_MEMORY = 0.2  # weight of the last request in the mean time


@dataclass(frozen=True)
class Rules:
    """The rules of the door.

    Attributes:
        token: what requests must carry; empty: none, and only this machine may ask.
        host: address that the service listens on.
        limits: bytes and voxels of a file.
        max_seconds: of an upload, of waiting, and of a segmentation.
        max_concurrency: segmentations side by side.
        max_queue: requests beside these.
    """

    token: str
    host: str
    limits: Limits
    max_seconds: float
    max_concurrency: int
    max_queue: int

    def __post_init__(self) -> None:
        check_open(self.host, self.token)


def check_open(host: str, token: str, where: str = "") -> None:
    """Raise MV-SERVICE-001 where others could ask without a token."""
    if not token and not is_loopback(host):
        raise MinivessError(
            "MV-SERVICE-001",
            what="the service would be open to everybody who reaches this machine",
            where=where or f"host {host}",
            found="no token",
            expected="a token, or a loopback address",
            fix="set token in configs/deploy/.secrets.toml, or host to 127.0.0.1",
        )


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine, as seen from itself only.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0"), is_loopback("pc")
    (True, True, False, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Door:
    """The middleware; see the module."""

    def __init__(
        self,
        app: App,
        rules: Rules,
        counters: Counters,
        pages: Mapping[str, Callable[[], Response]],
    ) -> None:
        self.app, self.rules, self.counters, self.pages = app, rules, counters, pages
        self._slots = asyncio.Semaphore(rules.max_concurrency)
        self._admitted = 0
        self._mean_s = 1.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        from starlette.requests import ClientDisconnect

        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            await self.app(scope, receive, send)
            return
        line = _Line(receive, send)
        asked = scope["path"] == PATH and scope["method"] == "POST"
        try:
            self._check_visitor(scope, scope["path"])
            await self._let_in(asked, scope, line)
        except ClientDisconnect:  # in the middle of an upload: there is nobody to answer
            self.counters.requests.labels(str(CLIENT_GONE)).inc()
        except Exception as error:
            if line.begun:  # nothing else can be said in the middle of an answer
                raise
            response = self._refused(error)
            if asked:
                self.counters.requests.labels(str(response.status_code)).inc()
                await _drain(scope, line)
            await response(scope, receive, send)

    async def _let_in(self, asked: bool, scope: Scope, line: _Line) -> None:
        page = self.pages.get(scope["path"])
        if asked:
            await self._segment(scope, line.receive, line.send)
        elif page is not None and scope["method"] in ("GET", "HEAD"):
            await page()(scope, line.receive, line.send)
        else:
            await self.app(scope, line.receive, line.send)

    def _refused(self, error: Exception) -> Response:
        shown = as_problem(error)
        self.counters.problems.labels(shown.code).inc()
        response = problem(shown, self._wait_s())
        response.headers["Connection"] = "close"
        return response

    def _check_visitor(self, scope: Scope, path: str) -> None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if self.rules.token:
            open_to_all = path in HEALTH or path.startswith(DOCUMENTS[2]) or path in DOCUMENTS[:2]
            if not open_to_all and not _has_token(headers.get(b"authorization", ""), self.rules):
                raise MinivessError(
                    "MV-SERVICE-002",
                    what="the request has no token, or a wrong one",
                    fix="send the header Authorization: Bearer TOKEN",
                )
            return
        # Without a token only this machine may ask, by its own name (else a page of another site,
        # which has its name resolved to 127.0.0.1, could), and no page of another site.
        here = (scope.get("server") or ("",))[0]
        host = _name_of(headers.get(b"host", ""))
        origin = headers.get(b"origin", "")
        same = not origin or _name_of(origin.partition("://")[2]) == host
        unix = not here or here.startswith("/")  # a socket of this machine, as in tests
        if not ((unix or is_loopback(here)) and is_loopback(host) and same):
            raise MinivessError(
                "MV-SERVICE-003",
                what="without a token the service answers its own machine only",
                found=f"host {host[:80]!r}, origin {origin[:80]!r}",
                fix="ask http://127.0.0.1, or set a token and send it",
            )

    async def _segment(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._enter()
        folder = Path(tempfile.mkdtemp(prefix="minivess-"))
        visit = _Visit(receive, send, self._slots, self.rules.limits)
        try:
            visit.check_length(scope)
            scope[FORM] = await self._form(scope, visit, folder)
            await self._slot(visit)
            watch = asyncio.create_task(visit.watch())
            token = GONE.set(visit.gone)
            start = time.perf_counter()
            self.counters.running.inc()
            try:
                await self.app(scope, visit.nothing_more, visit.send)
            finally:
                self.counters.running.dec()
                GONE.reset(token)
                watch.cancel()
                elapsed = time.perf_counter() - start
                self._mean_s += _MEMORY * (elapsed - self._mean_s)
            self.counters.requests.labels(str(visit.status)).inc()
        finally:
            visit.release()
            self._leave()
            shutil.rmtree(folder, ignore_errors=True)

    def _enter(self) -> None:
        if self._admitted >= self.rules.max_concurrency + self.rules.max_queue:
            raise _busy(f"{self._admitted} requests")
        self._admitted += 1
        self.counters.admitted.inc()

    def _leave(self) -> None:
        self._admitted -= 1
        self.counters.admitted.dec()

    def _wait_s(self) -> float:
        """When a place should be free."""
        return self._mean_s * self._admitted / self.rules.max_concurrency

    async def _form(self, scope: Scope, visit: _Visit, folder: Path) -> Form:
        from starlette.requests import Request

        try:
            async with asyncio.timeout(self.rules.max_seconds):
                return await read_form(Request(scope, visit.receive), folder)
        except TimeoutError as error:
            raise MinivessError(
                "MV-SERVICE-006",
                what="the upload took too long",
                found=f"more than {self.rules.max_seconds:g} s",
                fix="send a smaller file, or over a faster line",
            ) from error

    async def _slot(self, visit: _Visit) -> None:
        try:
            async with asyncio.timeout(self.rules.max_seconds):
                await visit.acquire()
        except TimeoutError as error:
            raise _busy(f"no place within {self.rules.max_seconds:g} s") from error


class _Line:
    """Both directions of a connection: whether all has been read, whether an answer has begun."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self.begun = self.read = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.read = self.read or not message.get("more_body")
        return message

    async def send(self, message: Message) -> None:
        self.begun = True
        await self._send(message)


class _Visit:
    """One request on its way: bytes counted, its place, whether its client is still there."""

    def __init__(
        self, receive: Receive, send: Send, slots: asyncio.Semaphore, limits: Limits
    ) -> None:
        self._receive, self._send, self._slots = receive, send, slots
        self._limits, self._left = limits, 2 * limits.max_bytes + _FORM_BYTES
        self._held = False
        self.gone = threading.Event()
        self._ended = asyncio.Event()
        self._told = False
        self.status = 0

    def check_length(self, scope: Scope) -> None:
        """Raise for a request whose announced length is above the limit, before it is read."""
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._left:
            raise too_large("the request", f"{int(length)} bytes", self._limits)

    async def receive(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise too_large("the request", "more bytes than announced or allowed", self._limits)
        return message

    async def nothing_more(self) -> Message:
        """What the application receives: the body has been read, the client may go."""
        if not self._told:
            self._told = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._ended.wait()
        return {"type": "http.disconnect"}

    async def watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self.gone.set()
        self._ended.set()

    async def acquire(self) -> None:
        await self._slots.acquire()
        self._held = True

    def release(self) -> None:
        if self._held:
            self._held = False
            self._slots.release()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.release()  # a client that reads slowly keeps nobody from the network
        await self._send(message)


def _busy(found: str) -> MinivessError:
    return MinivessError(
        "MV-SERVICE-004",
        what="the service is busy",
        found=found,
        fix="send it again after the seconds that the header Retry-After says",
    )


def _has_token(header: str, rules: Rules) -> bool:
    scheme, _, token = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(
        token.strip().encode(), rules.token.encode()
    )


def _name_of(host: str) -> str:
    """The name in `name:port`.

    >>> _name_of("[::1]:3000"), _name_of("localhost"), _name_of("127.0.0.1:3000")
    ('[::1]', 'localhost', '127.0.0.1')
    """
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


async def _drain(scope: Scope, line: _Line) -> None:
    """Read on for a moment: a client that still sends would not see the answer."""
    if b"100-continue" in dict(scope["headers"]).get(b"expect", b""):
        return
    left = _MOST_DRAINED
    try:
        async with asyncio.timeout(_DRAIN_S):
            while left > 0 and not line.read:
                left -= len((await line.receive()).get("body", b""))
    except TimeoutError:
        return
