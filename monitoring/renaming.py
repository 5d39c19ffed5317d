"""Something configured gets another name: whatever names it by that follows, in the caller's transaction.

Channels, escalations and thresholds hold lists of names, as wsmon.yaml does, and the keys of open alerts are made of
them. A channel that went on waiting for a name that nobody has any more would be told of nothing.
"""

from __future__ import annotations

from django.urls import reverse

from monitoring.models import Alert, AlertThresholds, Channel, Escalation, Rotation, Service
from wsmon import live

LONGEST_KEY = 200


def follow(service: Service, old: str) -> None:
    """Name ``service`` by its present slug wherever ``old`` stood for it; nothing when it is the same."""
    new = service.slug
    if old == new:
        return
    for model in (Channel, Escalation):
        for row in model.objects.select_for_update().filter(services__contains=[old]).order_by("id"):
            model.objects.filter(id=row.id).update(services=_named(row.services, old, new))
    for thresholds in AlertThresholds.objects.select_for_update().filter(values__services__has_key=old):
        services = thresholds.values["services"]
        renamed = {new if name == old else name: own for name, own in services.items() if name != new}
        thresholds.values["services"] = renamed
        thresholds.save(update_fields=["values"])
    _alerts(service.id, old, new)
    live.publish("alert", {"alerts": []})


def follow_channel(old: str, new: str) -> None:
    """Name a channel by ``new`` in the steps of escalations, in the people of rotations, and in its own alert."""
    if old == new:
        return
    _steps(old, new)
    for row in Rotation.objects.select_for_update().order_by("id"):
        people = [one | {"channels": _named(one.get("channels", []), old, new)} for one in row.people]
        if people != row.people:
            Rotation.objects.filter(id=row.id).update(people=people)
    key = f"channel:{new}"
    if not _taken(key):
        Alert.objects.filter(key=f"channel:{old}", resolved_at=None).update(key=key)


def follow_rotation(old: str, new: str) -> None:
    """Name a rotation by ``new`` in the steps of escalations."""
    if old != new:
        _steps(f"rotation:{old}", f"rotation:{new}")


def follow_escalation(old: str, new: str) -> None:
    """Alerts that climb it go on where they are."""
    if old != new:
        Alert.objects.filter(escalation=old, resolved_at=None).update(escalation=new)


def _steps(old: str, new: str) -> None:
    for row in Escalation.objects.select_for_update().order_by("id"):
        steps = [step | {"notify": _named(step["notify"], old, new)} for step in row.steps]
        if steps != row.steps:
            Escalation.objects.filter(id=row.id).update(steps=steps)


def _named(names: list[str], old: str, new: str) -> list[str]:
    return list(dict.fromkeys(new if name == old else name for name in names))


def _alerts(service_id: int, old: str, new: str) -> None:
    """Open ones go on: under their old key nobody would resolve them, and under the new one they would open again."""
    before, after = (reverse("service", args=[slug]) for slug in (old, new))
    for alert in Alert.objects.select_for_update().filter(service=service_id, resolved_at=None).order_by("id"):
        key, url = renamed_key(alert.key, old, new), alert.url
        if url.startswith(before):
            url = after + url.removeprefix(before)
        if (key, url) != (alert.key, alert.url) and (key == alert.key or not _taken(key)):
            Alert.objects.filter(id=alert.id).update(key=key, url=url)


def renamed_key(key: str, old: str, new: str) -> str:
    """ "slow:old/check" as "slow:new/check"; a key that is made of something else, or would be too long, as it is."""
    kind, _, rest = key.partition(":")
    if rest != old and not rest.startswith((f"{old}/", f"{old}:")):
        return key
    found = f"{kind}:{new}{rest.removeprefix(old)}"
    return found if len(found) <= LONGEST_KEY else key


def _taken(key: str) -> bool:
    return Alert.objects.filter(key=key, resolved_at=None).exists()
