"""The API of this room, at ``/api/admin/integrations``."""

from __future__ import annotations

from ninja import Router

router = Router(tags=["integrations"])
