"""How requests are refused before or instead of their path's function: sizes, shapes, faults."""

from __future__ import annotations

import json
import logging
import secrets
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pipeline.hosting.errors import ApiError, invalid
from pipeline.hosting.limits import Limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

_FORM_BYTES = 64 << 10  # of an upload, besides the file


class Bounded:
    """Names each request in its reply, and refuses one whose body is too large."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["path"] == "/v1/files"
        limits = self._limits
        most = limits.file_bytes + _FORM_BYTES if is_upload else limits.body_bytes
        read, is_refused = 0, False

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                name = f"req_{secrets.token_hex(12)}".encode()
                message["headers"] = [*message["headers"], (b"x-request-id", name)]
            await send(message)

        async def counted() -> Message:
            nonlocal read, is_refused
            message = await receive()
            read += len(message.get("body", b""))
            if read > most:
                is_refused = True
                error = ApiError(413, f"The request is larger than {most} bytes.")
                await _reply(error)(scope, receive, named)
                raise error
            return message

        async def unless_refused(message: Message) -> None:
            if not is_refused:
                await named(message)

        await self._app(scope, counted, unless_refused)


def _reply(error: ApiError) -> JSONResponse:
    return JSONResponse(error.body, error.status, error.headers)


def handle_refusals(app: FastAPI) -> None:
    """Have an application's errors take OpenAI's shape."""

    @app.exception_handler(ApiError)
    def refused(_: Request, error: ApiError) -> JSONResponse:
        return _reply(error)

    @app.exception_handler(RequestValidationError)
    def invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return _reply(_told(error))

    @app.exception_handler(HTTPException)
    def unknown(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{error.detail} ({request.method} {request.url.path})"
        return _reply(ApiError(error.status_code, message, code="unknown_url"))

    @app.exception_handler(Exception)
    def broken(request: Request, error: Exception) -> JSONResponse:
        log.error("%s %s", request.method, request.url.path, exc_info=error)
        return _reply(ApiError(500, "The server had an error; its log says which."))


def _told(error: RequestValidationError) -> ApiError:
    """Return the first fault of a request: its place, what is wrong, what was sent."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return invalid(f"The body of the request is not valid JSON: {first['ctx']['error']}.")
    place = ".".join(str(part) for part in first["loc"][1:] if part != "auto") or None
    if first["type"] == "extra_forbidden":
        return invalid(f"Unknown parameter: '{place}'.", place, "unknown_parameter")
    if first["type"] == "missing":
        message = f"Missing required parameter: '{place}'."
        return invalid(message, place, "missing_required_parameter")
    return invalid(f"Invalid '{place}': {first['msg']}; got {_short(first['input'])}.", place)


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"
