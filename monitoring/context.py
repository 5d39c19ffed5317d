"""What every page needs: navigation, the overall state, wsmon's own problem, version, time zone."""

from __future__ import annotations

from functools import cached_property

from django.conf import settings
from django.http import HttpRequest

from monitoring import nav, overview, selfwatch
from monitoring.critical import reads as critical
from monitoring.critical.reads import Banner
from wsmon import __version__

THEMES = (("system", "System"), ("light", "Light"), ("dark", "Dark"))


class Page:
    """Computed only when a template asks, so that the admin and error pages pay nothing for it."""

    time_zone = settings.TIME_ZONE
    version = __version__
    themes = THEMES

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @classmethod
    def of(cls, request: HttpRequest) -> Page:
        """The one of this request, so that a view and its template ask once."""
        if not hasattr(request, "wsmon_page"):
            request.wsmon_page = cls(request)  # type: ignore[attr-defined]
        return request.wsmon_page  # type: ignore[attr-defined, no-any-return]

    @cached_property
    def watches(self) -> bool:
        """Whether this person may see how services are doing; the account pages are for others too."""
        user = getattr(self._request, "user", None)
        return bool(user and getattr(user, "is_staff", False) and user.has_perm(settings.LIVE_PERMISSION))

    @cached_property
    def nav(self) -> list[nav.Item]:
        """The pages that exist, the present one marked."""
        match = self._request.resolver_match
        return nav.items((match.url_name if match else None) or "")

    @cached_property
    def overall(self) -> overview.Overall:
        """The overall state for the header."""
        return overview.overall()

    @cached_property
    def selfwatch(self) -> selfwatch.SelfWatch:
        """How wsmon itself is doing."""
        return selfwatch.look()

    @property
    def critical(self) -> Banner | None:
        """What is in force today, for the banner."""
        return critical.banner()

    @property
    def problem(self) -> str | None:
        """What is wrong with wsmon itself, for the banner."""
        return self.selfwatch.problem


def page(request: HttpRequest) -> dict[str, Page]:
    """The context processor: ``{{ page.overall }}`` and so on."""
    return {"page": Page.of(request)}
