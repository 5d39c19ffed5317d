"""docs/alert-rules.md is right: its yaml applies, its defaults are the defaults, and every rule is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from monitoring.alertrules import thresholds, watch
from monitoring.escalation import ladder
from monitoring.models import Channel, Escalation
from tests.monitoring.factories import make_service
from wsmon.config import apply_file

DOCS = (Path(__file__).resolve().parent.parent / "docs" / "alert-rules.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", DOCS, re.MULTILINE | re.DOTALL)
WORDS = {5.0: "5 s", 60.0: "60 s"}


@pytest.mark.django_db
def test_its_examples_apply_one_after_the_other(tmp_path: Path) -> None:
    make_service("stripe")
    for slug in ("chat", "ana-sms", "ben-sms", "boss"):
        Channel.objects.create(slug=slug)
    path = tmp_path / "wsmon.yaml"
    for block in BLOCKS:
        path.write_text(block)
        apply_file(path)
        assert apply_file(path).changes == []
    assert len(ladder.rungs_of(Escalation.objects.get().steps)) == 3


def test_the_defaults_are_all_there_and_are_the_defaults() -> None:
    defaults = yaml.safe_load(BLOCKS[0])["alerts"]
    assert set(defaults) == set(thresholds.Thresholds.model_fields)
    assert thresholds.read(defaults) == ({}, [])
    for name, entry in defaults.items():
        if isinstance(entry, dict) and entry:
            field = thresholds.Thresholds.model_fields[name].default
            assert set(entry) == set(type(field).model_fields)


def test_every_rule_is_in_the_table_with_how_often_it_looks() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d+ s) \|", DOCS, re.MULTILINE))
    assert rows == {rule.kind: WORDS[rule.every] for rule in watch.rules()}
