"""How the service answers: JSON with an ETag, and errors that say what to do."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from pipeline.errors import PipelineError, RequestError
from pipeline.service.answers import RETRY_SECONDS
from pipeline.service.models import ErrorAnswer, Problem
from pipeline.service.questions import NotFoundError

HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}

HTML, JSON = "text/html; charset=utf-8", "application/json"

_CODES = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed", 500: "internal", 503: "unavailable"}

_SEE = "/openapi.json says what can be asked, and how"

_ERROR_PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>SOT ingestion: {code}</title>
<body style="font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto; padding: 0 1rem">
<h1>SOT ingestion</h1><p><strong>{message}</strong></p><p>{hint}</p></body></html>
"""


@dataclass(frozen=True)
class Reply:
    """A successful answer."""

    body: bytes
    media_type: str = JSON

    @classmethod
    def of(cls, model: BaseModel) -> Reply:
        """Return the answer that a model is."""
        return cls(model.model_dump_json().encode())

    @cached_property
    def etag(self) -> str:
        """What tells it from other answers to the same question."""
        return f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    def is_known(self, if_none_match: str | None) -> bool:
        """Tell whether a client has it."""
        known = [tag.strip().removeprefix("W/") for tag in (if_none_match or "").split(",")]
        return self.etag in known or "*" in known

    def response(self, if_none_match: str | None = None) -> Response:
        """Return it, or that nothing has changed."""
        headers = {**HEADERS, "ETag": self.etag}
        if self.is_known(if_none_match):
            return Response(status_code=304, headers=headers)
        return Response(self.body, 200, headers, self.media_type)


def problem(request: Request, status: int, message: str, hint: str, **headers: str) -> Response:
    """Return an error: a page where a person asked for the report, else JSON."""
    found = Problem(code=_CODES.get(status, "bad_request"), message=message, hint=hint)
    headers = {**HEADERS, "Cache-Control": "no-store", **headers}
    if request.url.path == "/":
        text = _ERROR_PAGE.format(**{name: html.escape(value) for name, value in found.model_dump().items()})
        return Response(text, status, headers, HTML)
    return Response(ErrorAnswer(error=found).model_dump_json(), status, headers, JSON)


async def pipeline_error(request: Request, error: PipelineError) -> Response:
    """Answer what the pipeline raises: what was asked is wrong, or the warehouse does not answer."""
    if isinstance(error, RequestError):
        return problem(request, 404 if isinstance(error, NotFoundError) else 400, str(error), error.hint)
    return problem(request, 503, str(error), error.hint, **{"Retry-After": f"{RETRY_SECONDS:.0f}"})


async def invalid_request(request: Request, error: RequestValidationError) -> Response:
    """Answer a parameter that is not what the description says."""
    said = [f"{mistake['loc'][1]}: {mistake['msg']}, found {mistake['input']!r}" for mistake in error.errors()]
    return problem(request, 400, "; ".join(said), _SEE)


async def http_error(request: Request, error: HTTPException) -> Response:
    """Answer a path or a method that there is not."""
    return problem(request, error.status_code, f"{request.method} {request.url.path}: {error.detail}", _SEE)


async def internal_error(request: Request, _error: Exception) -> Response:
    """Answer a mistake of ours, whose traceback is in the log."""
    return problem(request, 500, "The service failed", "the log of the service has a traceback: report it")


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    PipelineError: pipeline_error,
    RequestValidationError: invalid_request,
    HTTPException: http_error,
    Exception: internal_error,
}
