"""Serving the page: on this computer only, and with nothing from elsewhere."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minivess import paths
from minivess.errors import MinivessError
from minivess.logs import say

if TYPE_CHECKING:
    import socket
    from types import FrameType

    import gradio as gr
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from minivess.config.settings import Settings
    from minivess.deploy.bundle import Bundle
    from minivess.deploy.page_actions import Service

HOST = "127.0.0.1"
_FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "Consolas", "monospace"]
# The browser refuses every other origin: whatever a part of Gradio asks for, nothing is fetched.
# Gradio's own pages hold scripts, and its 3D viewer compiles WebAssembly.
_POLICY = (
    "default-src 'self' data: blob:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_SESSIONS = 8


@contextmanager
def page_app(bundle: Bundle, settings: Settings, ending: threading.Event) -> Iterator[FastAPI]:
    """The page as an ASGI application; leaving the context removes all its files.

    Args:
        bundle: the champion.
        settings: port and limits.
        ending: ends the segmentations that are running once it is set.

    Raises:
        MinivessError: MV-SYSTEM-004 Gradio or ONNX Runtime is not installed, MV-STATE-003 ONNX
            Runtime does not take the network.
    """
    from minivess.deploy.segment import open_session
    from minivess.deploy.upload import Limits

    session = open_session(bundle, settings.threads)
    _check_installed()
    with tempfile.TemporaryDirectory(prefix="minivess-page-", ignore_cleanup_errors=True) as folder:
        # Gradio asks the environment where its copies of uploads and results go.
        os.environ["GRADIO_TEMP_DIR"] = str(Path(folder) / "cache")
        from minivess.deploy.page import build_page
        from minivess.deploy.page_actions import Service
        from minivess.deploy.page_text import without_metadata

        made = Path(folder) / "made"
        made.mkdir()
        card = paths.model_card(bundle.folder).read_text(encoding="utf-8")
        service = Service(
            bundle,
            session,
            without_metadata(card),
            _meaning(bundle.kind),
            Limits(settings.max_upload_mb << 20, settings.max_voxels),
            settings.max_seconds,
            settings.max_queue,
            _SESSIONS,
            made,
            ending,
        )
        yield _mounted(build_page(service), service, settings)


def _check_installed() -> None:
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise MinivessError(
            "MV-SYSTEM-004",
            what="Gradio is not installed",
            fix="install the extra serve: uv sync --extra serve",
        )


def _meaning(kind: str) -> str:
    from minivess.statistics.champion import RULES

    return RULES[kind].meaning


class _Headers:
    """Adds the headers to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), text.encode()) for name, text in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _theme() -> gr.Theme:
    import gradio as gr

    theme: gr.Theme = gr.themes.Default(
        primary_hue="blue", neutral_hue="slate", font=_FONT, font_mono=_MONO, radius_size="sm"
    ).set(
        button_primary_background_fill="#0a5f9e",
        button_primary_background_fill_hover="#084c7f",
        button_primary_background_fill_dark="#0a5f9e",
        button_primary_background_fill_hover_dark="#1173b8",
        button_primary_text_color="white",
        slider_color="#0a5f9e",
        slider_color_dark="#4da3dd",
    )
    return theme


def _mounted(page: gr.Blocks, service: Service, settings: Settings) -> FastAPI:
    import gradio as gr
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(_Headers)
    # A page elsewhere cannot reach this one by a name that points to the loopback address.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    options: dict[str, Any] = {
        "server_name": HOST,
        "server_port": settings.page_port,
        "theme": _theme(),
        "css_paths": Path(__file__).with_name("page.css"),
        "footer_links": [],
        "run_history": False,
        "ssr_mode": False,
        "mcp_server": False,
        "enable_monitoring": False,
        "show_error": False,
        "max_file_size": service.limits.max_bytes,
    }
    mounted: FastAPI = gr.mount_gradio_app(app, page, path="/", **options)
    return mounted


def serve_page(bundle: Bundle, settings: Settings, announce: bool = True) -> None:
    """Serve the page on the loopback address until the process is asked to end.

    Args:
        bundle: the champion.
        settings: port and limits.
        announce: say where it is, as soon as it answers.

    Raises:
        MinivessError: MV-SYSTEM-004, MV-STATE-003 see `page_app`.
    """
    import uvicorn

    ending = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if announce and self.started:
                say(f"the page is ready: {page_url(settings)} (Ctrl-C ends it)")

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            ending.set()
            # Tabs that are open hold a connection, which is cut off after the grace time.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            super().handle_exit(sig, frame)

    with page_app(bundle, settings, ending) as app:
        config = uvicorn.Config(
            app, HOST, settings.page_port, log_level="warning", timeout_graceful_shutdown=1
        )
        # Ctrl-C is how it ends; uvicorn raises it again once all requests are answered.
        with suppress(KeyboardInterrupt):
            Server(config).run()


def page_url(settings: Settings) -> str:
    """Where the page is.

    >>> from minivess.config.settings import load_settings
    >>> page_url(load_settings("ci"))
    'http://127.0.0.1:7860'
    """
    return f"http://{HOST}:{settings.page_port}"
