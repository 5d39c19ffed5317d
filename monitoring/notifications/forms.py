"""The admin's form of a channel: a name, its address, and the rest as in wsmon.yaml, judged by the same code."""

from __future__ import annotations

from typing import Any

from monitoring.forms import NamedForm, SecretForm, YamlField, complain
from monitoring.models import Channel, Service
from monitoring.notifications import channels
from monitoring.notifications.config import export_channel
from monitoring.notifications.schema import address_flaw, is_plain, read_channel
from monitoring.schema import STORED
from wsmon.config.named import in_use
from wsmon.config.problems import Finding, not_one_of

_OWN = ("url", "renamed_from")


class ChannelForm(SecretForm, NamedForm):
    """One channel."""

    settings = YamlField(
        help_text="As in wsmon.yaml, without url: min_severity, services, quiet_hours, digest, max_per_hour, "
        "fallback, direct."
    )

    class Meta:
        model = Channel
        fields = ["slug", "reference"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["value"].label = "New URL"
        self.fields["reference"].label = "Or where it stands"
        self.fields["reference"].help_text = "env:NAME or file:PATH; webpush:USERNAME, webpush:*, twilio:+1555…"
        if self.instance.pk:
            shown = export_channel(self.instance)
            self.initial["settings"] = {key: value for key, value in shown.items() if key not in _OWN}

    def clean(self) -> dict[str, Any]:
        """Judge as the file's entry would be judged."""
        slug = self.cleaned_data.get("slug")
        if slug is not None:
            self.find_holder(slug)  # first: an archived holder's row, with its address, is gone on with
        cleaned = dict(super().clean())
        settings = cleaned.get("settings")
        if slug is None or settings is None:
            return cleaned
        mixed = [name for name in _OWN if name in settings]
        if mixed:
            self.add_error("settings", f"{mixed[0]} has no place here: there is a field for it")
            return cleaned
        spec, findings = read_channel(slug, {**settings, "url": STORED})
        complain(self, findings, "settings")
        if spec is None:
            return cleaned
        complain(self, list(_unknown(slug, spec.values["services"], spec.fallback)), "settings")
        for name, value in spec.values.items():
            setattr(self.instance, name, value)
        self.instance.fallback = Channel.objects.filter(slug=spec.fallback).first() if spec.fallback else None
        return cleaned

    def clean_reference(self) -> str:
        """A plain address, or a reference, which is judged with the rest."""
        reference: str = self.cleaned_data.get("reference") or ""
        self.plain = bool(reference) and is_plain(reference)
        if self.plain and (flaw := address_flaw(reference)):
            self.add_error("reference", flaw)
        return reference

    def flaw(self, value: str) -> str | None:
        """What is wrong with an address."""
        return channels.check(value)

    def judge_reference(self, reference: str) -> str | None:
        """A plain address was judged already."""
        return None if self.plain else super().judge_reference(reference)


def _unknown(slug: str, services: list[str], fallback: str | None) -> list[Finding]:
    known = in_use("services", Service, {})
    found = [Finding((), not_one_of(name, known, "a service")) for name in services if name not in known]
    others = set(Channel.objects.filter(archived_at=None).exclude(slug=slug).values_list("slug", flat=True))
    if fallback is not None and fallback not in others:
        found.append(Finding((), not_one_of(fallback, others, "a channel")))
    return found
