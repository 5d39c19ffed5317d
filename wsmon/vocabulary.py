"""The words every room uses for what a probe found. See README, "Words"."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

JSON: TypeAlias = Any
"""A value that ``json.dumps`` accepts."""


class Outcome(StrEnum):
    """What one probe found."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    ERROR = "error"
    """*We* failed (our credential refused, our own fault): never reported as "vendor down"."""


class Status(StrEnum):
    """What a check or a service is said to be, after confirmation."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    ERROR = "error"
    UNKNOWN = "unknown"
    PAUSED = "paused"
    NOT_CONFIGURED = "not_configured"


class Criticality(StrEnum):
    """How much the team depends on a service; orders the overview."""

    CRITICAL = "critical"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class Category(StrEnum):
    """Why a probe was not healthy. The names are part of the API's contract."""

    NETWORK_ERROR = "NETWORK_ERROR"
    DNS_ERROR = "DNS_ERROR"
    TLS_ERROR = "TLS_ERROR"
    TIMEOUT_ERROR = "TIMEOUT_ERROR"
    AUTHENTICATION_ERROR = "AUTHENTICATION_ERROR"
    RATE_LIMITED = "RATE_LIMITED"
    CLIENT_ERROR = "CLIENT_ERROR"
    SERVER_ERROR = "SERVER_ERROR"
    VALIDATION_ERROR = "VALIDATION_ERROR"
    BREAKER_OPEN = "BREAKER_OPEN"
    CONFIGURATION_ERROR = "CONFIGURATION_ERROR"
    UNKNOWN_ERROR = "UNKNOWN_ERROR"


@dataclass(frozen=True, slots=True)
class Timings:
    """Phases of one exchange, in milliseconds; ``None`` where a phase did not happen.

    ``dns_ms``, ``connect_ms`` and ``tls_ms`` are ``None`` on a kept-alive connection.
    ``first_byte_ms`` runs from the request being sent to the first byte of the answer.
    """

    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    first_byte_ms: float | None = None
    total_ms: float | None = None
