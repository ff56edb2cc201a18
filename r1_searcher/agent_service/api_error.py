"""Why a request was refused or failed, in the form that OpenAI's clients read."""

from __future__ import annotations

from typing import Any

_TYPES = {401: "authentication_error", 404: "not_found_error"}


class ApiError(Exception):
    """An answer that is an error: `{"error": {"message", "type", "param", "code"}}`."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        """For programs, such as `model_not_found`."""
        self.param = param
        """The field of the request that is wrong, where it is one."""

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object that is sent."""
        kind = "server_error" if self.status >= 500 else _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the status."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {"Retry-After": "1"} if self.status == 503 else {}


def wrong(message: str, param: str | None = None, code: str = "invalid_request") -> ApiError:
    """A request that would be wrong every time."""
    return ApiError(400, code, message, param)


def unavailable(code: str, message: str) -> ApiError:
    """A request that may succeed later."""
    return ApiError(503, code, message)
