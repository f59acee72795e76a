"""Errors as clients of the service see them: problem details in JSON (RFC 9457)."""

from __future__ import annotations

import errno
import json
import logging
import math
from typing import TYPE_CHECKING

from minivess.errors import MinivessError

if TYPE_CHECKING:
    from starlette.responses import Response

LOGGER = logging.getLogger("minivess")
MEDIA_TYPE = "application/problem+json"

# What is not here is a defect of the service: 500, and its text stays in the log.
HTTP_STATUS: dict[str, int] = {
    "MV-UPLOAD-001": 413,
    "MV-UPLOAD-002": 413,
    "MV-UPLOAD-003": 415,
    "MV-UPLOAD-004": 422,
    "MV-UPLOAD-005": 422,
    "MV-UPLOAD-006": 422,
    "MV-UPLOAD-007": 422,
    "MV-UPLOAD-008": 422,
    "MV-UPLOAD-009": 400,
    "MV-UPLOAD-010": 422,
    "MV-SERVICE-002": 401,
    "MV-SERVICE-003": 403,
    "MV-SERVICE-004": 429,
    "MV-SERVICE-005": 504,
    "MV-SERVICE-006": 408,
    "MV-SERVICE-007": 400,
    "MV-SERVICE-008": 503,
    "MV-SYSTEM-002": 507,
}


def as_problem(error: Exception) -> MinivessError:
    """The error that a client is told about, with a code that has a status.

    >>> as_problem(MemoryError()).code
    'MV-SERVICE-008'
    """
    if isinstance(error, MemoryError):
        return MinivessError(
            "MV-SERVICE-008",
            what="the volume does not fit into the memory that is left",
            fix="send it again later, or in parts",
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MinivessError(
            "MV-SYSTEM-002",
            what="the disk of the service is full",
            fix="send it again later, or tell whoever runs the service",
        )
    if isinstance(error, MinivessError) and error.code in HTTP_STATUS:
        return error
    LOGGER.error("a request failed", exc_info=error)
    return MinivessError(
        "MV-INTERNAL-001",
        what="the service met something it was not written for",
        fix="tell whoever runs it: its log has the details",
    )


def problem(error: Exception, retry_after_s: float | None = None) -> Response:
    """The response for an error.

    Args:
        error: anything; only errors with a status of their own are shown.
        retry_after_s: when to try again.
    """
    from starlette.responses import Response

    shown = as_problem(error)
    status = HTTP_STATUS.get(shown.code, 500)
    headers = {"Cache-Control": "no-store"}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="minivess"'
    if status in (429, 503):
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s or 1.0)))
    return Response(content(shown, status), status, headers, MEDIA_TYPE)


def content(error: MinivessError, status: int) -> str:
    """The body: type, title, status and detail as the RFC names them, and the error's own parts.

    >>> error = MinivessError("MV-UPLOAD-004", what="damaged", found="3 bytes", fix="send again")
    >>> print(content(error, 422))
    {"type": "about:blank", "title": "damaged", "status": 422, "detail": "3 bytes", \
"code": "MV-UPLOAD-004", "what": "damaged", "found": "3 bytes", "fix": "send again"}
    """
    parts = {name: getattr(error, name) for name in ("what", "where", "found", "expected", "fix")}
    return json.dumps(
        {
            "type": "about:blank",
            "title": error.what,
            "status": status,
            "detail": error.found or error.what,
            "code": error.code,
            **{name: text for name, text in parts.items() if text},
        }
    )
