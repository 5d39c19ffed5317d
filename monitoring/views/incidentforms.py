"""The forms of the incidents' pages. They check what a person enters."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import User

from monitoring.views.forms import FIELD, SELECT

MOST_PEOPLE = 300
_NOBODY = ""


class ReasonForm(forms.Form):
    """Why."""

    reason = forms.CharField(
        label="Why",
        max_length=500,
        widget=forms.TextInput(attrs={**FIELD, "autocomplete": "off"}),
        error_messages={"required": "Say why: others will read it."},
    )


class NoteForm(forms.Form):
    """What was seen or done."""

    text = forms.CharField(
        label="Add a note",
        max_length=4000,
        widget=forms.TextInput(
            attrs={
                **FIELD,
                "autocomplete": "off",
                "placeholder": "What you saw or did; everyone on this page sees it at once",
            }
        ),
        error_messages={"required": "A note needs words.", "max_length": "4,000 characters at most."},
    )


class AssignForm(forms.Form):
    """To whom: somebody who may act, or nobody."""

    to = forms.ChoiceField(
        label="Who has it", required=False, widget=forms.Select(SELECT),
        error_messages={"invalid_choice": "There is no such person any more."},
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(str(user.pk), user.get_username()) for user in people()]
        field = self.fields["to"]
        assert isinstance(field, forms.ChoiceField)  # noqa: S101  narrows the type
        field.choices = [(_NOBODY, "nobody"), *choices]

    @property
    def chosen(self) -> User | None:
        """The person, None for nobody."""
        to = self.cleaned_data["to"]
        return User.objects.get(pk=int(to)) if to else None


def people() -> list[User]:
    """Active staff who may act, by name."""
    may = User.objects.with_perm("monitoring.operate", backend="django.contrib.auth.backends.ModelBackend")
    return list(may.filter(is_staff=True).order_by("username")[:MOST_PEOPLE])
