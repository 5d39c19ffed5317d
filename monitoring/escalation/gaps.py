"""Rule: an escalation that would reach nobody just now, before anybody needs it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from monitoring.alertmodels import Severity
from monitoring.alertrules.finding import Context, Finding, Rule
from monitoring.escalation import ladder, oncall
from monitoring.escalation.ladder import Policy
from monitoring.escalation.oncall import PREFIX
from monitoring.models import Channel, Escalation

KIND = "on_call"
PAGE = "/alerts/"


def find(
    policies: Iterable[Policy], on_call: Mapping[str, Collection[str]], channels: Collection[str]
) -> list[Finding]:
    """Steps that tell nobody. ``on_call``: by rotation, the channels of whoever is on call by it now."""
    found = []
    for policy in policies:
        for number, rung in enumerate(policy.rungs, 1):
            if not any(_reached(name, on_call) & set(channels) for name in rung.notify):
                found.append(_finding(policy, number, rung.notify))
    return found


def _reached(name: str, on_call: Mapping[str, Collection[str]]) -> set[str]:
    return set(on_call.get(name.removeprefix(PREFIX), ())) if name.startswith(PREFIX) else {name}


def _finding(policy: Policy, number: int, names: tuple[str, ...]) -> Finding:
    missing = [_missing(name) for name in names]
    return Finding(
        key=f"on-call:{policy.slug}:{number}",
        kind=KIND,
        severity=Severity.WARNING.value,
        title=f"The escalation {policy.slug} would reach nobody by its {ladder.words(policy, number)}",
        detail=f"{'; '.join(missing)}.",
        url=PAGE,
    )


def _missing(name: str) -> str:
    if name.startswith(PREFIX):
        return f"nobody is on call by the rotation {name.removeprefix(PREFIX)}"
    return f"there is no channel {name} any more"


def look(context: Context) -> list[Finding]:
    """Read and find."""
    rows = Escalation.objects.filter(archived_at=None).order_by("slug")
    policies = [Policy(row.slug, ladder.rungs_of(row.steps)) for row in rows]
    if not policies:
        return []
    duty = oncall.now_on_call(context.now)
    on_call = {slug: {name for one in of.duties for name in one.person.channels} for slug, of in duty.items()}
    return find(policies, on_call, set(Channel.objects.filter(archived_at=None).values_list("slug", flat=True)))


RULE = Rule(KIND, 60.0, look)
