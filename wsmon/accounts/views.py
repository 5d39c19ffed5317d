"""Views of the account pages: sign in (in two steps where set up), sign out, and one's own account."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import django_otp
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import load_backend, login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView, LogoutView, PasswordChangeView
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render, resolve_url
from django.urls import reverse_lazy
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST
from django.views.generic import FormView, TemplateView
from django_otp.plugins.otp_static.models import StaticDevice

from wsmon.accounts import sessions, two_factor
from wsmon.accounts.forms import ChangePasswordForm, CodeForm, PasswordForm, StaffLoginForm
from wsmon.audit import Actor, record

if TYPE_CHECKING:
    _CodeView = FormView[CodeForm]
    _PasswordView = FormView[PasswordForm]
else:  # Django's classes take no parameters when the program runs
    _CodeView = _PasswordView = FormView

SECOND_STEP = "second_step"
SECOND_STEP_SECONDS = 300
SECOND_STEP_TRIES = 5


def _user(request: HttpRequest) -> User:
    return cast(User, request.user)


def _rules() -> dict[str, int]:
    return {"tries": settings.AXES_FAILURE_LIMIT, "wait_minutes": round(settings.AXES_COOLOFF_TIME * 60)}


class Login(LoginView):
    """The first step: user name and password of staff, limited by django-axes."""

    template_name = "registration/login.html"
    authentication_form = StaffLoginForm
    redirect_authenticated_user = True
    extra_context = _rules()

    def get_redirect_url(self) -> str:  # type: ignore[override]  # the stubs are for Django 6
        """Where to go afterwards: never back to this page, which Django answers with an error."""
        target = str(super().get_redirect_url())
        return "" if target == self.request.path else target

    def form_valid(self, form: Any) -> HttpResponse:
        """Sign in, or ask for the second factor first when the account has one."""
        user = form.get_user()
        if not two_factor.is_on(user):
            response = super().form_valid(form)
            record(Actor.of(self.request), "account.sign_in", _target(user))
            return response
        session = self.request.session
        session.flush()
        session[SECOND_STEP] = {
            "user": user.pk,
            "hash": user.get_session_auth_hash(),
            "backend": user.backend,
            "until": time.time() + SECOND_STEP_SECONDS,
            "tries": 0,
        }
        query = urlencode({"next": self.get_redirect_url()}) if self.get_redirect_url() else ""
        return redirect(resolve_url("login_code") + ("?" + query if query else ""))


@method_decorator([login_not_required, never_cache, sensitive_post_parameters()], name="dispatch")
class SecondStep(_CodeView):
    """The second step: a code of the authenticator, or a recovery code. Open for 5 minutes and 5 tries."""

    template_name = "registration/login_code.html"
    form_class = CodeForm

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Only go on with a fresh, correct first step."""
        self.user = self._first_step()
        if self.user is None:
            request.session.pop(SECOND_STEP, None)
            return redirect("login")
        return super().dispatch(request, *args, **kwargs)

    def _first_step(self) -> User | None:
        step = self.request.session.get(SECOND_STEP)
        if not step or step["until"] < time.time() or step["tries"] >= SECOND_STEP_TRIES:
            return None
        user = load_backend(step["backend"]).get_user(step["user"])
        # A password changed meanwhile ends the first step too.
        if user is None or not constant_time_compare(step["hash"], user.get_session_auth_hash()):
            return None
        return user

    def form_valid(self, form: CodeForm) -> HttpResponse:
        """Sign in with the device that accepts the code."""
        user = self.user
        assert user is not None  # noqa: S101  dispatch saw to it
        wait = two_factor.locked_until(user)
        device = None if wait else two_factor.matching_device(user, form.cleaned_data["code"])
        if device is None:
            return self._refuse(form, wait)
        backend = self.request.session.pop(SECOND_STEP)["backend"]
        login(self.request, user, backend=backend)
        django_otp.login(self.request, device)
        factor = "recovery code" if isinstance(device, StaticDevice) else "authenticator"
        record(Actor.of(self.request), "account.sign_in", _target(user), second_factor=factor)
        return redirect(self._next())

    def _refuse(self, form: CodeForm, wait: datetime | None) -> HttpResponse:
        if wait:
            seconds = max(1, round((wait - datetime.now(UTC)).total_seconds()))
            form.add_error(None, f"Too soon after a wrong code. Try again in {seconds} s.")
            return self.form_invalid(form)
        assert self.user is not None  # noqa: S101  dispatch saw to it
        step = self.request.session[SECOND_STEP]
        step["tries"] += 1
        # By nobody we know: the password was right, the code was not.
        record(Actor.of(self.request), "account.second_step_failed", _target(self.user), tries=step["tries"])
        self.request.session.modified = True
        if step["tries"] >= SECOND_STEP_TRIES:
            del self.request.session[SECOND_STEP]
            messages.error(self.request, "Too many wrong codes. Start again with your password.")
            return redirect("login")
        form.add_error(None, "This code is wrong or was used already.")
        return self.form_invalid(form)

    def _next(self) -> str:
        target = self.request.POST.get("next") or self.request.GET.get("next", "")
        safe = url_has_allowed_host_and_scheme(
            target, allowed_hosts={self.request.get_host()}, require_https=self.request.is_secure()
        )
        return target if safe else resolve_url(settings.LOGIN_REDIRECT_URL)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The page's values; ``next`` survives a wrong code."""
        target = self.request.POST.get("next") or self.request.GET.get("next", "")
        return super().get_context_data(**kwargs) | {"next": target}


@method_decorator(login_not_required, name="dispatch")
class Logout(LogoutView):
    """Ends the session. By POST only (Django's view), so that no link or image can do it."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Write it down while it is known who leaves, and end the session."""
        if request.user.is_authenticated:
            record(Actor.of(request), "account.sign_out", _target(_user(request)))
        return super().post(request, *args, **kwargs)


class Account(TemplateView):
    """One's own account: password and second factor."""

    template_name = "account/account.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The page's values."""
        user = _user(self.request)
        on = two_factor.is_on(user)
        return super().get_context_data(**kwargs) | {
            "two_factor_on": on,
            "codes_left": two_factor.codes_left(user) if on else 0,
        }


@method_decorator([never_cache, sensitive_post_parameters()], name="dispatch")
class ChangePassword(PasswordChangeView):
    """A new password. The account's other sessions end: Django ties sessions to the password's hash."""

    template_name = "account/password.html"
    form_class = ChangePasswordForm
    success_url = reverse_lazy("account")

    def get_form_kwargs(self) -> dict[str, Any]:
        """The form needs the request, for the rate limit."""
        return super().get_form_kwargs() | {"request": self.request}

    def form_valid(self, form: Any) -> HttpResponse:
        """Save it, keep this session under a new key, and write it down."""
        response = super().form_valid(form)
        record(Actor.of(self.request), "account.password", _target(_user(self.request)))
        messages.success(self.request, "Password changed. Your other sessions are signed out.")
        return response


@require_POST
def start_two_factor(request: HttpRequest) -> HttpResponse:
    """Make a new key, to be confirmed on the next page. One that is in force has to be turned off first."""
    if two_factor.is_on(_user(request)):
        return redirect("account")
    two_factor.start(_user(request))
    return redirect("two_factor")


@method_decorator([never_cache, sensitive_post_parameters()], name="dispatch")
class SetUpTwoFactor(_CodeView):
    """Shows the new key as a QR code and puts it in force once a code from it is right.

    The account's other sessions end: they were opened without the second factor.
    """

    template_name = "account/two_factor.html"
    form_class = CodeForm

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Without a key to confirm there is nothing to show; one in force is not replaced without the password."""
        self.device = two_factor.pending(_user(request))
        if self.device is None or two_factor.is_on(_user(request)):
            return redirect("account")
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: CodeForm) -> HttpResponse:
        """Confirm the key and show the recovery codes, once."""
        assert self.device is not None  # noqa: S101  dispatch saw to it
        codes = two_factor.confirm(self.device, form.cleaned_data["code"])
        if codes is None:
            form.add_error("code", "This code is wrong. Wait for the next one; the device's clock must be right.")
            return self.form_invalid(form)
        django_otp.login(self.request, self.device)
        self.request.session.cycle_key()
        user = _user(self.request)
        with transaction.atomic():
            ended = sessions.end_others(user, self.request.session.session_key)
            record(Actor.of(self.request), "account.two_factor_on", _target(user), sessions_ended=ended)
        return render(self.request, "account/recovery_codes.html", {"codes": codes, "first": True})

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """The page's values."""
        assert self.device is not None  # noqa: S101
        return super().get_context_data(**kwargs) | {
            "qr": two_factor.qr(self.device),
            "key": two_factor.readable_key(self.device),
        }


@method_decorator([never_cache, sensitive_post_parameters()], name="dispatch")
class _WithPassword(_PasswordView):
    form_class = PasswordForm
    success_url = reverse_lazy("account")

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Without a second factor there is nothing to change."""
        if not two_factor.is_on(_user(request)):
            return redirect("account")
        return super().dispatch(request, *args, **kwargs)

    def get_form_kwargs(self) -> dict[str, Any]:
        """The form checks the password of the request's user."""
        return super().get_form_kwargs() | {"request": self.request}


class TurnOffTwoFactor(_WithPassword):
    """Removes the second factor, after the password."""

    template_name = "account/two_factor_off.html"

    def form_valid(self, form: PasswordForm) -> HttpResponse:  # noqa: ARG002
        """Turn it off and write it down."""
        two_factor.turn_off(_user(self.request))
        self.request.session.pop(django_otp.DEVICE_ID_SESSION_KEY, None)
        record(Actor.of(self.request), "account.two_factor_off", _target(_user(self.request)))
        messages.success(self.request, "Two-factor sign-in is off.")
        return redirect("account")


class NewRecoveryCodes(_WithPassword):
    """Replaces the recovery codes, after the password, and shows the new ones once."""

    template_name = "account/recovery_new.html"

    def form_valid(self, form: PasswordForm) -> HttpResponse:  # noqa: ARG002
        """Make new codes and write it down."""
        codes = two_factor.new_recovery_codes(_user(self.request))
        record(Actor.of(self.request), "account.recovery_codes", _target(_user(self.request)))
        return render(self.request, "account/recovery_codes.html", {"codes": codes, "first": False})


@login_not_required
def admin_login(request: HttpRequest) -> HttpResponse:
    """The admin's own login page would know no second factor: everybody signs in at ours."""
    target = request.GET.get("next") or resolve_url("admin:index")
    return redirect(resolve_url("login") + "?" + urlencode({"next": target}))


def admin_password_change(request: HttpRequest) -> HttpResponse:  # noqa: ARG001
    """One page for passwords, ours."""
    return redirect("password_change")


def _target(user: User) -> str:
    return f"user:{user.get_username()}"
