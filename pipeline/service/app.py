"""The application that the server runs, and how it starts and ends."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI, Request
from loguru import logger
from pydantic import SecretStr
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.service.access import knows_token
from pipeline.service.models import ErrorAnswer
from pipeline.service.paths import router
from pipeline.service.questions import Service
from pipeline.service.replies import HANDLERS, problem
from pipeline.warehouse.ledger import PIPELINE_VERSION

#: Connections at the same time; more are answered with 503. Seconds for answers under way when it is to end.
MOST_CONNECTIONS, END_SECONDS = 1_000, 10

#: Who checks whether the service lives needs no token.
_OPEN = frozenset({"/healthz"})

_ABOUT = """What is published, how fresh it is, and what runs did; nothing is ever written. Errors are JSON with
`error.code`, `error.message` and `error.hint`; 503 with `Retry-After` when the warehouse does not answer.

Answers have an `ETag`. A question with `wait` that brings it as `If-None-Match` is answered when the answer has
changed, and after so many seconds with 304. Any number of clients may wait: the
warehouse is asked once for all of them."""


class RequireToken:
    """Answers 401 to those who do not know the token."""

    def __init__(self, app: ASGIApp, token: SecretStr) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] == "http" and scope["path"] not in _OPEN:
            request = Request(scope)
            if not knows_token(request.headers.get("authorization"), self._token):
                said, hint = "This needs the token of API_TOKEN", "Authorization: Bearer …, or the token as a password"
                challenge = {"WWW-Authenticate": 'Basic realm="sot-ingest", Bearer realm="sot-ingest"'}
                await problem(request, 401, said, hint, **challenge)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def create_app(service: Service, token: SecretStr, stopping: asyncio.Event) -> FastAPI:
    """Return the application; ``stopping`` ends what waits for a change."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.answers.close()

    app = FastAPI(
        title="sot-ingest",
        version=PIPELINE_VERSION,
        description=_ABOUT,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        exception_handlers=HANDLERS,
        responses={"default": {"model": ErrorAnswer, "description": "What is wrong, and what to do."}},
    )
    app.state.service, app.state.stopping = service, stopping
    app.add_middleware(GZipMiddleware, minimum_size=10_000)
    app.add_middleware(RequireToken, token=token)
    app.include_router(router)
    return app


class _Server(uvicorn.Server):
    """Ends in order at SIGINT and SIGTERM, which is no failure of a service."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals as long as the block runs; uvicorn would send them again after it."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Answer what waits for a change, then end."""
        logger.info("Service is ending: {}", signal.Signals(sig).name)
        self._stopping.set()
        super().handle_exit(sig, frame)


def serve(service: Service, token: SecretStr, listening: socket.socket) -> None:
    """Serve on a socket until SIGINT or SIGTERM."""
    stopping = asyncio.Event()
    config = uvicorn.Config(
        create_app(service, token, stopping),
        access_log=False,
        log_config=None,  # its loggers' records go where ours go
        log_level="warning",
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=END_SECONDS,
    )
    host, port = listening.getsockname()[:2]
    logger.bind(url=f"http://{f'[{host}]' if ':' in host else host}:{port}/").info("Service started")
    _Server(config, stopping).run([listening])
    logger.info("Service ended")
