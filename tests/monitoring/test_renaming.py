"""A service, channel or rotation gets another name: who is told of it goes on being told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client

from monitoring import alerts, renaming
from monitoring.alertrules import thresholds
from monitoring.models import Alert, AlertThresholds, Channel, Escalation, Notification, Rotation, Service
from tests.callers import colleague
from tests.monitoring.factories import make_service
from tests.monitoring.test_admin import errors, form, page, saved
from wsmon.config import ConfigError, apply_file

pytestmark = pytest.mark.django_db


@pytest.fixture
def root() -> Client:
    return colleague("root", superuser=True)


@pytest.fixture
def shop() -> Service:
    """A service that a channel, an escalation and a threshold name."""
    service = make_service("shop", "http")
    make_service("blog", "http")
    Channel.objects.create(slug="ops", reference="webpush:*", services=["shop"])
    Channel.objects.create(slug="both", reference="webpush:*", services=["blog", "shop"])
    Channel.objects.create(slug="all", reference="webpush:*")
    Escalation.objects.create(slug="ops", steps=[{"after": 0, "notify": ["ops"]}], services=["shop"])
    AlertThresholds.objects.create(values={"services": {"shop": {"slo": 99.5}, "blog": {"slo": 99.0}}})
    return service


def lists() -> dict[str, list[str]]:
    return {
        **{f"channel {row.slug}": row.services for row in Channel.objects.all()},
        **{f"escalation {row.slug}": row.services for row in Escalation.objects.all()},
        "alerts": sorted(AlertThresholds.objects.get().values["services"]),
    }


FOLLOWED = {
    "channel ops": ["store"],
    "channel both": ["blog", "store"],
    "channel all": [],
    "escalation ops": ["store"],
    "alerts": ["blog", "store"],
}


def rename(client: Client, service: Service, slug: str) -> None:
    response = client.post(page(service), form(slug=slug))
    assert saved(response), errors(response)
    service.refresh_from_db()
    assert service.slug == slug


def apply(tmp_path: Path, data: Any, **options: Any) -> list[str]:
    file = tmp_path / "wsmon.yaml"
    file.write_text(yaml.safe_dump(data, sort_keys=False))
    return apply_file(file, **options).changes


RENAMED = {"services": {"store": {"provider": "http", "checks": [], "renamed_from": "shop"}}}


class TestInTheAdmin:
    def test_every_list_follows(self, root: Client, shop: Service) -> None:
        rename(root, shop, "store")
        assert lists() == FOLLOWED
        assert thresholds.present().slo("store") == 0.995

    def test_the_channel_is_told_of_it_as_before_and_of_nothing_else(self, root: Client, shop: Service) -> None:
        rename(root, shop, "store")
        alerts.raise_alert("x", "test", "critical", "It is down", service=shop)
        alerts.raise_alert("y", "test", "critical", "It is down", service=Service.objects.get(slug="blog"))
        told = {(row.channel.slug, row.alert and row.alert.key) for row in Notification.objects.all()}
        assert told == {("ops", "x"), ("both", "x"), ("all", "x"), ("both", "y"), ("all", "y")}

    def test_another_change_of_it_leaves_the_lists_alone(self, root: Client, shop: Service) -> None:
        before = lists()
        assert saved(root.post(page(shop), form(slug="shop", name="The shop")))
        assert lists() == before

    def test_archived_channels_follow_too_for_they_may_come_back(self, root: Client, shop: Service) -> None:
        Channel.objects.update(archived_at=shop.created_at)
        rename(root, shop, "store")
        assert lists() == FOLLOWED

    def test_a_name_that_an_archived_service_holds_can_be_taken(self, root: Client, shop: Service) -> None:
        make_service("store", archived_at=shop.created_at)
        rename(root, shop, "store")
        assert lists() == FOLLOWED

    def test_a_list_that_names_both_names_it_once(self, shop: Service) -> None:
        Channel.objects.filter(slug="ops").update(services=["shop", "store"])
        Service.objects.filter(id=shop.id).update(slug="store")
        shop.refresh_from_db()
        renaming.follow(shop, "shop")
        assert Channel.objects.get(slug="ops").services == ["store"]


class TestOpenAlerts:
    def test_they_go_on_under_the_new_name_and_nobody_is_told_again(self, root: Client, shop: Service) -> None:
        first = alerts.raise_alert("slow:shop/home", "slow", "warning", "Slow", url="/services/shop/", service=shop)
        told = Notification.objects.count()
        rename(root, shop, "store")
        again = alerts.raise_alert("slow:store/home", "slow", "warning", "Slow", service=shop)
        assert (again.id, Notification.objects.count()) == (first.id, told)

    def test_their_link_leads_to_where_it_is_now(self, root: Client, shop: Service) -> None:
        alerts.raise_alert("x", "slow", "warning", "Slow", url="/services/shop/?chart=a#chart", service=shop)
        rename(root, shop, "store")
        assert Alert.objects.get().url == "/services/store/?chart=a#chart"

    def test_of_another_service_they_stay_as_they_are(self, root: Client, shop: Service) -> None:
        other = Service.objects.get(slug="blog")
        alerts.raise_alert("slow:shop/home", "slow", "warning", "Slow", url="/services/shop/", service=other)
        rename(root, shop, "store")
        row = Alert.objects.get()
        assert (row.key, row.url) == ("slow:shop/home", "/services/shop/")

    def test_a_key_that_is_open_already_is_left_alone(self, root: Client, shop: Service) -> None:
        alerts.raise_alert("slow:store/home", "slow", "warning", "Stray")
        alerts.raise_alert("slow:shop/home", "slow", "warning", "Slow", service=shop)
        rename(root, shop, "store")
        assert set(Alert.objects.values_list("key", flat=True)) == {"slow:store/home", "slow:shop/home"}

    @pytest.mark.parametrize(
        ("key", "new"),
        [
            ("own-error:shop", "own-error:store"),
            ("slow:shop/health", "slow:store/health"),
            ("forecast:shop/health:latency", "forecast:store/health:latency"),
            ("breaker:shop", "breaker:store"),
            ("slow:shopping/health", "slow:shopping/health"),
            ("slow:blog/shop", "slow:blog/shop"),
            ("incident:17", "incident:17"),
            ("shop", "shop"),
            ("", ""),
            ("x:shop/" + "y" * 193, "x:shop/" + "y" * 193),
        ],
    )
    def test_only_the_name_in_the_key_changes(self, key: str, new: str) -> None:
        assert renaming.renamed_key(key, "shop", "store") == new


class TestByTheFile:
    def test_lists_that_the_file_does_not_mention_follow(self, tmp_path: Path, shop: Service) -> None:
        assert apply(tmp_path, RENAMED)[0].startswith("~ service store: renamed from shop")
        assert lists() == FOLLOWED
        assert apply(tmp_path, RENAMED) == []

    def test_a_dry_run_changes_no_list(self, tmp_path: Path, shop: Service) -> None:
        before = lists()
        apply(tmp_path, RENAMED, dry_run=True)
        assert lists() == before

    def test_lists_of_the_file_name_it_anew(self, tmp_path: Path, shop: Service) -> None:
        wish = RENAMED | {
            "channels": {"ops": {"url": "webpush:*", "services": ["store"]}},
            "escalations": {"ops": {"steps": [{"notify": ["ops"]}], "services": ["store"]}},
            "alerts": {"services": {"store": {"slo": 99.5}, "blog": {"slo": 99.0}}},
        }
        changes = apply(tmp_path, wish)
        assert "~ channel ops: services shop -> store" in changes
        assert lists() == FOLLOWED
        assert apply(tmp_path, wish) == []

    @pytest.mark.parametrize(
        ("section", "where"),
        [
            ({"channels": {"ops": {"url": "webpush:*", "services": ["shop"]}}}, "channels.ops.services[0]"),
            (
                {"escalations": {"ops": {"steps": [{"notify": ["ops"]}], "services": ["shop"]}}},
                "escalations.ops.services[0]",
            ),
            ({"alerts": {"services": {"shop": {"slo": 99}}}}, "alerts.services.shop"),
        ],
    )
    def test_one_that_still_has_the_old_name_is_refused_and_named(
        self, tmp_path: Path, shop: Service, section: dict[str, Any], where: str
    ) -> None:
        before = lists()
        with pytest.raises(ConfigError) as caught:
            apply(tmp_path, RENAMED | section)
        (problem,) = map(str, caught.value.problems)
        assert f'{where}: "shop" is not a service' in problem
        assert "wsmon.yaml:" in problem
        shop.refresh_from_db()
        assert (shop.slug, lists()) == ("shop", before)


class TestWhoIsTold:
    """Channels and rotations are named by escalations, channels by people on call, too."""

    @pytest.fixture
    def called(self, root: Client) -> Client:
        chat = Channel.objects.create(slug="chat", reference="webpush:*")
        Channel.objects.create(slug="mail", reference="webpush:*", fallback=chat)
        Rotation.objects.create(slug="team", people=[{"name": "Ana", "channels": ["chat", "mail"]}])
        steps = [{"after": 0, "notify": ["chat"]}, {"after": 300, "notify": ["rotation:team", "chat", "mail"]}]
        Escalation.objects.create(slug="usual", steps=steps)
        return root

    def rename(self, client: Client, row: Channel | Rotation | Escalation, slug: str, **settings: str) -> None:
        url = f"/admin/monitoring/{row._meta.model_name}/{row.pk}/change/"
        assert client.post(url, {"slug": slug, **settings}).status_code == 302
        row.refresh_from_db()
        assert row.slug == slug

    def test_a_channel_is_still_told_and_on_call_by_its_new_name(self, called: Client) -> None:
        alerts.raise_alert("channel:chat", "channel", "warning", "It does not take messages")
        self.rename(called, Channel.objects.get(slug="chat"), "team-chat", value="webpush:*")
        assert [step["notify"] for step in Escalation.objects.get().steps] == [
            ["team-chat"],
            ["rotation:team", "team-chat", "mail"],
        ]
        assert Rotation.objects.get().people == [{"name": "Ana", "channels": ["team-chat", "mail"]}]
        assert Channel.objects.get(slug="mail").fallback == Channel.objects.get(slug="team-chat")
        assert Alert.objects.get().key == "channel:team-chat"

    def test_a_rotation_is_asked_by_its_new_name(self, called: Client) -> None:
        people = "people: [{name: Ana, channels: [chat, mail]}]"
        self.rename(called, Rotation.objects.get(), "ops", settings=people)
        assert Escalation.objects.get().steps[1]["notify"] == ["rotation:ops", "chat", "mail"]

    def test_a_channel_that_the_file_renames_is_told_and_on_call_by_its_new_name(
        self, tmp_path: Path, called: Client
    ) -> None:
        alerts.raise_alert("channel:chat", "channel", "warning", "It does not take messages")
        wish = {"channels": {"team-chat": {"url": "webpush:*", "renamed_from": "chat"}}}
        assert apply(tmp_path, wish) == ["~ channel team-chat: renamed from chat"]
        assert [step["notify"] for step in Escalation.objects.get().steps] == [
            ["team-chat"],
            ["rotation:team", "team-chat", "mail"],
        ]
        assert Rotation.objects.get().people == [{"name": "Ana", "channels": ["team-chat", "mail"]}]
        assert Alert.objects.get().key == "channel:team-chat"
        assert apply(tmp_path, wish) == []

    def test_a_rotation_that_the_file_renames_is_asked_by_its_new_name(self, tmp_path: Path, called: Client) -> None:
        people = [{"name": "Ana", "channels": ["chat", "mail"]}]
        wish = {"rotations": {"ops": {"people": people, "renamed_from": "team"}}}
        assert apply(tmp_path, wish) == ["~ rotation ops: renamed from team"]
        assert Escalation.objects.get().steps[1]["notify"] == ["rotation:ops", "chat", "mail"]
        assert apply(tmp_path, wish) == []

    def test_an_alert_goes_on_climbing_where_it_is(self, tmp_path: Path, called: Client) -> None:
        alert = alerts.raise_alert("error:shop", "error", "critical", "Our own fault")
        Alert.objects.filter(id=alert.id).update(escalation="usual", step=1)
        steps = "steps: [{notify: [chat]}, {after: 5m, notify: ['rotation:team']}]"
        self.rename(called, Escalation.objects.get(), "nights", settings=steps)
        assert Alert.objects.values_list("escalation", "step").get() == ("nights", 1)
        notify = [{"notify": ["chat"]}, {"after": "5m", "notify": ["rotation:team"]}]
        wish = {"escalations": {"always": {"steps": notify, "renamed_from": "nights"}}}
        assert apply(tmp_path, wish) == ["~ escalation always: renamed from nights"]
        assert Alert.objects.values_list("escalation", "step").get() == ("always", 1)

    def test_what_the_file_says_of_who_names_it_counts_besides(self, tmp_path: Path, called: Client) -> None:
        wish = {
            "channels": {"team-chat": {"url": "webpush:*", "renamed_from": "chat"}},
            "rotations": {"ops": {"people": [{"name": "Ana", "channels": ["mail"]}], "renamed_from": "team"}},
            "escalations": {"usual": {"steps": [{"notify": ["team-chat", "rotation:ops"]}]}},
        }
        apply(tmp_path, wish)
        assert Rotation.objects.get().people == [{"name": "Ana", "channels": ["mail"]}]
        assert Escalation.objects.get().steps == [{"after": 0.0, "notify": ["team-chat", "rotation:ops"]}]
        assert apply(tmp_path, wish) == []

    def test_a_channel_of_another_name_is_left_alone(self, called: Client) -> None:
        before = Escalation.objects.get().steps
        renaming.follow_channel("team", "ops")  # a rotation has that name, no channel
        assert Escalation.objects.get().steps == before
