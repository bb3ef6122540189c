"""How requests are refused before or instead of their path's function: sizes, shapes, faults."""

from __future__ import annotations

import json
import logging
import secrets
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from pipeline.hosting.accounts import Accounts
from pipeline.hosting.errors import ApiError, invalid
from pipeline.hosting.limits import Limits

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

_FORM_BYTES = 64 << 10  # of an upload, besides the file


class Guarded:
    """Names each request, lets in who has a key, and refuses a body that is too large."""

    def __init__(self, app: ASGIApp, accounts: Accounts, limits: Limits) -> None:
        self._app, self._accounts, self._limits = app, accounts, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload, limits = scope["path"] == "/v1/files", self._limits
        most = limits.file_bytes + _FORM_BYTES if is_upload else limits.body_bytes
        name, read = f"req_{secrets.token_hex(12)}", 0
        begun = over = False

        async def named(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message["headers"], (b"x-request-id", name.encode())]
            await send(message)

        async def counted() -> Message:
            nonlocal read, over
            message = await receive()
            read += len(message.get("body", b""))
            if read > most and not over:
                over = True
                await reply(_too_large(most))(scope, receive, named)
                raise _too_large(most)  # whoever reads the body stops
            return message

        async def unless_over(message: Message) -> None:
            if not over:
                await named(message)

        try:
            key = Headers(scope=scope).get("authorization")
            scope.setdefault("state", {})["account"] = self._accounts.of(key)  # before the body
            await self._app(scope, counted, unless_over)
        except ApiError as error:
            if not begun:
                await reply(error)(scope, receive, named)
        except Exception as error:
            log.error("%s %s %s", name, scope["method"], scope["path"], exc_info=error)
            if not begun:
                fault = ApiError(500, f"The server had an error; its log has it as {name}.")
                await reply(fault)(scope, receive, named)


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"The request is larger than {most} bytes.")


def reply(error: ApiError) -> JSONResponse:
    """Return an error as a response."""
    return JSONResponse(error.body, error.status, error.headers)


def handle_refusals(app: FastAPI) -> None:
    """Have what FastAPI refuses itself take OpenAI's shape."""

    @app.exception_handler(ApiError)
    def refused(_: Request, error: ApiError) -> JSONResponse:
        return reply(error)

    @app.exception_handler(RequestValidationError)
    def invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return reply(_told(error))

    @app.exception_handler(HTTPException)
    def unknown(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{error.detail} ({request.method} {request.url.path})"
        return reply(ApiError(error.status_code, message, code="unknown_url"))


def _told(error: RequestValidationError) -> ApiError:
    """Return the first fault of a request: its place, what is wrong, what was sent."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return invalid(f"The body of the request is not valid JSON: {first['ctx']['error']}.")
    place = ".".join(map(str, first["loc"][1:])) or "body"
    if first["type"] == "extra_forbidden":
        message = f"Unknown parameter: '{place}', or one that this server does not support."
        return invalid(message, place, "unknown_parameter")
    if first["type"] == "missing":
        message = f"Missing required parameter: '{place}'."
        return invalid(message, place, "missing_required_parameter")
    return invalid(f"Invalid '{place}': {first['msg']}; got {_short(first['input'])}.", place)


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"
