"""From a claim to what is sent: unsealed, and verified again where it is a replay (for which alone it asks the
database)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from providers.hooks import signed_headers
from webhooks import reverify, sealing, sending
from webhooks.catalog import Catalog, Destination
from webhooks.claims import Claim
from webhooks.eventmodels import Event
from webhooks.schedule import Answer
from webhooks.sending import Outgoing
from wsmon.http import Client
from wsmon.secrets import Unresolvable
from wsmon.vocabulary import Category


@dataclass(slots=True)
class Job:
    """One delivery on its way. ``refused``: the answer without any try; ``destination`` None: it is gone."""

    claim: Claim
    destination: Destination | None
    signed_headers: tuple[str, ...] = ()
    refused: Answer | None = None
    began_at: datetime | None = field(default=None)


def prepare(claim: Claim, known: Catalog) -> Job:
    """Find what the claim is about; what cannot be sent has its answer already."""
    source = next((one for one in known.sources.values() if one.id == claim.source_id), None)
    signed = signed_headers(source.scheme, source.options) if source and source.scheme and not source.problem else ()
    job = Job(claim, known.destinations.get(claim.destination_id), signed)
    if claim.sealed is None:
        job.refused = ours("its payload was erased, or is older than payloads are kept", final=True)
    elif claim.replay_id is not None:
        event = Event.objects.filter(id=claim.event_id).first()
        verdict = reverify.verdict(event, known) if event else reverify.Skip(reverify.ERASED)
        if isinstance(verdict, reverify.Skip):
            job.refused = ours(f"not replayed: {verdict.reason}", final=verdict.reason != reverify.UNREADABLE)
    return job


def send(job: Job, http: Client) -> Answer:
    """Make the try."""
    claim, destination = job.claim, job.destination
    if destination is None or claim.sealed is None:
        raise ValueError("there is nothing to send, or nowhere")
    job.began_at = datetime.now(UTC)
    try:
        content = sealing.unseal(claim.sealed)
    except Unresolvable as problem:
        return ours(str(problem))
    outgoing = Outgoing(claim.event_id, destination, content, job.signed_headers, claim.partial, claim.replay_id)
    return sending.send(outgoing, http)


def ours(message: str, *, final: bool = False) -> Answer:
    """What a try found that was never made, by a fault of our own."""
    return Answer(
        final=final,
        category=Category.CONFIGURATION_ERROR,
        message=message,
        fingerprint=sending.fingerprint(Category.CONFIGURATION_ERROR, None, message),
    )
