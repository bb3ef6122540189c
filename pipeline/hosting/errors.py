"""Errors as OpenAI's clients read them: a status, and an object that says what is wrong."""

from __future__ import annotations

from typing import Any


class ApiError(Exception):
    """A request that is refused."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        fields = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": fields}

    @property
    def headers(self) -> dict[str, str]:
        """When to ask again, where that helps."""
        return {"retry-after": "5"} if self.status == 429 else {}


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """Return the refusal of a request that cannot be right."""
    return ApiError(400, message, param=param, code=code)


def missing(what: str, name: str, param: str | None = None) -> ApiError:
    """Return the refusal of something that is not there."""
    code = "model_not_found" if what == "model" else None
    return ApiError(404, f"No such {what}: {name}", param=param, code=code)
