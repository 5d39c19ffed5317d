"""Runs one probe and makes sure that it ends in an outcome without secrets, whatever happens in it."""

from __future__ import annotations

import logging
import traceback
from dataclasses import replace

import providers
from providers.base import NotConfigured, ProbeContext, ProbeOutcome, Provider
from wsmon.http import HttpError
from wsmon.redact import redact, redact_json, remember
from wsmon.vocabulary import Category, Outcome

MESSAGE_LIMIT = 500
_log = logging.getLogger(__name__)


def run(provider: Provider, kind_name: str, context: ProbeContext) -> ProbeOutcome:
    """Run one kind of check of ``provider``; only :class:`NotConfigured` and UnknownKind are raised.

    A target that fails is ``critical``; a fault of our own, an unexpected exception included, is
    ``error``. Message and details are masked with every secret the probe could have seen.
    """
    kind = providers.kind(provider, kind_name)
    secrets = _secrets(provider, context)
    try:
        outcome = kind.probe(replace(context, provider=provider))
    except NotConfigured:
        raise
    except HttpError as error:
        outcome = failed(error)
    except Exception as error:
        outcome = _crashed(provider, kind_name, error)
    return _without_secrets(outcome, secrets)


def failed(error: HttpError) -> ProbeOutcome:
    """What an exchange that failed says about the target, or about us."""
    return ProbeOutcome(
        Outcome.ERROR if error.ours else Outcome.CRITICAL, error.category, error.message, error.timings
    )


def _secrets(provider: Provider, context: ProbeContext) -> tuple[str, ...]:
    """The values of secret variables, longest first, and those the options hold in clear."""
    found = {
        context.variables[variable.name]
        for variable in provider.variables
        if variable.secret and variable.name in context.variables
    }
    found.update(getattr(context.options, "secret_values", ()))
    for value in found:
        remember(value)  # for the logs
    return tuple(sorted(found, key=len, reverse=True))


def _crashed(provider: Provider, kind: str, error: Exception) -> ProbeOutcome:
    """Only the class and the place of an unexpected exception are told: its text may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
    name = type(error).__name__
    _log.error("probe %s of %s raised %s at %s", kind, provider.slug, name, place)
    return ProbeOutcome(Outcome.ERROR, Category.UNKNOWN_ERROR, f"the probe itself failed ({name})")


def _without_secrets(outcome: ProbeOutcome, secrets: tuple[str, ...]) -> ProbeOutcome:
    message = redact(outcome.message, secrets)[:MESSAGE_LIMIT]
    details = redact_json(dict(outcome.details), secrets) if outcome.details else outcome.details
    return replace(outcome, message=message, details=details)
