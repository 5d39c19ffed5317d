"""What the page of one incident shows, each part read only when a template asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from django.http import HttpRequest
from django.urls import reverse

from monitoring.incidents import budget, export, facts, reads, timeline, verdict
from monitoring.incidents.budget import Budget
from monitoring.incidents.reads import Before, Figures
from monitoring.incidents.store import BY_WSMON
from monitoring.incidents.timeline import Line, Timeline
from monitoring.incidents.verdict import Evidence, Judged, Side
from monitoring.models import Alert, Check, CheckState, Incident, Notification, ServiceSummary
from monitoring.views.incidentchart import Chart, draw
from monitoring.views.incidentforms import AssignForm, NoteForm, ReasonForm
from wsmon.vocabulary import Status

SCALE = 417
"""Width of the two sides of the verdict's scale together, in its picture."""
GAP = 3
WORDS = {Side.US: "Us", Side.THEM: "Them", Side.UNCLEAR: "Unclear"}


@dataclass(frozen=True, slots=True)
class Told:
    """One message, for the card of who was told."""

    row: Notification
    state: str

    @property
    def icon(self) -> str:
        """Arrived, failed, not needed, or on its way."""
        return {"sent": "check", "gathered": "check", "failed": "x", "dropped": "x"}.get(self.row.state, "clock")

    @property
    def whom(self) -> str:
        """The channel, and who is on call."""
        return f"{self.row.channel.slug}, {self.row.recipient}" if self.row.recipient else self.row.channel.slug


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the timeline's filters."""

    value: str
    label: str
    href: str
    current: bool


class IncidentView:
    """The page's parts."""

    def __init__(self, request: HttpRequest, incident: Incident) -> None:
        self.incident = incident
        self.may_operate = bool(getattr(request.user, "has_perm", None)) and request.user.has_perm(
            "monitoring.operate"
        )
        self.show = _known(request.GET.get("show"))
        self.note_form = NoteForm(auto_id="note-%s")
        self.resolve_form = ReasonForm(auto_id="resolve-%s")
        self.reopen_form = ReasonForm(auto_id="reopen-%s")
        self.open_panel = ""

    @cached_property
    def assign_form(self) -> AssignForm:
        """Whom to give it to; asks who there is."""
        return AssignForm({"to": str(self.incident.assignee_id or "")}, auto_id="assign-%s")

    @property
    def is_open(self) -> bool:
        """Whether it is not over."""
        return self.incident.closed_at is None

    @property
    def still_failing(self) -> bool:
        """Whether it was resolved although its service is not healthy."""
        return not self.is_open and self.incident.service.status in (Status.CRITICAL, Status.DEGRADED)

    @property
    def closed_by(self) -> str:
        """Who resolved it, or why wsmon closed it."""
        return self.incident.closed_by.removeprefix(BY_WSMON)

    @cached_property
    def figures(self) -> Figures:
        """How long things took."""
        return reads.figures(self.incident)

    # us or them -------------------------------------------------------------------------------------

    @cached_property
    def judged(self) -> Judged:
        """The verdict."""
        return reads.judged(self.incident)

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if not self.judged.evidence:
            return "Not judged yet."
        return verdict.sentence(self.judged, self.incident.service.label, is_vendor=self.is_vendor)

    @property
    def lead(self) -> str:
        """The evidence that says most, in a sentence."""
        wanted = {"theirs": Side.THEM, "ours": Side.US}.get(self.judged.verdict)
        pieces = [piece for piece in self.judged.evidence if piece.side is wanted][:2] if wanted else []
        if not pieces:
            return "The evidence points to both sides, or to none." if self.judged.evidence else ""
        return "; ".join(f"{piece.title}: {piece.text}" for piece in pieces) + "."

    @property
    def evidence(self) -> list[tuple[Evidence, str]]:
        """Each piece with the word for its side."""
        return [(piece, WORDS[piece.side]) for piece in self.judged.evidence]

    @property
    def us_width(self) -> int:
        """The scale: how wide the side "us" is."""
        return round(SCALE * self.judged.us)

    @property
    def them_x(self) -> int:
        """Where the side "them" begins."""
        return self.us_width + GAP

    @property
    def them_width(self) -> int:
        """How wide it is."""
        return SCALE + GAP - self.them_x

    @property
    def needle(self) -> str:
        """The path of the needle over the scale."""
        x = self.us_width + GAP / 2
        return f"M{x:g} 26l-6-9h12z"

    @property
    def odds(self) -> float:
        """The sum of the weights."""
        return sum(piece.signed for piece in self.judged.evidence)

    @cached_property
    def status_host(self) -> str:
        """Where the vendor tells how it is; empty when it does not."""
        return facts.status_host(self.incident.service)

    @property
    def not_admitted(self) -> bool:
        """Whether it is theirs, and their page does not say so."""
        theirs = self.judged.verdict == "theirs"
        return bool(self.is_open and theirs and self.status_host and self.incident.admitted_at is None)

    @cached_property
    def is_vendor(self) -> bool:
        """Whether there is a vendor to write to."""
        return facts.is_vendor(self.incident.service)

    @cached_property
    def ticket(self) -> str:
        """A text for the vendor's support."""
        return export.ticket(self.incident)

    # timeline -----------------------------------------------------------------------------------------

    @cached_property
    def timeline(self) -> Timeline:
        """Everything that happened."""
        return timeline.of(self.incident)

    @property
    def lines(self) -> list[Line]:
        """What the chosen filter shows."""
        return self.timeline.only(self.show)

    @property
    def shows(self) -> list[Choice]:
        """The timeline's filters."""
        here = reverse("incident", args=[self.incident.id])
        labels = {
            "all": "All",
            "notes": f"Notes {self.timeline.notes}",
            "messages": f"Messages {self.timeline.messages}",
        }
        return [
            Choice(value, label, here + ("" if value == "all" else f"?show={value}"), value == self.show)
            for value, label in labels.items()
        ]

    @cached_property
    def before(self) -> Before:
        """The service's earlier incidents."""
        return reads.before(self.incident)

    # affected, told --------------------------------------------------------------------------------------

    @cached_property
    def states(self) -> list[CheckState]:
        """The checks that fail now."""
        bad = (Status.CRITICAL, Status.DEGRADED, Status.ERROR)
        rows = CheckState.objects.select_related("check_ref").filter(
            check_ref__service=self.incident.service_id, check_ref__archived_at=None, status__in=bad
        )
        return list(rows.order_by("check_ref_id"))

    @property
    def deliveries(self) -> Evidence | None:
        """Webhooks that do not get through to it."""
        return next((piece for piece in self.judged.evidence if piece.key == "deliveries"), None)

    @cached_property
    def budget(self) -> Budget | None:
        """What it costs of the service's error budget."""
        return budget.of(self.incident)

    @cached_property
    def usual(self) -> ServiceSummary | None:
        """How it was in the last 7 days."""
        return ServiceSummary.objects.filter(service=self.incident.service_id, period="7d").first()

    @cached_property
    def chart(self) -> Chart | None:
        """Its response times of the last hour."""
        rows = Check.objects.filter(service=self.incident.service_id, archived_at=None)
        failing = [state.check_ref for state in self.states]
        checks = failing or list(rows.order_by("id"))
        limit = next((check.degraded_over for check in checks if check.degraded_over), None)
        ids = [check.id for check in checks]
        limit_ms = limit * 1000 if limit else None
        return draw(ids, self.incident.began_at, self.incident.closed_at, limit_ms) if ids else None

    @cached_property
    def told(self) -> list[Told]:
        """Who got a message."""
        return [Told(row, timeline.state_of(row)) for row in self.timeline.sent]

    @cached_property
    def inhibited(self) -> str:
        """Why nobody is told; empty when they are."""
        rows = Alert.objects.filter(incident=self.incident).order_by("-opened_at", "-id")
        return rows.values_list("inhibited_by", flat=True).first() or ""


def _known(value: str | None) -> str:
    return value if value in timeline.KINDS else "all"
