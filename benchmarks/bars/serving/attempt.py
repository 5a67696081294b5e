"""What is sent to the server that means harm, and the limits of that server."""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Attempt", "Limits"]


@dataclass(frozen=True)
class Limits:
    """Of the server that is attacked; smaller than the defaults, so that attempts are quick.

    Attributes:
        request_mib: of a body.
        read_timeout_s: for a request.
    """

    request_mib: int = 2
    read_timeout_s: float = 0.5

    @property
    def options(self) -> list[str]:
        """For the command line."""
        return [
            *("--max-request-mib", str(self.request_mib)),
            *("--read-timeout-s", str(self.read_timeout_s)),
            *("--keep-alive-s", "2", "--max-megapixels", "4", "--drain-s", "0.1"),
        ]


@dataclass(frozen=True)
class Attempt:
    """What is sent on one connection to HTTP's port.

    Attributes:
        pieces: sent one after the other; a number is a pause in seconds.
        end: what follows: ``read`` the answer, ``half`` close and read, or be ``gone`` at once.
        answers: how many must come; 0 is any number, and the server may as well close the connection.
    """

    pieces: tuple[bytes | float, ...] = field(repr=False)
    end: Literal["read", "half", "gone"] = "read"
    answers: int = 1

    def __str__(self) -> str:
        shown = [piece if isinstance(piece, float) else piece[:300] for piece in self.pieces[:4]]
        return f"{shown} ({sum(len(p) for p in self.pieces if isinstance(p, bytes))} bytes, {self.end})"
