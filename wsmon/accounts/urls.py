"""The account's pages. Included before the admin, whose own login would know no second factor."""

from __future__ import annotations

from django.urls import path

from wsmon.accounts import views

urlpatterns = [
    path("login/", views.Login.as_view(), name="login"),
    path("login/code/", views.SecondStep.as_view(), name="login_code"),
    path("logout/", views.Logout.as_view(), name="logout"),
    path("account/", views.Account.as_view(), name="account"),
    path("account/password/", views.ChangePassword.as_view(), name="password_change"),
    path("account/two-factor/", views.SetUpTwoFactor.as_view(), name="two_factor"),
    path("account/two-factor/start/", views.start_two_factor, name="two_factor_start"),
    path("account/two-factor/off/", views.TurnOffTwoFactor.as_view(), name="two_factor_off"),
    path("account/two-factor/recovery/", views.NewRecoveryCodes.as_view(), name="recovery_codes"),
    path("admin/login/", views.admin_login),
    path("admin/logout/", views.Logout.as_view()),
    path("admin/password_change/", views.admin_password_change),
]
