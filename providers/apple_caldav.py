"""Apple iCloud calendars, or any other CalDAV server."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from base64 import b64encode
from urllib.parse import urljoin, urlsplit

from providers.answers import (
    Complaint,
    Dialect,
    Meaning,
    Talk,
    Verdict,
    conversation,
    meaning_of,
    reached,
    three,
)
from providers.base import ProbeOutcome, Provider, StatusPage, Variable
from wsmon.http import Response
from wsmon.vocabulary import JSON, Category, Outcome

XML_LIMIT = 262_144
DAV, CALDAV = "{DAV:}", "{urn:ietf:params:xml:ns:caldav}"
# https://www.rfc-editor.org/rfc/rfc5397 and https://www.rfc-editor.org/rfc/rfc4791#section-6.2.1
PRINCIPAL = '<propfind xmlns="DAV:"><prop><current-user-principal/></prop></propfind>'
HOME = '<propfind xmlns="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"><prop><c:calendar-home-set/></prop></propfind>'
PROPFIND = {"Depth": "0", "Content-Type": "application/xml; charset=utf-8"}
CALENDARS = '<propfind xmlns="DAV:"><prop><resourcetype/><displayname/></prop></propfind>'


def _complaint(data: JSON) -> Complaint | None:
    """CalDAV has no JSON; what counts as its answer is told by :func:`_special`."""
    return data if isinstance(data, Complaint) else None


def _special(response: Response, _: Complaint | None) -> Meaning | None:
    """A refusal is recognised by its login header; iCloud answers a plain request with an empty 400."""
    html = response.body.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html"))
    if response.status == 401 and "www-authenticate" in response.headers:
        return Meaning.REFUSED
    if response.status in {400, 403, 404, 405} and not html:
        return Meaning.FORBIDDEN if response.status == 403 else Meaning.CLIENT
    return None


CALDAV_SERVER = Dialect(
    vendor="the CalDAV server",
    complaint=_complaint,
    variables=(
        Variable("CALDAV_USERNAME", "the Apple Account's e-mail address", secret=False),
        Variable("CALDAV_PASSWORD", "an app-specific password, not the account's own"),
    ),
    bases={"CALDAV_URL": "https://caldav.icloud.com"},
    special=_special,
)
NEEDS = ("CALDAV_USERNAME", "CALDAV_PASSWORD")


class _NoDoctype(ET.TreeBuilder):
    """Entities need a document type; without one there are none to expand."""

    def doctype(self, *_: str | None) -> None:
        raise ValueError("a document type is refused")


def parse(response: Response) -> ET.Element | None:
    """The multistatus of a 207, or ``None`` for anything else (too big, a document type, not XML)."""
    if response.status != 207 or response.truncated or len(response.body) > XML_LIMIT:
        return None
    parser = ET.XMLParser(target=_NoDoctype())  # noqa: S314  (no document type, so no entity)
    try:
        parser.feed(response.body)
        root = parser.close()
    except (ET.ParseError, ValueError, LookupError):
        return None
    return root if isinstance(root, ET.Element) and root.tag == f"{DAV}multistatus" else None


def _login(talk: Talk) -> str:
    user, password = talk.need(*NEEDS)
    encoded = b64encode(f"{user}:{password}".encode()).decode()
    talk.secrets.append(encoded)
    return f"Basic {encoded}"


def _propfind(talk: Talk, url: str, body: str, depth: str = "0") -> ET.Element:
    """Ask for properties with the credential; anything but a 207 multistatus ends the probe."""
    response = talk.send(
        "PROPFIND",
        url,
        headers=PROPFIND | {"Authorization": _login(talk), "Depth": depth},
        body=body,
    )
    if (found := parse(response)) is not None:
        return found
    raise Verdict(talk.failure(meaning_of(response, None, None, CALDAV_SERVER) or Meaning.FOREIGN, response, None))


def _start(talk: Talk) -> str:
    return talk.base("CALDAV_URL") + "/"


def _href(root: ET.Element, prop: str) -> str | None:
    found = root.find(f"{DAV}response/{DAV}propstat/{DAV}prop/{prop}/{DAV}href")
    return found.text.strip() if found is not None and found.text else None


def _join(talk: Talk, url: str, href: str) -> str:
    """Where ``href`` leads; the credential only goes to the same host, or between hosts of iCloud."""
    try:
        target = urljoin(url, href)
        here, there = urlsplit(url), urlsplit(target)
        hosts = (here.hostname or "", there.hostname or "")
        same = (here.scheme, hosts[0], here.port) == (there.scheme, hosts[1], there.port)
    except ValueError:
        same, hosts, target, there = False, ("", ""), "", urlsplit("")
    icloud = all(host.endswith(".icloud.com") for host in hosts)
    if not same and not (icloud and there.scheme == "https" and there.port in {None, 443}):
        raise talk.ours("the CalDAV server sends us to another host; set CALDAV_URL to that one")
    return target


@conversation(CALDAV_SERVER)
def connectivity(talk: Talk) -> ProbeOutcome:
    """A PROPFIND without a credential: a request to log in, or properties, prove that it answers."""
    response = talk.send("PROPFIND", _start(talk), headers=PROPFIND, body=PRINCIPAL)
    if parse(response) is not None:
        return talk.healthy("207 with properties: reachable")
    return reached(talk, response, None)


@conversation(CALDAV_SERVER)
def authentication(talk: Talk) -> ProbeOutcome:
    """Who we are, by the server's word."""
    return talk.healthy("the password works", principal_host=urlsplit(_principal(talk)).hostname)


@conversation(CALDAV_SERVER)
def functionality(talk: Talk) -> ProbeOutcome:
    """Principal, calendar home, calendars."""
    principal = _principal(talk)
    home = _href(_propfind(talk, principal, HOME), f"{CALDAV}calendar-home-set")
    if home is None:
        raise _lacks(talk, "a calendar home")
    url = _join(talk, principal, home)
    found = _propfind(talk, url, CALENDARS, depth="1")
    names = [
        each.findtext(f"{DAV}propstat/{DAV}prop/{DAV}displayname") or "unnamed"
        for each in found.findall(f"{DAV}response")
        if each.find(f"{DAV}propstat/{DAV}prop/{DAV}resourcetype/{CALDAV}calendar") is not None
    ]
    return talk.healthy(f"{len(names)} calendars", calendars=names, calendar_host=urlsplit(url).hostname)


def _principal(talk: Talk) -> str:
    found = _propfind(talk, _start(talk), PRINCIPAL)
    href = _href(found, f"{DAV}current-user-principal")
    if href is None:
        raise _lacks(talk, "a current user")
    return _join(talk, _start(talk), href)


def _lacks(talk: Talk, what: str) -> Verdict:
    message = f"{talk.dialect.vendor} answered 207 without {what}"
    return Verdict(talk.say(Outcome.CRITICAL, message, Category.VALIDATION_ERROR))


PROVIDER = Provider(
    slug="apple_caldav",
    label="Apple Calendar (CalDAV)",
    kinds=three(
        connectivity=connectivity,
        authentication=authentication,
        functionality=functionality,
        needs=NEEDS,
    ),
    variables=CALDAV_SERVER.variables,
    base_urls=CALDAV_SERVER.bases,
    status_page=StatusPage(
        "https://www.apple.com/support/systemstatus/data/system_status_en_US.js",
        format="apple",
        components=("iCloud Calendar", "iCloud Account & Sign In"),
    ),
    docs_url="https://support.apple.com/102654",
)
