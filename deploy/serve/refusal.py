"""Why a request is not answered, in the words of HTTP and of gRPC."""

from typing import NoReturn

__all__ = ["Refused", "bad_request"]

_GRPC = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        text: for whoever sent it: what was given and what is allowed; no path, nothing of the inside.
        reason: one word, for metrics.
    """

    def __init__(self, status: int, text: str, reason: str) -> None:
        super().__init__(text)
        self.status, self.text, self.reason = status, text, reason

    @property
    def grpc_code(self) -> str:
        """Name of the gRPC status (grpc.StatusCode)."""
        return "DEADLINE_EXCEEDED" if self.reason == "timeout" else _GRPC[self.status]


def bad_request(text: str) -> NoReturn:
    """Refuse a request that breaks the protocol or does not fit the model.

    Raises:
        Refused: always, with status 400.
    """
    raise Refused(400, text, "invalid")
