"""The admin of what every room shares: the audit trail, which is only read, API tokens, and accounts."""

# ruff: noqa: ARG002 - the signatures are Django's

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django_otp.plugins.otp_static.admin import StaticDeviceAdmin
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.admin import TOTPDeviceAdmin
from django_otp.plugins.otp_totp.models import TOTPDevice

from wsmon import tokens
from wsmon.audit import Actor, record
from wsmon.models import ApiToken, AuditEntry

if TYPE_CHECKING:
    _AuditAdmin = admin.ModelAdmin[AuditEntry]
    _TokenAdmin = admin.ModelAdmin[ApiToken]
    _AnyAdmin = admin.ModelAdmin[Any]
else:  # Django's classes take no parameters at run time
    _AuditAdmin = _TokenAdmin = admin.ModelAdmin
    _AnyAdmin = object


class ReadOnly:
    """Nobody adds, changes or deletes here."""

    def has_add_permission(self, request: HttpRequest, *_: Any) -> bool:
        """Nobody."""
        return False

    def has_change_permission(self, request: HttpRequest, *_: Any, **__: Any) -> bool:
        """Nobody."""
        return False

    def has_delete_permission(self, request: HttpRequest, *_: Any, **__: Any) -> bool:
        """Nobody."""
        return False


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnly, _AuditAdmin):
    """Who did what, when, from where, why. Read by superusers and who may ``view_auditentry``."""

    list_display = ("at", "actor_name", "action", "target", "reason", "address")
    list_filter = ("action", "at")
    search_fields = ("actor_name", "target", "reason")
    date_hierarchy = "at"
    list_select_related = False
    show_full_result_count = False
    fields = ("at", "actor_name", "action", "target", "reason", "address", "details")


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnly, _TokenAdmin):
    """Tokens are made by ``manage.py createtoken`` and revoked here. Not even the digest is shown."""

    list_display = ("name", "scope_list", "created_at", "last_used_at", "revoked_at")
    search_fields = ("name",)
    fields = ("name", "scope_list", "created_at", "last_used_at", "revoked_at")
    readonly_fields = ("scope_list",)
    actions = ("revoke",)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Superusers only."""
        return self.has_revoke_permission(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """As above."""
        return self.has_revoke_permission(request)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Superusers only."""
        return bool(request.user.is_active and getattr(request.user, "is_superuser", False))

    @admin.display(description="Scopes")
    def scope_list(self, token: ApiToken) -> str:
        """The scopes in a row."""
        return ", ".join(token.scopes)

    @admin.action(description="Revoke the selected tokens", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        """Make them useless from now on."""
        count = sum(tokens.revoke(token, Actor.of(request)) for token in queryset)
        self.message_user(request, f"Revoked {count} tokens.", messages.SUCCESS)


class Audited(_AnyAdmin):
    """Whatever Django logs as added, changed (passwords too) or deleted leaves an audit row."""

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        """``user.create`` and the like."""
        record(Actor.of(request), f"{obj._meta.model_name}.create", _target(obj), changes=message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        """``user.change`` and the like; Django's message names fields, not values."""
        record(Actor.of(request), f"{obj._meta.model_name}.change", _target(obj), changes=message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """``user.delete`` and the like."""
        for obj in queryset:
            record(Actor.of(request), f"{obj._meta.model_name}.delete", _target(obj))
        return super().log_deletions(request, queryset)


class AuditedUserAdmin(Audited, UserAdmin):  # type: ignore[type-arg]
    """Accounts."""


class AuditedGroupAdmin(Audited, GroupAdmin):
    """Groups."""


class AuditedTotpAdmin(Audited, TOTPDeviceAdmin):  # type: ignore[misc]
    """Second factors; OTP_ADMIN_HIDE_SENSITIVE_DATA keeps their keys off the page."""


class AuditedCodesAdmin(Audited, StaticDeviceAdmin):  # type: ignore[misc]
    """Recovery codes."""


def _target(obj: Model) -> str:
    return f"{obj._meta.model_name}:{obj}"


for _model, _admin in (
    (User, AuditedUserAdmin),
    (Group, AuditedGroupAdmin),
    (TOTPDevice, AuditedTotpAdmin),
    (StaticDevice, AuditedCodesAdmin),
):
    # Importing their modules above has registered Django's own.
    admin.site.unregister(_model)
    admin.site.register(_model, _admin)
