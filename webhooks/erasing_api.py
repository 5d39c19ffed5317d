"""Erasing by the API, at ``/api/admin/webhooks/erase``: for people who may, never for tokens.

Sessions with the permission ``webhooks.add_erasure``, which superusers have and no role gives. As no token gets
in, it is not in the OpenAPI document, which is for programs.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Router, Schema, Status
from ninja.params.functions import Path
from pydantic import Field

from webhooks import erasing
from webhooks.mentions import LONGEST, SHORTEST, BadSubject, Subject
from webhooks.replaymodels import Erasure
from wsmon.audit import Actor
from wsmon.callers import Session
from wsmon.problems import Problem, ProblemDocument

router = Router(tags=["webhooks"])

ERASE = [Session("webhooks.add_erasure")]


class EraseRequest(Schema):
    """Whose data, and why."""

    subject: str = Field(
        description="an e-mail address, a phone number or a customer's id; kept as a keyed hash only",
        min_length=SHORTEST,
        max_length=LONGEST,
        examples=["jane@example.com"],
    )
    reason: str = Field(min_length=1, max_length=500, examples=["asked by mail on 3 May"])


class ErasureAnswer(Schema):
    """A receipt. It grows until ``status`` is ``done``."""

    id: uuid.UUID
    status: str = Field(examples=["running", "done"])
    subject: str = Field(description="the keyed hash")
    by: str
    reason: str
    at: datetime
    finished_at: datetime | None
    scanned: int = Field(description="events looked at so far")
    events: int = Field(description="events whose payload was erased")
    attempts: int = Field(description="tries whose request and answer were erased")
    messages: int = Field(description="message statuses that were deleted")
    mentions: int = Field(description="replays, audit rows, ... in which it was replaced by a hash")
    unreadable: int = Field(description="what no present key opens, and may mention it")


@router.post("", response={202: ErasureAnswer}, auth=ERASE, include_in_schema=False)
def erase(request: HttpRequest, body: EraseRequest) -> Any:
    """Begin to erase whatever mentions the subject; ask for the receipt until it is done.

    The same subject again, while that runs, gets the same receipt.
    """
    try:
        subject = Subject(body.subject)
    except BadSubject as wrong:
        raise Problem.invalid(("subject", str(wrong))) from None
    return Status(202, erasing.receipt(erasing.start(subject, Actor.of(request), body.reason)))


@router.get("/{erasure_id}", response={200: ErasureAnswer, 404: ProblemDocument}, auth=ERASE, include_in_schema=False)
def receipt(
    request: HttpRequest,  # noqa: ARG001 - every operation takes it
    erasure_id: Annotated[uuid.UUID, Path(description="the erasure's id")],
) -> dict[str, Any]:
    """What was erased so far."""
    found = Erasure.objects.filter(id=erasure_id).first()
    if found is None:
        raise Problem(404, "there is no erasure of that id")
    return erasing.receipt(found)
