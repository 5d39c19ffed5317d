"""The API's documentation, rendered here from the OpenAPI document: no script, nothing from elsewhere."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse


def page(request: HttpRequest, document: dict[str, Any]) -> HttpResponse:
    """Return the page."""
    return HttpResponse()
