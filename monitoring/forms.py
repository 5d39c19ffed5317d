"""The admin's forms. They judge by ``monitoring.schema``, so that a form and wsmon.yaml never disagree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import yaml
from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

import providers
from monitoring import changes, maintenance
from monitoring.config import export_breaker, export_options, kind_of
from monitoring.literals import mask
from monitoring.models import Check, Credential, MaintenanceWindow, Service
from monitoring.schema import CheckEntry, read_breaker, read_check, read_reference, read_service, variables
from providers.base import Provider
from wsmon import secrets
from wsmon.config.document import parse
from wsmon.config.problems import Finding, did_you_mean, dotted
from wsmon.durations import format_duration

if TYPE_CHECKING:
    _AnyForm = forms.ModelForm[Any]
    _MaintenanceForm = forms.ModelForm[MaintenanceWindow]
    _FormSet = forms.BaseInlineFormSet[Any, Service, Any]
else:  # Django's classes take no parameters at run time
    _AnyForm = _MaintenanceForm = forms.ModelForm
    _FormSet = forms.BaseInlineFormSet

SERVICE_COLUMNS = ["slug", "name", "provider", "criticality", "breaker"]
CHECK_COLUMNS = ["kind", "name", "interval", "timeout", "degraded_over", "confirm_down", "confirm_up", "options"]
_LONGEST_SECRET = 16_384


class YamlField(forms.CharField):
    """A mapping, as YAML or JSON. Messages name no lines: there is only one field."""

    widget = forms.Textarea(attrs={"rows": 5, "cols": 80, "spellcheck": "false", "autocapitalize": "off"})

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, max_length=100_000, strip=False, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        """Show a mapping as YAML; what a person typed is shown as typed."""
        if isinstance(value, Mapping):
            return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True) if value else ""
        return value

    def to_python(self, value: Any) -> Any:
        """The mapping; raises ValidationError with everything that is wrong with its form."""
        text = super().to_python(value) or ""
        document = parse(text)
        if document.problems:
            raise ValidationError([told(dotted(one.path), one.message) for one in document.problems])
        if document.data is None:
            return {}
        if not isinstance(document.data, dict):
            raise ValidationError('must be "key: value" lines, or JSON in braces')
        return document.data

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Compare values, not the way they are written."""
        try:
            return bool(self.to_python(data) != (initial or {}))
        except ValidationError:
            return True


class DurationText(forms.CharField):
    """A duration as people write it; judged by the schema."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, max_length=40, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        """Seconds as ``5s``."""
        return format_duration(value) if isinstance(value, float | int) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        """``60s`` and ``1m`` differ in writing only."""
        return super().has_changed(self.prepare_value(initial), data)


class NamedForm(_AnyForm):
    """One thing with a slug. An archived one of the same name is taken into use again, with its history."""

    aside: Any = None
    """The archived row that holds the name which is wanted for another one."""

    def find_holder(self, slug: str) -> None:
        """Look who has the name, and complain, become it or let it make room."""
        model = type(self.instance)
        holder = model._default_manager.filter(slug=slug).exclude(pk=self.instance.pk).first()
        if holder is None:
            return
        if holder.archived_at is None:
            self.add_error("slug", f'There is a {model._meta.verbose_name} "{slug}" already.')
        elif self.instance._state.adding:
            self._become(holder)
        else:
            self.aside = holder

    def _become(self, holder: Any) -> None:
        """Go on with the archived row. In place, because the formsets hold on to ``instance`` already."""
        for field in holder._meta.concrete_fields:
            setattr(self.instance, field.attname, getattr(holder, field.attname))
        self.instance.archived_at = None
        self.instance._state.adding = False

    def validate_unique(self) -> None:
        """Done by ``find_holder``, which knows what to do with archived rows."""

    def validate_constraints(self) -> None:
        """As above."""

    def save(self, commit: bool = True) -> Any:
        """Save; an archived holder of the name makes room."""
        if self.aside:
            changes.move_aside(self.aside)
        return super().save(commit)


class ServiceForm(NamedForm):
    """One service."""

    provider = forms.ChoiceField()
    breaker = YamlField(help_text="The breaker's policy, as in wsmon.yaml. Empty: the defaults.")

    class Meta:
        model = Service
        fields = SERVICE_COLUMNS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = self.fields["provider"]
        assert isinstance(choice, forms.ChoiceField)  # noqa: S101 - for the type checker
        choice.choices = [(slug, providers.get(slug).label) for slug in providers.names()]
        if self.instance.pk and self.instance.breaker:
            self.initial["breaker"] = export_breaker(self.instance.breaker)

    def clean(self) -> dict[str, Any]:
        """Judge as the file's entry would be judged."""
        cleaned = dict(super().clean() or {})
        data = {key: cleaned[key] for key in ("provider", "name", "criticality") if key in cleaned}
        slug = cleaned.get("slug")
        if slug is not None and "provider" in data:
            _, findings = read_service(slug, data | {"checks": []})
            complain(self, findings, "slug")
        if "breaker" in cleaned:
            breaker, findings = read_breaker(cleaned["breaker"] or None)
            complain(self, findings, "breaker")
            cleaned["breaker"] = breaker
        if slug is not None:
            self.find_holder(slug)
        return cleaned


class _OfService(_AnyForm):
    """A form inside a service's page. ``service`` may still be without a row."""

    def __init__(self, *args: Any, service: Service, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.service = service

    @property
    def is_new(self) -> bool:
        """Whether there is no row yet."""
        return bool(self.instance._state.adding)

    @property
    def provider(self) -> Provider | None:
        """The service's provider; None when that itself is wrong."""
        try:
            return providers.get(self.service.provider)
        except providers.UnknownProvider:
            return None


class CheckForm(_OfService):
    """One check. The options are those of its kind, as in wsmon.yaml."""

    kind = forms.ChoiceField()
    name = forms.CharField(required=False, max_length=60, help_text="Defaults to the kind.")
    interval = DurationText(help_text="e.g. 30s. Empty: the kind's default.")
    timeout = DurationText(help_text="e.g. 5s. Empty: the kind's default.")
    degraded_over = DurationText(help_text="Slower answers are degraded, e.g. 800ms. Empty: never.")
    options = YamlField(help_text="The kind's own settings, e.g. url: https://example.com. Secrets as env:NAME.")

    class Meta:
        model = Check
        fields = CHECK_COLUMNS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = self.fields["kind"]
        assert isinstance(choice, forms.ChoiceField)  # noqa: S101 - for the type checker
        choice.choices = [("", "---"), *((name, name) for name in all_kinds(self.provider))]
        if self.instance.pk:
            kind = kind_of(self.service.provider, self.instance.kind)
            self.initial["options"] = export_options(kind.options if kind else None, mask(self.instance.options)[0])
        else:
            self.initial.update(interval=None, timeout=None)
        self.aside: Check | None = None

    def clean(self) -> dict[str, Any]:
        """Judge as the file's entry would be judged."""
        cleaned = dict(super().clean() or {})
        options = cleaned.get("options", {})
        given = [key for key in CheckEntry.model_fields if cleaned.get(key) not in ("", None)]
        common = {key: cleaned[key] for key in given}
        mixed = sorted(set(options) & set(CheckEntry.model_fields))
        if mixed:
            self.add_error("options", f"{mixed[0]} has a field of its own")
        if self.provider is None or self.errors:
            return self._without_texts(cleaned)
        spec, findings = read_check(self.provider, {**options, **common})
        complain(self, findings, "options")
        if spec is None:
            return self._without_texts(cleaned)
        for key in ("name", "kind", "interval", "timeout", "degraded_over", "confirm_down", "confirm_up"):
            cleaned[key] = getattr(spec, key)
        cleaned["options"] = dict(spec.options)
        self._find_holder(spec.name)
        return cleaned

    @staticmethod
    def _without_texts(cleaned: dict[str, Any]) -> dict[str, Any]:
        """Texts must not get into the model's numbers, not even of a form that is refused."""
        return {key: value for key, value in cleaned.items() if key not in {"interval", "timeout", "degraded_over"}}

    def _find_holder(self, name: str) -> None:
        if self.service._state.adding:
            return
        holder = Check.objects.filter(service=self.service, name=name).exclude(pk=self.instance.pk).first()
        if holder is None or holder.archived_at is None:
            return  # two checks in use with one name are found by the formset
        if self.is_new:
            self.instance = holder
            holder.archived_at = None
        else:
            self.aside = holder

    def validate_unique(self) -> None:
        """Done by the formset."""

    def validate_constraints(self) -> None:
        """As above."""

    def save(self, commit: bool = True) -> Check:
        """Save; an archived holder of the name makes room."""
        if self.aside:
            changes.move_aside_check(self.aside)
        new = self.is_new
        check: Check = super().save(commit and new)
        if commit and not new:
            check.save(update_fields=[*CHECK_COLUMNS, "archived_at"])  # others write the rest
        return check


class SecretForm(_AnyForm):
    """A reference, or a value that is encrypted at once and never shown again."""

    value = forms.CharField(
        required=False,
        max_length=_LONGEST_SECRET,
        label="New value",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}, render_value=False),
        help_text="Kept encrypted, never shown again. Leave empty to keep what is stored.",
    )
    reference = forms.CharField(
        required=False, max_length=300, help_text="Instead of a value: env:NAME or file:PATH."
    )

    def clean(self) -> dict[str, Any]:
        """Either a reference or a value; a stored value stays when both are empty."""
        cleaned = dict(super().clean() or {})
        value, reference = cleaned.get("value"), cleaned.get("reference")
        if value and reference:
            self.add_error("value", "Give either a value or a reference.")
        elif value:
            wrong = self.flaw(value)
            if wrong:
                self.add_error("value", wrong)
            else:
                self._encrypt(value)
        elif reference:
            wrong = self.judge_reference(reference)
            if wrong:
                self.add_error("reference", wrong)
            else:
                self.instance.encrypted = None
        elif self.instance.encrypted is None and "value" in cleaned and "reference" in cleaned:
            self.add_error("reference", "Give a reference or a value.")
        return cleaned

    def judge_reference(self, reference: str) -> str | None:
        """What is wrong with a reference, or with what it leads to."""
        return read_reference(reference, stored=False) or self.flaw(secrets.resolve(reference))

    def flaw(self, value: str) -> str | None:  # noqa: ARG002
        """What is wrong with a secret, for those who know."""
        return None

    def _encrypt(self, value: str) -> None:
        try:
            self.instance.encrypted = secrets.encrypt(value)
        except secrets.Unresolvable as error:
            self.add_error("value", error.why)


class CredentialForm(SecretForm, _OfService):
    """A credential of a service."""

    class Meta:
        model = Credential
        fields = ["variable", "reference"]

    def clean(self) -> dict[str, Any]:
        """As any secret, of a variable that the provider reads."""
        cleaned = super().clean()
        self._check_variable(cleaned.get("variable"))
        return cleaned

    def _check_variable(self, variable: str | None) -> None:
        if variable and self.provider and variable not in variables(self.provider):
            hint = did_you_mean(variable, variables(self.provider))
            self.add_error("variable", f"{self.provider.slug} reads no such variable{hint}")


class OfServiceFormSet(_FormSet):
    """Hands the service to its forms, saved or not."""

    def get_form_kwargs(self, index: int | None) -> dict[str, Any]:
        """``service`` besides the usual."""
        return super().get_form_kwargs(index) | {"service": self.instance}


class CheckFormSet(OfServiceFormSet):
    """The checks of a service. What is taken away is archived."""

    def add_fields(self, form: Any, index: int | None) -> None:
        """The usual box for deleting, called what it does."""
        super().add_fields(form, index)
        if "DELETE" in form.fields:
            form.fields["DELETE"].label = "Archive"

    def clean(self) -> None:
        """Names are unique among the checks in use."""
        super().clean()
        seen: set[str] = set()
        for form in self.forms:
            name = form.cleaned_data.get("name") if hasattr(form, "cleaned_data") else None
            if not name or form in self.deleted_forms:
                continue
            if name in seen:
                form.add_error("name", f'Duplicate name "{name}".')
            seen.add(name)

    def validate_unique(self) -> None:
        """Done by ``clean``: Django's own message would name a check that is being archived."""

    def delete_existing(self, obj: Check, commit: bool = True) -> None:
        """Archive."""
        if commit:
            changes.archive_check(obj)


class MaintenanceForm(_MaintenanceForm):
    """A maintenance window, judged as ``monitoring.actions.start_maintenance`` does."""

    class Meta:
        model = MaintenanceWindow
        fields = ["service", "starts_at", "ends_at", "recurrence", "time_zone", "reason"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, words in (("starts_at", "start"), ("ends_at", "end")):
            widget = self.fields[name].widget if name in self.fields else None
            if isinstance(widget, forms.MultiWidget):  # two boxes, for which one label is not enough
                for box, what in zip(widget.widgets, ("Date", "Time"), strict=True):
                    box.attrs["aria-label"] = f"{what} of the {words}"

    def clean(self) -> dict[str, Any]:
        """The end after the start, a rule that can be followed, a zone that exists."""
        cleaned = dict(super().clean() or {})
        starts, ends, rule = cleaned.get("starts_at"), cleaned.get("ends_at"), cleaned.get("recurrence")
        if starts and ends:
            if ends <= starts:
                self.add_error("ends_at", "The end must be after the start.")
            elif ends - starts > maintenance.LONGEST:
                self.add_error("ends_at", f"A window may last {maintenance.LONGEST.days} days at most.")
            elif not rule and ends <= timezone.now():
                self.add_error("ends_at", "The end must be in the future.")
        if rule:
            self._try("recurrence", maintenance.check_recurrence, rule)
        if cleaned.get("time_zone"):
            self._try("time_zone", ZoneInfo, cleaned["time_zone"])
        return cleaned

    def _try(self, field: str, judge: Callable[[str], object], value: str) -> None:
        try:
            judge(value)
        except (ValueError, KeyError, OSError) as error:
            self.add_error(field, str(error).strip("'\""))


def all_kinds(provider: Provider | None) -> list[str]:
    """What the list of kinds offers: the provider's own first, then everybody's, for a change of provider."""
    own = list(providers.kinds(provider)) if provider else []
    every = {kind for slug in providers.names() for kind in providers.get(slug).kinds}
    return own + sorted(every - set(own))


def complain(form: forms.BaseForm, findings: Iterable[Finding], other: str) -> None:
    """Put each finding under its field; what belongs to none goes under ``other``."""
    for finding in findings:
        first = str(finding.path[0]) if finding.path else other
        field = first if first in form.fields else other
        path = finding.path[1:] if first in form.fields else finding.path
        form.add_error(field, told(dotted(path), finding.message))


def told(path: str, message: str) -> str:
    """A message with the place inside its field that it is about."""
    return f"{path}: {message}" if path else message
