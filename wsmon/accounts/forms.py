"""Forms of the account pages. Their messages are the same whatever was wrong, so they give nothing away."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth import authenticate
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest

FIELD = "form-control ws-in big"


def _dress(form: forms.BaseForm) -> None:
    for field in form.fields.values():
        field.widget.attrs["class"] = FIELD


class StaffLoginForm(AuthenticationForm):
    """User name and password of staff. Wrong, unknown, inactive and not staff all read the same."""

    error_messages = {
        "invalid_login": "User name or password is wrong.",
        "inactive": "User name or password is wrong.",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["username"].label = "User name"
        self.fields["password"].label = "Password"
        _dress(self)

    def confirm_login_allowed(self, user: User) -> None:
        """Refuse accounts that are not staff, in the words for a wrong password."""
        super().confirm_login_allowed(user)
        if not user.is_staff:
            raise self.get_invalid_login_error()


class CodeForm(forms.Form):
    """A code of the second factor: six digits, or a recovery code where one is allowed."""

    code = forms.CharField(
        label="Code",
        max_length=16,
        widget=forms.TextInput(
            attrs={
                "autocomplete": "one-time-code",
                "autocapitalize": "none",
                "spellcheck": "false",
                "autofocus": True,
            }
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _dress(self)


class _CurrentPassword:
    """Checks the present password through the sign-in's rate limit, not around it."""

    request: HttpRequest
    user: User

    def check_current(self, password: str) -> str:
        if authenticate(self.request, username=self.user.get_username(), password=password) != self.user:
            raise ValidationError("Your present password is wrong.", code="password_incorrect")
        return password


class PasswordForm(_CurrentPassword, forms.Form):
    """Asks for the password before something that weakens the account."""

    password = forms.CharField(
        label="Your password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self.request = request
        assert isinstance(request.user, User)  # noqa: S101  the middleware lets nobody else in
        self.user = request.user
        super().__init__(*args, **kwargs)
        _dress(self)

    def clean_password(self) -> str:
        """The password, if it is the account's."""
        return self.check_current(self.cleaned_data["password"])


class ChangePasswordForm(_CurrentPassword, PasswordChangeForm):
    """The present password, and the new one twice."""

    def __init__(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        self.request = request
        super().__init__(*args, **kwargs)
        self.fields["old_password"].label = "Present password"
        self.fields["old_password"].widget.attrs.pop("autofocus", None)
        self.fields["new_password1"].label = "New password"
        self.fields[
            "new_password1"
        ].help_text = "At least 10 characters, not a common password and not like your name."
        self.fields["new_password2"].label = "New password again"
        self.fields["new_password2"].help_text = ""
        _dress(self)

    def clean_old_password(self) -> str:
        """The present password, if it is the account's."""
        return self.check_current(self.cleaned_data["old_password"])
