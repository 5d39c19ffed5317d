"""Apprise: over a hundred services by their URLs (https://github.com/caronc/apprise/wiki). No database.

Its plugins make their own connections, so wsmon's guard against private addresses can only look before: a host
that is named in the URL is looked up and checked, and redirects are not followed. A name that resolves to
something else a moment later gets past it; what must not be reached has to be out of reach of the network.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import Any

from monitoring.notifications.messages import Message
from monitoring.notifications.problems import ChannelProblem
from wsmon.net import BlockedAddress, Exchange, Guard, HttpError, resolve

LOCAL = frozenset({"syslog", "dbus", "qt", "kde", "glib", "gnome", "macosx", "windows", "gio"})
"""Schemes that talk to this machine's desktop or log: nobody is told by them."""
_STATUS = re.compile(r"error=(\d{3})")
_NO_USE = {400, 401, 402, 403, 404, 405, 406, 410, 411, 413, 414, 415, 422}
"""Answers that the same message will get again: the credential, the room or the message is wrong."""
_TYPES = {"critical": "failure", "warning": "warning", "info": "info"}


def check(url: str) -> None:
    """Raise ValueError, in words that do not quote it, when Apprise knows no such URL."""
    scheme = url.partition("://")[0].lower()
    if scheme in LOCAL:
        raise ValueError("is of a kind that reaches nobody but this machine")
    if _plugin(url) is None:
        raise ValueError("is no URL that Apprise knows")


def send(url: str, message: Message, guard: Guard, timeout: float) -> None:
    """Send by Apprise; raise :class:`ChannelProblem`. May hang: call it with a deadline."""
    plugin = _plugin(url)
    if plugin is None:
        raise ChannelProblem("Apprise knows no such URL", retry=False)
    _guarded(plugin, guard, timeout)
    plugin.redirects = False
    plugin.socket_connect_timeout = min(plugin.socket_connect_timeout or timeout, timeout)
    plugin.socket_read_timeout = min(plugin.socket_read_timeout or timeout, timeout)
    kind = "success" if message.resolved else _TYPES.get(message.severity, "info")
    with _Listening() as heard:
        try:
            done = plugin.notify(title=message.title, body=_body(plugin, message), notify_type=kind)
        except Exception as problem:  # its plugins are many, and so is what they raise
            raise ChannelProblem(f"{_name(plugin)} failed ({type(problem).__name__})", retry=True) from None
    if not done:
        raise _problem(_name(plugin), heard.words)


def _plugin(url: str) -> Any:
    import apprise  # noqa: PLC0415  a tenth of a second, and much memory, for those who need it
    from apprise.common import NotifyFormat  # noqa: PLC0415

    asset = apprise.AppriseAsset(
        app_id="wsmon", app_desc="wsmon", app_url="", async_mode=False, secure_logging=True, storage_mode="memory"
    )
    setattr(asset, "body_format", NotifyFormat.TEXT)  # noqa: B010  its own type says None
    return apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)


def _guarded(plugin: Any, guard: Guard, timeout: float) -> None:
    """Refuse a private address where the URL names a host (and not a token in its place)."""
    templates = getattr(plugin, "templates", ())
    if not plugin.host or not any("{host}" in template for template in templates):
        return
    try:
        guard.check(plugin.host, resolve(plugin.host, Exchange(timeout)))
    except BlockedAddress as problem:
        raise ChannelProblem(problem.message, retry=False) from None
    except HttpError as problem:
        raise ChannelProblem(problem.message, retry=not problem.ours) from None


def _body(plugin: Any, message: Message) -> str:
    """The text, or its short form where the service takes little."""
    room = int(getattr(plugin, "body_maxlen", 0) or 0)
    text = message.text
    return message.short if room and room < 500 else text if not room or len(text) <= room else text[: room - 1] + "…"


def _name(plugin: Any) -> str:
    return str(getattr(plugin, "service_name", None) or "Apprise")


def _problem(name: str, words: list[str]) -> ChannelProblem:
    said = " ".join(words)
    status = _STATUS.search(said)
    if status:
        number = int(status[1])
        return ChannelProblem(f"{name} answered {number}", retry=number not in _NO_USE)
    if "connection error" in said.lower():
        return ChannelProblem(f"no connection to {name}", retry=True)
    return ChannelProblem(f"{name} did not take it", retry=True)


class _Listening(logging.Handler):
    """What Apprise logs in the calling thread: the only place where it says what went wrong."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what this thread says."""
        if record.thread == self._thread and len(self.words) < 20:
            self.words.append(record.getMessage())

    def __enter__(self) -> _Listening:
        logging.getLogger("apprise").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("apprise").removeHandler(self)
