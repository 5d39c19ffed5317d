"""Rules: a TLS certificate, or a credential, that ends soon. What probes found is in their details."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.alertmodels import Severity
from monitoring.alertrules.finding import Context, Finding, Rule, number, page_of
from monitoring.alertrules.thresholds import DAY, Ending
from monitoring.models import CheckState

CERTIFICATE_KEYS = ("tls_days_left",)
CREDENTIAL_KEYS = ("credential_days_left", "days_left")
_SUBJECTS = ("subject", "credential")
"""Details that name what ends."""


@dataclass(frozen=True, slots=True)
class Held:
    """What one check found of something that ends: whole days left, below 0 once it has ended."""

    service_id: int
    service: str
    check: str
    days: float
    subject: str = ""
    label: str = ""
    """What people call the service; empty: as ``service``."""


def find(kind: str, noun: str, held: Iterable[Held], limit: Ending) -> list[Finding]:
    """Those within the limits; of several checks of a service that see the same thing only the first."""
    found: list[Finding] = []
    seen: set[tuple[str, float, str]] = set()
    for one in sorted(held, key=lambda each: (each.service, each.days, each.check)):
        same = (one.service, one.days, one.subject)
        if one.days * DAY > limit.warning or same in seen:
            continue
        seen.add(same)
        critical = one.days * DAY <= limit.critical
        found.append(
            Finding(
                key=f"{kind}:{one.service}/{one.check}",
                kind=kind,
                severity=(Severity.CRITICAL if critical else Severity.WARNING).value,
                title=f"{one.label or one.service}: {noun} {_when(one.days)}",
                detail=f"Found by the check {one.check}" + (f": {one.subject}." if one.subject else "."),
                url=page_of(one.service),
                service=one.service_id,
            )
        )
    return found


def _when(days: float) -> str:
    whole = int(days)
    if days < 0:
        return "has ended"
    return "ends today" if whole < 1 else f"ends in {whole} day{'s' if whole > 1 else ''}"


def held_of(row: Mapping[str, Any], names: Iterable[str]) -> Held | None:
    """What a check's details say, None when they say nothing of the kind."""
    details = row["details"] if isinstance(row["details"], Mapping) else {}
    days = next((found for name in names if (found := number(details.get(name))) is not None), None)
    if days is None:
        return None
    subject = next((str(details[name])[:200] for name in _SUBJECTS if details.get(name)), "")
    return Held(
        row["check_ref__service_id"],
        row["check_ref__service__slug"],
        row["check_ref__name"],
        days,
        subject,
        row["check_ref__service__name"],
    )


def read(names: tuple[str, ...]) -> list[Held]:
    """What the checks in use found last."""
    rows = CheckState.objects.filter(
        details__has_any_keys=list(names),
        check_ref__archived_at=None,
        check_ref__paused_at=None,
        check_ref__service__archived_at=None,
    ).values(
        "check_ref__service_id", "check_ref__service__slug", "check_ref__service__name", "check_ref__name", "details"
    )
    return [found for row in rows if (found := held_of(row, names))]


def look_at_certificates(context: Context) -> list[Finding]:
    """Read and find."""
    return find("certificate", "its TLS certificate", read(CERTIFICATE_KEYS), context.thresholds.certificate)


def look_at_credentials(context: Context) -> list[Finding]:
    """Read and find."""
    return find("credential", "a credential", read(CREDENTIAL_KEYS), context.thresholds.credential)


CERTIFICATE = Rule("certificate", 60.0, look_at_certificates)
CREDENTIAL = Rule("credential", 60.0, look_at_credentials)
