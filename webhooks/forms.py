"""The admin's forms. They judge by ``webhooks.schema`` and ``webhooks.routeschema``, as wsmon.yaml is judged."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django import forms
from django.db.models import Q

import providers
from monitoring.config import export_breaker, export_options
from monitoring.forms import DurationText, NamedForm, SecretForm, YamlField, complain
from monitoring.literals import mask
from monitoring.models import Service
from monitoring.schema import STORED
from providers.hooks import Scheme
from webhooks import changes, signingsecrets
from webhooks.models import Destination, Route, Secret, Source
from webhooks.routeschema import PRIORITIES, priority_word, read_route, selection_of
from webhooks.schema import MOST_SECRETS, SourceEntry, default_secrets, read_destination, read_source, with_webhooks
from webhooks.vocabulary import PUBLISHED, Priority
from wsmon.durations import format_duration
from wsmon.sizes import format_size, parse_size

if TYPE_CHECKING:
    _RouteForm = forms.ModelForm[Route]
    _SecretFormSet = forms.BaseInlineFormSet[Secret, Any, Any]
else:  # Django's classes take no parameters at run time
    _RouteForm = forms.ModelForm
    _SecretFormSet = forms.BaseInlineFormSet

SOURCE_FIELDS = ["slug", "provider", "options", "url", "max_bytes", "service", "watch_silence", "reconcile"]
DESTINATION_FIELDS = [
    "slug", "url", "health_url", "headers", "timeout", "max_per_second", "concurrency", "order_by", "retry",
    "forward_headers", "service", "breaker", "disable_after",
]  # fmt: skip
ROUTE_FIELDS = ["source", "destination", "events", "filters", "priority"]
_NO_RETRIES = "none"


class SizeText(forms.CharField):
    """A size as people write it; judged by the schema."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, max_length=20, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        """Bytes as ``1MB``."""
        return format_size(value) if isinstance(value, int) else value

    def clean(self, value: Any) -> Any:
        """A plain number is bytes; anything else is left to the schema."""
        text = super().clean(value)
        return int(text) if text.isascii() and text.isdigit() else text or None

    def has_changed(self, initial: Any, data: Any) -> bool:
        """``1MB`` and ``1000000`` differ in writing only."""
        try:
            return bool(parse_size(self.clean(data) or 0) != (initial or 0))
        except (ValueError, forms.ValidationError):
            return True


class ScheduleText(forms.CharField):
    """Waits between tries, ``5s, 30s, 2m``; each is judged by the schema."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, max_length=400, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        """Seconds as people write them."""
        if isinstance(value, list):
            return ", ".join(map(format_duration, value)) or _NO_RETRIES
        return value

    def clean(self, value: Any) -> Any:
        """A list of texts; None for the default."""
        words = [word for word in re.split(r"[\s,]+", super().clean(value)) if word]
        return [] if words == [_NO_RETRIES] else words or None

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare what is written with what was shown."""
        return super().has_changed(self.prepare_value(initial), data)


class PatternsText(forms.CharField):
    """Patterns of event types, one a line (or separated by commas)."""

    widget = forms.Textarea(attrs={"rows": 4, "cols": 60, "spellcheck": "false", "autocapitalize": "off"})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, max_length=20_000, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        """One a line."""
        return "\n".join(value) if isinstance(value, list) else value

    def clean(self, value: Any) -> Any:
        """A list of texts; None for all events."""
        return [word for word in re.split(r"[\s,]+", super().clean(value)) if word] or None

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare the patterns."""
        return (self.clean(data) or []) != (initial or [])


class _WithService(NamedForm):
    """What may name a service."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = self.fields.get("service")
        if isinstance(choice, forms.ModelChoiceField):
            choice.queryset = Service.objects.filter(Q(archived_at=None) | Q(id=self.instance.service_id))

    def given(self, cleaned: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """What was filled in, as the file would have it."""
        data = {name: cleaned[name] for name in names if cleaned.get(name) not in ("", None, {})}
        if "service" in data:
            data["service"] = data["service"].slug
        return data


class SourceForm(_WithService):
    """One source. The options are those of its provider's scheme, as in wsmon.yaml."""

    provider = forms.ChoiceField()
    max_bytes = SizeText(help_text="Larger requests are refused, e.g. 1MB. Empty: the vendor's default.")
    options = YamlField(
        help_text="The scheme's own settings, e.g. header: X-Signature. Secrets as env:NAME or file:PATH."
    )

    class Meta:
        model = Source
        fields = SOURCE_FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = self.fields["provider"]
        assert isinstance(choice, forms.ChoiceField)  # noqa: S101 - for the type checker
        choice.choices = [(slug, providers.get(slug).label) for slug in with_webhooks()]
        if self.instance.pk:
            scheme = scheme_of(self.instance)
            masked = mask(self.instance.options)[0]
            self.initial["options"] = export_options(scheme.options if scheme else None, masked)

    def clean(self) -> dict[str, Any]:
        """Judge as the file's entry would be judged; the secrets stand in forms of their own."""
        cleaned = dict(super().clean() or {})
        options = dict(cleaned.get("options", {}))
        mixed = sorted(set(options) & set(SourceEntry.model_fields))
        if mixed:
            self.add_error("options", f"{mixed[0]} has a field of its own")
        if self.errors:
            return _without(cleaned, "max_bytes")
        given = self.given(cleaned, ["provider", "url", "max_bytes", "service", "watch_silence", "reconcile"])
        spec, findings = read_source(cleaned["slug"], options | given | {"secrets": [STORED]})
        complain(self, [one for one in findings if not one.path], "slug")
        complain(self, [one for one in findings if one.path], "options")
        if spec is None:
            return _without(cleaned, "max_bytes")
        cleaned |= {"options": dict(spec.options), "url": spec.url, "max_bytes": spec.max_bytes}
        self.find_holder(spec.slug)
        return cleaned


class DestinationForm(_WithService):
    """One destination."""

    headers = YamlField(help_text="Sent with each request, e.g. X-Team: ops. Secrets as env:NAME or file:PATH.")
    timeout = DurationText(help_text="Of one try, e.g. 5s. Empty: 10s.")
    disable_after = DurationText(help_text="Of nothing but failures, e.g. 2d. Empty: 5d.")
    concurrency = forms.IntegerField(required=False, help_text="Requests at once. Empty: 8.")
    retry = ScheduleText(help_text=f"Waits between tries: 5s, 30s, 2m. Empty: the default; {_NO_RETRIES}: one try.")
    breaker = YamlField(help_text="Its own breaker's policy, as in wsmon.yaml. Empty: the default.")

    class Meta:
        model = Destination
        fields = DESTINATION_FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.was = str(self.instance.slug)
        if self.instance.pk:
            shown = {name: getattr(self.instance, name) for name in ("url", "health_url", "headers")}
            self.initial.update(mask(shown)[0])
            if self.instance.breaker:
                self.initial["breaker"] = export_breaker(self.instance.breaker)
        else:
            self.initial.update(timeout=None, disable_after=None, concurrency=None, retry=None)

    def clean(self) -> dict[str, Any]:
        """Judge as the file's entry would be judged; the secrets stand in forms of their own."""
        cleaned = dict(super().clean() or {})
        texts = ("timeout", "disable_after", "concurrency", "retry")
        if self.errors:
            return _without(cleaned, *texts)
        given = self.given(cleaned, [name for name in DESTINATION_FIELDS if name != "slug"])
        spec, findings = read_destination(cleaned["slug"], given)
        complain(self, findings, "slug")
        if spec is None:
            return _without(cleaned, *texts)
        for name in DESTINATION_FIELDS:
            if name not in {"slug", "service"}:
                cleaned[name] = getattr(spec, name)
        cleaned |= {"headers": dict(spec.headers), "retry": list(spec.retry), "breaker": dict(spec.breaker)}
        self.find_holder(spec.slug)
        return cleaned


class RouteForm(_RouteForm):
    """One route. An archived one that is the same is taken into use again."""

    source = forms.ChoiceField()
    destination = forms.ChoiceField()
    events = PatternsText(help_text="One a line; * stands for anything: invoice.* Empty: all events.")
    filters = YamlField(help_text='What must stand in the payload, e.g. "$.data.object.livemode": true')
    priority = forms.ChoiceField(choices=[(word, word) for word in PRIORITIES])

    class Meta:
        model = Route
        fields = ROUTE_FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, slugs in (("source", [*_in_use(Source), PUBLISHED]), ("destination", _in_use(Destination))):
            choice = self.fields[name]
            assert isinstance(choice, forms.ChoiceField)  # noqa: S101 - for the type checker
            choice.choices = [(slug, slug) for slug in dict.fromkeys(slugs)]
            if self.instance.pk:
                self.initial[name] = getattr(self.instance, name).slug
        self.initial["priority"] = priority_word(self.instance.priority)

    def clean(self) -> dict[str, Any]:
        """Judge as the file's entry would be judged."""
        cleaned = dict(super().clean() or {})
        if self.errors:
            return _without(cleaned, *ROUTE_FIELDS)
        specs, findings = read_route({key: value for key, value in cleaned.items() if value not in (None, {})})
        complain(self, findings, "source")
        if not specs:
            return _without(cleaned, *ROUTE_FIELDS)
        spec = specs[0]
        source = changes.source_named(spec.source)
        destination = Destination.objects.get(slug=spec.destination)
        self._find_twin(Route.objects.filter(source=source, destination=destination), spec.selection)
        return {
            "source": source,
            "destination": destination,
            "events": list(spec.events),
            "filters": dict(spec.filters),
            "priority": Priority(spec.priority),
        }

    def _find_twin(self, routes: Any, selection: object) -> None:
        for other in routes.exclude(pk=self.instance.pk):
            if selection_of(other.events, other.filters) != selection:
                continue
            if other.archived_at is None:
                self.add_error("events", "There is a route with these events and filters already.")
            elif self.instance._state.adding:
                other.archived_at = None
                self.instance = other


class SignatureForm(SecretForm):
    """A secret of a source or destination; all are tried, or signed with, in their order."""

    position = forms.IntegerField(required=False, min_value=0, max_value=999, help_text="Empty: the last one.")

    class Meta:
        model = Secret
        fields = ["position", "reference"]

    def __init__(self, *args: Any, owner: Source | Destination, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owner = owner
        if not self.instance.pk:
            self.initial["position"] = None

    def clean(self) -> dict[str, Any]:
        """As any secret; a new one without a position comes last."""
        cleaned = super().clean()
        if cleaned.get("position") is None:
            taken = [one.position for one in changes.secrets_of(self.owner)] if self.owner.pk else []
            cleaned["position"] = max([self.instance.position, *(place + 1 for place in taken)])
        return cleaned

    def flaw(self, value: str) -> str | None:
        """What the vendor's scheme, or our own signing, has against it."""
        if isinstance(self.owner, Destination):
            return signingsecrets.problem_of(value)
        scheme = scheme_of(self.owner)
        return scheme.secret_problem(value) if scheme else None

    def validate_constraints(self) -> None:
        """Done by ``clean``; the owner may be without a row yet."""


class SignatureFormSet(_SecretFormSet):
    """The secrets of one source or destination."""

    def get_form_kwargs(self, index: int | None) -> dict[str, Any]:
        """``owner`` besides the usual."""
        return super().get_form_kwargs(index) | {"owner": self.instance}

    def clean(self) -> None:
        """Not too many, no reference twice, and one at all where the vendor has no variable of its own."""
        super().clean()
        left = [one for one in self.forms if one not in self.deleted_forms and (one.instance.pk or one.has_changed())]
        references = [one.cleaned_data.get("reference") for one in left if hasattr(one, "cleaned_data")]
        named = [one for one in references if one]
        if len(left) > MOST_SECRETS:
            raise forms.ValidationError(f"There can be {MOST_SECRETS} secrets.")
        if len(set(named)) != len(named):
            raise forms.ValidationError("A reference stands here twice.")
        if not left and isinstance(self.instance, Source):
            scheme = scheme_of(self.instance)
            if scheme and scheme.needs_secret and not default_secrets(scheme):
                raise forms.ValidationError("Give a secret: this provider has no variable of its own to look in.")


def scheme_of(source: Source) -> Scheme | None:
    """How a source's vendor signs; None when there is no such provider, or it has no webhooks."""
    try:
        return providers.get(source.provider).hooks
    except providers.UnknownProvider:
        return None


def _in_use(model: type[Source] | type[Destination]) -> list[str]:
    return list(model._default_manager.filter(archived_at=None).order_by("slug").values_list("slug", flat=True))


def _without(cleaned: dict[str, Any], *names: str) -> dict[str, Any]:
    """Texts must not get into the model's numbers, not even of a form that is refused."""
    return {key: value for key, value in cleaned.items() if key not in names}
