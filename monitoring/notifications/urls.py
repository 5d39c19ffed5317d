"""The pages of alerts, the link in messages, and browsers' subscriptions."""

from __future__ import annotations

from django.urls import path

from monitoring.views import acklinks, alerts, browsers

urlpatterns = [
    path("alerts/", alerts.alerts, name="alerts"),
    path("alerts/<int:number>/acknowledge/", alerts.acknowledge, name="alert-acknowledge"),
    path("alerts/channels/<slug:slug>/test/", alerts.test, name="alert-channel-test"),
    path("alerts/messages/<uuid:number>/again/", alerts.again, name="alert-message-again"),
    path("ack/<str:token>/", acklinks.ack, name="ack"),
    path("account/browsers/", browsers.browsers, name="browsers"),
    path("account/browsers/add/", browsers.add, name="browsers-add"),
    path("account/browsers/<int:number>/remove/", browsers.remove, name="browsers-remove"),
]
