"""Where the demo's messages arrive: a chat, and the phone of whoever is on call, as one page of its own.

The channels are Apprise's ``json://``: a message is a POST of ``{"title", "message", "type"}`` to ``/inbox/<name>``.
The page has a switch for each vendor and for a critical day, so that anybody can tell another story.
"""

from __future__ import annotations

import html
import json
import re
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from demo.script import Behaviour
from demo.shapes import Reply

NAMES = ("chat", "phone")
MOST = 200
SHOWN = 40
MARKS = {"failure": "#c8372d", "warning": "#b87503", "success": "#0b8a63", "info": "#3150c4"}
_URL = re.compile(r"https?://[^\s<>\"]+")


@dataclass(frozen=True, slots=True)
class Letter:
    """One message that arrived."""

    to: str
    title: str
    text: str
    kind: str
    """Apprise's word: failure, warning, success or info."""
    at: str


class Inbox:
    """What arrived, the newest last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: deque[Letter] = deque(maxlen=MOST)

    def take(self, name: str, body: bytes) -> Reply:
        """Keep a message for one of :data:`NAMES`."""
        if name not in NAMES:
            return Reply(404, {"message": "nobody of that name"})
        try:
            said = json.loads(body)
            title, text, kind = (str(said[key]) for key in ("title", "message", "type"))
        except (ValueError, LookupError, TypeError):
            return Reply(422, {"message": "a title, a message and a type, please"})
        with self._lock:
            self._kept.append(Letter(name, title, text, kind, datetime.now(UTC).isoformat(timespec="milliseconds")))
        return Reply(200, {"ok": True})

    def letters(self) -> list[Letter]:
        """Everything that is kept, oldest first."""
        with self._lock:
            return list(self._kept)

    def as_json(self) -> Reply:
        """The same for programs."""
        return Reply(200, {"messages": [asdict(letter) for letter in self.letters()]})

    def page(self, behaviours: Mapping[str, Behaviour], wsmon: str) -> Reply:
        """The page: phones to the left, switches to the right."""
        letters = self.letters()[::-1]
        columns = "".join(_column(name, [one for one in letters if one.to == name][:SHOWN]) for name in NAMES)
        link = f'<a href="{html.escape(wsmon)}">wsmon</a>' if wsmon else "wsmon"
        head = f"<header><h1>What {link} told</h1><p>A stand-in: a chat, a phone, and the vendors.</p></header>"
        return Reply(
            200,
            _PAGE.format(style=_STYLE, script=_SCRIPT, head=head, columns=columns, switches=_switches(behaviours)),
        )


def _column(name: str, letters: list[Letter]) -> str:
    told = "".join(map(_letter, letters)) or "<p class=quiet>Nothing so far.</p>"
    return f"<section><h2>{name} <small>{len(letters)}</small></h2>{told}</section>"


def _letter(one: Letter) -> str:
    colour = MARKS.get(one.kind, MARKS["info"])
    at = datetime.fromisoformat(one.at)
    text = _URL.sub(lambda found: f'<a href="{found[0]}">{_shown(found[0])}</a>', html.escape(one.text, quote=False))
    return (
        f'<article style="border-left-color:{colour}"><time>{at:%H:%M:%S} UTC</time>'
        f"<h3>{html.escape(one.title)}</h3><p>{text}</p></article>"
    )


def _shown(url: str) -> str:
    """A link as people read it: without its token."""
    path = url.split("//", 1)[1].partition("/")[2]
    return "acknowledge" if path.startswith("ack/") else path or url


def _switches(behaviours: Mapping[str, Behaviour]) -> str:
    rows = "".join(_switch(vendor, how) for vendor, how in behaviours.items())
    day = _form("critical_day", "on", "Switch a critical day on") + _form("critical_day", "off", "Off")
    return f"<section><h2>vendors</h2><table>{rows}</table><h2>calendar</h2><div class=day>{day}</div></section>"


def _switch(vendor: str, how: Behaviour) -> str:
    options = "".join(f"<option{' selected' if one is how else ''}>{one}</option>" for one in Behaviour)
    return (
        f'<tr><th scope="row"><label for="{vendor}">{vendor}</label></th><td class="{how}">{how}</td><td>'
        f'<form method="post" action="/control"><input type="hidden" name="vendor" value="{vendor}">'
        f'<select id="{vendor}" name="behaviour">{options}<option value="">as in the script</option></select>'
        "<button>Set</button></form></td></tr>"
    )


def _form(name: str, value: str, label: str) -> str:
    return (
        f'<form method="post" action="/control"><input type="hidden" name="{name}" value="{value}">'
        f"<button>{label}</button></form>"
    )


_STYLE = """
:root{color-scheme:light dark;--line:#d9dee7;--ink:#5b6472;--ground:#f6f7f9;--card:#fff}
@media(prefers-color-scheme:dark){:root{--line:#2b313b;--ink:#98a2b3;--ground:#0f1216;--card:#171b21}}
body{margin:0;padding:24px;background:var(--ground);font:14px/1.5 system-ui,sans-serif}
header p,time,.quiet,small{color:var(--ink)}h1{font-size:22px;margin:0}h2{font-size:15px;margin:0 0 10px}
h3{font-size:14px;margin:2px 0}main{display:grid;grid-template-columns:1fr 1fr 330px;gap:20px;align-items:start}
article{background:var(--card);border:1px solid var(--line);border-left:4px solid;border-radius:8px;padding:10px 14px;
margin-bottom:10px}article p{margin:4px 0 0;white-space:pre-line;overflow-wrap:anywhere}time{font-size:12px}
table{border-spacing:0 4px;width:100%;margin-bottom:16px}th{text-align:left;font-weight:500}
form{display:flex;gap:6px}.day{display:flex;gap:8px}button,select{font:inherit;min-height:30px;min-width:0}
td.well{color:#0b8a63}td:not(.well):nth-child(2){color:#c8372d}
@media(max-width:900px){main{grid-template-columns:1fr}body{padding:14px}}
"""

_SCRIPT = """
setInterval(async () => {
  const fresh = new DOMParser().parseFromString(await (await fetch("/inbox/")).text(), "text/html");
  const [old, news] = [document, fresh].map((one) => one.querySelectorAll("main > section, td:nth-child(2)"));
  news.forEach((one, place) => {
    if (one.querySelector("form") || old[place].innerHTML === one.innerHTML) return;
    old[place].replaceWith(document.adoptNode(one));
  });
}, 2000);
"""

_PAGE = (
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>The demo\'s inbox</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    "<style>{style}</style></head><body>{head}<main>{columns}{switches}</main>"
    "<script>{script}</script></body></html>"
)
