"""The webhooks room's pages. What vendors call is not here: ``webhooks.inbound`` answers it beside Django."""

from __future__ import annotations

from django.urls import path

from webhooks.views import acts, events, failures, lists, sources

urlpatterns = [
    path("", lists.webhooks, name="webhooks"),
    path("failures/", failures.failures, name="failures"),
    path("sources/", sources.sources, name="webhook-sources"),
    path("publish/", acts.publish, name="webhook-publish"),
    path("replay/", acts.replay, name="webhook-replay"),
    path("cancel/", acts.cancel, name="webhook-cancel"),
    path("events/<uuid:event_id>/", events.event, name="webhook-event"),
    path("events/<uuid:event_id>/reveal/", events.reveal, name="webhook-reveal"),
    path("replays/<uuid:replay_id>/<slug:action>/", acts.job, name="webhook-job"),
    path("destinations/<slug:slug>/<slug:action>/", acts.destination, name="webhook-destination"),
]
