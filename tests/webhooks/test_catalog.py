"""webhooks/catalog.py: what is configured, as each process keeps it."""

from __future__ import annotations

import base64

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.monitoring.factories import make_service
from tests.webhooks.factories import make_destination, make_route, make_source, set_secrets
from webhooks import catalog
from webhooks.models import CatalogVersion, Destination, Route, Source
from webhooks.vocabulary import Priority

pytestmark = pytest.mark.django_db
GOOD, OTHER = (f"whsec_{base64.b64encode(letter * 24).decode()}" for letter in (b"a", b"b"))


def loaded(slug: str) -> catalog.Source:
    found = catalog.refresh(force=True).source(slug)
    assert found is not None
    return found


def destination(slug: str) -> catalog.Destination:
    return next(one for one in catalog.refresh(force=True).destinations.values() if one.slug == slug)


def test_a_source_has_its_secrets_in_their_order_its_options_and_its_routes():
    row = make_source("in", "generic", ["second-comes-first", "the-other-one"], options={"event_type": "$.type"})
    app = make_destination("app", order_by="subject", retry=[1, 2, 3])
    route = make_route(row, app, ["invoice.*"], filters={"$.live": True}, priority=Priority.CRITICAL)
    source = loaded("in")
    assert source.secrets == ("second-comes-first", "the-other-one")
    assert source.options.event_type == "$.type"
    assert source.problem == ""
    assert source.ways == (catalog.Way(route.id, app.id, ("invoice.*",), {"$.live": True}, 0, "subject", 4),)


def test_archived_things_are_not_there():
    source, app, old = make_source("in"), make_destination("app"), make_destination("old")
    for one in (app, old):
        make_route(source, one)
    archived = make_route(source, make_destination("third"))
    make_source("gone")
    now = timezone.now()
    Destination.objects.filter(slug="old").update(archived_at=now)
    Route.objects.filter(id=archived.id).update(archived_at=now)
    Source.objects.filter(slug="gone").update(archived_at=now)
    assert [way.destination_id for way in loaded("in").ways] == [app.id]
    known = catalog.refresh(force=True)
    assert known.source("gone") is None
    assert {one.slug for one in known.destinations.values()} == {"app", "third"}


def test_references_are_followed_and_names_of_what_is_missing_are_told(monkeypatch: pytest.MonkeyPatch):
    make_source("in", secrets=["env:HOOK_SECRET_A", "env:HOOK_SECRET_B"])
    assert "HOOK_SECRET_A" in loaded("in").problem
    assert "HOOK_SECRET_B" in loaded("in").problem
    monkeypatch.setenv("HOOK_SECRET_B", "whsec_b")
    # One of two is enough: the other may be one that is yet to come.
    assert (loaded("in").problem, loaded("in").secrets) == ("", ("whsec_b",))


def test_a_source_without_any_secret_says_so():
    make_source("in", secrets=[])
    assert loaded("in").problem == "no secret is configured"


def test_a_secret_that_no_key_opens_is_a_problem_and_no_crash(settings):
    make_source("in", secrets=["whsec_stored"])
    make_destination("app", secrets=["whsec_c2lnbg=="])
    settings.ENCRYPTION_KEYS = ["another-key"]
    assert "WSMON_ENCRYPTION_KEYS" in loaded("in").problem
    assert "WSMON_ENCRYPTION_KEYS" in destination("app").problem


@pytest.mark.parametrize(
    ("provider", "options", "problem"),
    [
        ("nobody-knows-it", {}, "has no webhooks"),
        ("http", {}, "has no webhooks"),
        ("generic", {"no_such_option": 1}, "options"),
        ("whatsapp", {"verify_token": "env:NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE"),
    ],
)
def test_a_source_that_cannot_work_says_why(provider: str, options: dict[str, object], problem: str):
    make_source("in", provider, ["a-secret-for-it"], options=options)
    assert problem in loaded("in").problem
    assert "a-secret-for-it" not in loaded("in").problem


def test_a_destination_is_as_configured(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("APP_URL", "http://127.0.0.1:9/from-env")
    monkeypatch.setenv("APP_TOKEN", "t0ken")
    make_destination(
        "app",
        "env:APP_URL",
        [GOOD, OTHER],
        headers={"Authorization": "env:APP_TOKEN", "X-Plain": "as it is"},
        timeout=3,
        retry=[1, 2],
        forward_headers=False,
        service=make_service("vendor"),
    )
    found = destination("app")
    assert (found.url, found.timeout, found.retry) == ("http://127.0.0.1:9/from-env", 3, (1, 2))
    assert found.headers == {"Authorization": "t0ken", "X-Plain": "as it is"}
    assert found.secrets == (GOOD, OTHER)
    assert (found.forward_headers, found.breaker, found.problem) == (False, "vendor", "")


@pytest.mark.parametrize(
    "fields", [{"url": "env:NOT_SET"}, {"headers": {"X": "env:NOT_SET"}}, {"secrets": ["env:NOT_SET"]}]
)
def test_a_destination_that_cannot_be_reached_says_which_variable_is_missing(fields: dict[str, object]):
    make_destination("app", **fields)
    assert "NOT_SET" in destination("app").problem


@pytest.mark.parametrize("secret", ["planted", "whsec_c2hvcnQ=", "whsec_no*base64"])
def test_a_destination_whose_secret_is_no_good_says_so_and_not_what_it_is(secret: str):
    make_destination("app", secrets=[secret, GOOD])
    problem = destination("app").problem
    assert problem.startswith("a signing secret is ")
    assert secret not in problem


def test_no_secret_shows_in_a_representation(monkeypatch: pytest.MonkeyPatch):
    make_source("in", secrets=["whsec_hidden"])
    make_destination("app", "http://u:hidden@127.0.0.1/", ["whsec_aGlkZGVu"], headers={"X": "hidden"})
    shown = repr(loaded("in")) + repr(destination("app"))
    assert "hidden" not in shown
    assert "aGlkZGVu" not in shown


def test_what_is_kept_of_a_secret_tells_secrets_apart_and_does_not_tell_them():
    make_source("in", secrets=["whsec_one", "whsec_two"])
    source = loaded("in")
    assert len({source.secret_id(0), source.secret_id(1), source.secret_id(2)}) == 3
    assert source.secret_id(0) == catalog.secret_id("whsec_one")
    assert (len(source.secret_id(0)), source.secret_id(2)) == (12, "")


def test_the_source_of_a_provider_is_the_first_by_name():
    make_source("z-calendar", "google_calendar", ["t" * 20])
    make_source("a-calendar", "google_calendar", ["t" * 20])
    known = catalog.refresh(force=True)
    found = known.of_provider("google_calendar")
    assert found is not None
    assert found.slug == "a-calendar"
    assert known.of_provider("stripe") is None


def test_it_is_not_read_again_until_it_is_time_and_something_changed():
    make_source("in")
    assert catalog.current() is None
    first = catalog.refresh()
    with CaptureQueriesContext(connection) as queries:
        assert catalog.refresh() is first is catalog.current()
    assert len(queries) == 0
    with CaptureQueriesContext(connection) as queries:
        assert catalog.refresh(max_age=0) is first
    assert len(queries) == 1
    catalog.changed()
    again = catalog.refresh(max_age=0)
    assert again is not first
    assert again.version > first.version


def test_what_is_read_takes_a_fixed_number_of_queries():
    def read() -> int:
        with CaptureQueriesContext(connection) as queries:
            catalog.load()
        return len(queries)

    source = make_source("in")
    make_route(source, make_destination())
    before = read()
    for _ in range(5):
        make_route(make_source(), make_destination(service=make_service(), secrets=[GOOD]))
    assert read() == before


def test_secrets_in_files_are_read_again_now_and_then(monkeypatch: pytest.MonkeyPatch, tmp_path):
    file = tmp_path / "secret"
    file.write_text("whsec_before\n")
    make_source("in", secrets=[f"file:{file}"])
    first = catalog.refresh()
    file.write_text("whsec_after\n")
    assert catalog.refresh(max_age=0) is first
    monkeypatch.setattr(catalog, "RELOAD_SECONDS", 0.0)
    found = catalog.refresh(max_age=0).source("in")
    assert found is not None
    assert found.secrets == ("whsec_after",)


def test_a_change_counts_when_and_only_if_its_transaction_commits():
    CatalogVersion.objects.all().delete()
    catalog.changed()
    before = CatalogVersion.objects.get().version
    with transaction.atomic():
        catalog.changed()
        transaction.set_rollback(True)
    assert CatalogVersion.objects.get().version == before
    catalog.changed()
    assert CatalogVersion.objects.get().version == before + 1


def test_rotated_secrets_reach_a_process_that_looks():
    source = make_source("in", secrets=["whsec_old"])
    catalog.refresh(force=True)
    set_secrets(source, ["whsec_new", "whsec_old"])
    assert catalog.refresh(max_age=0).sources["in"].secrets == ("whsec_new", "whsec_old")
