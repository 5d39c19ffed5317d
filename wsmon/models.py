"""What every room shares: the audit trail and the API's tokens."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models


class AuditEntry(models.Model):
    """One action of a person or a token: who, what, when, from where, why. Never changed, never deleted."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL)
    actor_name = models.CharField(max_length=200, help_text="kept when the account is deleted")
    action = models.CharField(max_length=60, help_text='e.g. "check.pause"')
    target = models.CharField(max_length=200, blank=True, help_text='e.g. "service:stripe"')
    reason = models.CharField(max_length=500, blank=True)
    address = models.GenericIPAddressField(null=True)
    details = models.JSONField(default=dict)

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.at:%F %T} {self.actor_name} {self.action} {self.target}"


class ApiToken(models.Model):
    """A bearer token of a program. Only its hash is kept; the token itself is shown once."""

    name = models.CharField(max_length=100, unique=True)
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the token, hexadecimal")
    scopes = ArrayField(models.CharField(max_length=40))
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
