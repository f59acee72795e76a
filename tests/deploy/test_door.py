"""The door of the service, before an application that takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.responses import PlainTextResponse

from minivess.deploy.counters import Counters
from minivess.deploy.door import FORM, GONE, Door, Rules
from minivess.deploy.form import Form
from minivess.deploy.upload import Limits
from minivess.errors import MinivessError

LIMITS = Limits(max_bytes=1000, max_voxels=100)
FILES = {"volume": ("a.nii", b"x" * 100)}


class Rooms:
    """An application that notes the forms it sees and answers when told to."""

    def __init__(self) -> None:
        self.forms: list[Form] = []
        self.open = asyncio.Event()
        self.gone = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if FORM in scope:
            form = scope[FORM]
            assert form.volume.read_bytes() == FILES["volume"][1]
            self.forms.append(form)
            await self.open.wait()
            self.gone = GONE.get().is_set()
        await PlainTextResponse("done")(scope, receive, send)


def client(rooms: Rooms, server: str = "127.0.0.1", **changes: Any) -> httpx.AsyncClient:
    values: dict[str, Any] = {
        "token": "",
        "host": "127.0.0.1",
        "limits": LIMITS,
        "max_seconds": 5.0,
        "max_concurrency": 1,
        "max_queue": 1,
    }
    made = Door(rooms, Rules(**{**values, **changes}), Counters(), {"/": PlainTextResponse})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await made({**scope, "server": (server, 80)}, receive, send)

    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", timeout=20
    )


def code(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert found["status"] == response.status_code
    assert found["fix"]
    return str(found["code"])


async def opened(**changes: Any) -> tuple[httpx.AsyncClient, Rooms]:
    rooms = Rooms()
    rooms.open.set()
    return client(rooms, **changes), rooms


def test_a_form_comes_through_and_its_folder_is_removed() -> None:
    async def visit() -> None:
        ask, rooms = await opened()
        form = {"spacing_um": "1,1,5", "spacing_unit": "mm", "answer": "all"}
        assert (await ask.post("/segment", files=FILES, data=form)).text == "done"
        (seen,) = rooms.forms
        assert (seen.spacing_um, seen.spacing_unit, seen.answer) == ((1, 1, 5), "mm", "all")
        assert not seen.volume.parent.parent.exists()

    asyncio.run(visit())


@pytest.mark.parametrize(
    ("files", "data", "expected"),
    [
        ({}, {}, "MV-SERVICE-007"),
        ({}, {"volume": "http://127.0.0.1/a.nii"}, "MV-SERVICE-007"),
        ({"volume": ("", b"x")}, {}, "MV-SERVICE-007"),
        ({"volume": ("../a.nii", b"x")}, {}, "MV-UPLOAD-009"),
        ({"volume": ("a.mha", b"x")}, {}, "MV-UPLOAD-003"),
        ({**FILES, "reference": ("b.png", b"x")}, {}, "MV-UPLOAD-003"),
        ({**FILES, "other": ("a.nii", b"x")}, {}, "MV-SERVICE-007"),
        ({**FILES, "answer": ("a.nii", b"x")}, {}, "MV-SERVICE-007"),
        (FILES, {"spacing": "1"}, "MV-SERVICE-007"),
        (FILES, {"spacing_um": "1,1"}, "MV-SERVICE-007"),
        (FILES, {"spacing_um": "1,1,nan"}, "MV-SERVICE-007"),
        (FILES, {"spacing_um": "1" * 300}, "MV-SERVICE-007"),
        (FILES, {"spacing_unit": "inch"}, "MV-SERVICE-007"),
        (FILES, {"answer": "masks"}, "MV-SERVICE-007"),
        (FILES, {"answer": ["mask", "all"]}, "MV-SERVICE-007"),
    ],
)
def test_forms_that_are_refused(files: Any, data: Any, expected: str) -> None:
    async def visit() -> None:
        ask, rooms = await opened()
        assert code(await ask.post("/segment", files=files, data=data)) == expected
        assert not rooms.forms

    asyncio.run(visit())


def test_requests_that_are_no_form() -> None:
    async def visit() -> None:
        ask, rooms = await opened()
        for body, kind in ((b'{"volume": "/etc/passwd"}', "application/json"), (b"x" * 99, "")):
            found = await ask.post("/segment", content=body, headers={"content-type": kind})
            assert code(found) == "MV-SERVICE-007"
        broken = {"content-type": "multipart/form-data; boundary=x"}
        assert code(await ask.post("/segment", content=b"--y", headers=broken)) == "MV-SERVICE-007"
        assert not rooms.forms

    asyncio.run(visit())


def test_too_many_bytes_announced_or_sent() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield (
            b"--x\r\n" + b'Content-Disposition: form-data; name="volume"; filename="a.nii"\r\n\r\n'
        )
        for _ in range(100):
            yield bytes(1000)

    async def visit() -> None:
        ask, rooms = await opened()
        large = {"volume": ("a.nii", bytes(100_000))}
        assert code(await ask.post("/segment", files=large)) == "MV-UPLOAD-001"
        kind = {"content-type": "multipart/form-data; boundary=x"}
        found = await ask.post("/segment", content=chunks(), headers=kind)
        assert code(found) == "MV-UPLOAD-001"
        assert not rooms.forms

    asyncio.run(visit())


def test_an_upload_that_does_not_end() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"--x\r\n"
        await asyncio.sleep(3)
        yield b"--x--"

    async def visit() -> None:
        ask, _ = await opened(max_seconds=0.1)
        kind = {"content-type": "multipart/form-data; boundary=x"}
        assert code(await ask.post("/segment", content=slow(), headers=kind)) == "MV-SERVICE-006"

    asyncio.run(visit())


def test_one_runs_one_waits_and_the_third_is_told_when_to_come_back() -> None:
    async def visit() -> None:
        rooms = Rooms()
        ask = client(rooms)
        first = asyncio.create_task(ask.post("/segment", files=FILES))
        second = asyncio.create_task(ask.post("/segment", files=FILES))
        while not rooms.forms:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        third = await ask.post("/segment", files=FILES)
        assert (third.status_code, code(third)) == (429, "MV-SERVICE-004")
        assert int(third.headers["retry-after"]) >= 1
        assert len(rooms.forms) == 1, "the second waits"
        rooms.open.set()
        assert [(await task).status_code for task in (first, second)] == [200, 200]
        assert (await ask.post("/segment", files=FILES)).status_code == 200, "there is room again"

    asyncio.run(visit())


def test_waiting_has_an_end() -> None:
    async def visit() -> None:
        rooms = Rooms()
        ask = client(rooms, max_seconds=0.2)
        first = asyncio.create_task(ask.post("/segment", files=FILES))
        while not rooms.forms:
            await asyncio.sleep(0.01)
        assert code(await ask.post("/segment", files=FILES)) == "MV-SERVICE-004"
        rooms.open.set()
        assert (await first).status_code == 200

    asyncio.run(visit())


def test_the_token() -> None:
    async def visit() -> None:
        ask, rooms = await opened(token="secret", host="0.0.0.0", server="10.0.0.5")
        for header in (
            "",
            "Bearer",
            "Bearer other",
            "Basic secret",
            "Bearer secre",
            "bearersecret",
        ):
            headers = {"authorization": header} if header else {}
            found = await ask.post("/segment", files=FILES, headers=headers)
            assert (found.status_code, code(found)) == (401, "MV-SERVICE-002")
            assert found.headers["www-authenticate"].startswith("Bearer")
            assert (await ask.get("/metrics", headers=headers)).status_code == 401
        assert not rooms.forms
        right = {"authorization": "Bearer secret"}
        assert (await ask.post("/segment", files=FILES, headers=right)).status_code == 200
        for path in ("/livez", "/readyz", "/", "/docs.json"):
            assert (await ask.get(path)).status_code == 200

    asyncio.run(visit())


def test_without_a_token_only_this_machine_may_ask() -> None:
    async def visit() -> None:
        ask, rooms = await opened()
        for headers in ({"host": "evil.org"}, {"origin": "http://evil.org"}, {"origin": "null"}):
            found = await ask.post("/segment", files=FILES, headers=headers)
            assert (found.status_code, code(found)) == (403, "MV-SERVICE-003")
        for headers in ({"host": "localhost:3000", "origin": "http://localhost:7860"}, {}):
            assert (await ask.post("/segment", files=FILES, headers=headers)).status_code == 200
        assert len(rooms.forms) == 2
        outside, _ = await opened(server="192.168.0.7")
        assert (await outside.post("/segment", files=FILES)).status_code == 403

    asyncio.run(visit())


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "example.org", "::"])
def test_a_start_for_others_needs_a_token(host: str) -> None:
    values = {"limits": LIMITS, "max_seconds": 1, "max_concurrency": 1, "max_queue": 0}
    with pytest.raises(MinivessError, match="MV-SERVICE-001"):
        Rules(token="", host=host, **values)
    assert Rules(token="secret", host=host, **values).host == host


def test_an_application_that_fails_says_nothing_of_itself() -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("secret of the house")

    async def visit() -> None:
        rules = Rules("", "127.0.0.1", LIMITS, 1.0, 1, 0)
        made = Door(broken, rules, Counters(), {})
        transport = httpx.ASGITransport(made)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as ask:
            found = await ask.post("/segment", files=FILES)
        assert (found.status_code, code(found)) == (500, "MV-INTERNAL-001")
        assert "secret" not in found.text

    asyncio.run(visit())


def test_a_client_that_leaves_is_noticed() -> None:
    async def visit() -> None:
        rooms = Rooms()
        made = Door(rooms, Rules("", "127.0.0.1", LIMITS, 5.0, 1, 0), Counters(), {})
        request = httpx.Request("POST", "http://127.0.0.1/segment", files=FILES)
        messages = [
            {"type": "http.request", "body": request.read(), "more_body": False},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            assert message["type"].startswith("http.response")

        headers = [(name.lower().encode(), text.encode()) for name, text in request.headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/segment", "headers": headers}
        task = asyncio.create_task(made({**scope, "server": ("127.0.0.1", 80)}, receive, send))
        while messages:
            await asyncio.sleep(0.01)
        rooms.open.set()
        await task
        assert rooms.gone

    asyncio.run(visit())


def test_an_upload_that_its_client_breaks_off_is_no_defect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def visit() -> None:
        counters = Counters()
        made = Door(Rooms(), Rules("", "127.0.0.1", LIMITS, 5.0, 1, 0), counters, {})
        request = httpx.Request("POST", "http://127.0.0.1/segment", files=FILES)
        body = request.read()
        messages = [
            {"type": "http.request", "body": body[: len(body) // 2], "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            pytest.fail("there is nobody to answer")

        headers = [(name.lower().encode(), text.encode()) for name, text in request.headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/segment", "headers": headers}
        await made({**scope, "server": ("127.0.0.1", 80)}, receive, send)
        text = counters.text().decode()
        assert 'minivess_requests_total{status="499"} 1.0' in text
        assert "MV-INTERNAL" not in text
        assert not caplog.records

    asyncio.run(visit())
