"""The container's health check: ends with 0 where the server inside it says that it is ready.

It asks port 8080, or the address that OCTAVO_HEALTH_URL has, where the server is told to use another port.
"""

import http.client
import os
import sys
from urllib.parse import urlsplit

__all__ = ["is_ready"]

DEFAULT = "http://127.0.0.1:8080/v2/health/ready"


def is_ready(url: str) -> bool:
    """Whether the address answers 200 within two seconds."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=2)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if is_ready(os.environ.get("OCTAVO_HEALTH_URL", DEFAULT)) else 1)
