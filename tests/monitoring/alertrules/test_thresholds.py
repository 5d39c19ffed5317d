"""The section ``alerts``: what is refused and how, what is kept, and that it comes back out as it went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring.alertrules import config, thresholds
from monitoring.alertrules.thresholds import Thresholds
from monitoring.models import AlertThresholds
from tests.monitoring.factories import make_service
from wsmon.config import ConfigError, apply_file, export_text
from wsmon.models import AuditEntry

WHOLE = """alerts:
  failed_deliveries: {over: 3, within: 5m}
  refused_signatures: {over: 7, within: 20m, times: 2}
  certificate: {warning: 30d, critical: 7d}
  credential: {critical: 1d}
  rate_limit: {below: 20, ahead: 2h}
  flapping: {changes: 3, within: 10m}
  probe_errors: {above: 50, within: 20m}
  scheduler_late: 30s
  slow: {within: 30m}
  error_budget: {slo: 99.5, fast: 10, slow: 3}
  services:
    stripe: {slo: 99.95, p95: 800ms}
  disabled: [slow, rate_limit]
"""


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("flaping: {}", 'alerts.flaping: unknown key; did you mean "flapping"?'),
        ("flapping: {changes: 1}", "alerts.flapping.changes: 1 must be at least 2"),
        ("flapping: {changes: often}", 'alerts.flapping.changes: "often" is not a whole number'),
        ("flapping: {within: 1s}", "alerts.flapping.within: 1s is not between 1m and 6h"),
        ("flapping: 5", "alerts.flapping: 5 stands where a mapping"),
        ("certificate: {warning: 1d, critical: 2d}", "alerts.certificate: critical must not be longer than warning"),
        ("certificate: {warning: soon}", 'alerts.certificate.warning: "soon" is not a duration'),
        ("rate_limit: {below: 0}", "alerts.rate_limit.below: 0 must be more than 0"),
        ("rate_limit: {below: 101}", "alerts.rate_limit.below: 101 must be at most 100"),
        ("error_budget: {slo: 100}", "alerts.error_budget.slo: 100 must be less than 100"),
        ("error_budget: {slo: 0.999}", "alerts.error_budget.slo: 0.999 must be at least 50"),
        ("disabled: [slwo]", 'alerts.disabled[0]: "slwo" is not a rule'),
        ("disabled: slow", 'alerts.disabled: "slow" stands where a list belongs'),
        ("services: {nobody: {slo: 99}}", 'alerts.services.nobody: "nobody" is not a service'),
        ("services: {'a b': {slo: 99}}", "is not a name"),
        ("scheduler_late:", "alerts.scheduler_late: has no value"),
    ],
)
@pytest.mark.django_db
def test_what_is_refused(line: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "wsmon.yaml"
    path.write_text(f"alerts:\n  {line}\n")
    with pytest.raises(ConfigError) as caught:
        apply_file(path)
    [told] = caught.value.problems
    assert problem in str(told)
    assert told.line == 2
    assert not AlertThresholds.objects.exists()


@pytest.mark.parametrize("data", [None, [], "x", 5])
def test_it_must_be_a_mapping(data: Any) -> None:
    found, flaws = thresholds.read(data)
    assert found == {}
    assert len(flaws) == 1


@pytest.mark.django_db
class TestApplying:
    def apply(self, tmp_path: Path, text: str) -> list[str]:
        path = tmp_path / "wsmon.yaml"
        path.write_text(text)
        return apply_file(path).changes

    def test_what_differs_is_kept_and_comes_back_out(self, tmp_path: Path) -> None:
        make_service("stripe")
        changes = self.apply(tmp_path, WHOLE)
        assert "~ alerts certificate: default -> warning 30d, critical 7d" in changes
        assert "~ alerts services: default -> stripe slo 99.95, p95 800ms" in changes
        found = thresholds.present()
        assert found.flapping.changes == 3
        assert found.credential.critical == 86_400
        assert found.credential.warning == 14 * 86_400
        assert found.p95_ms("stripe", 5.0) == 800
        assert yaml.safe_load(export_text())["alerts"] == yaml.safe_load(WHOLE)["alerts"]
        assert self.apply(tmp_path, WHOLE) == []

    def test_what_is_left_out_is_the_default_again(self, tmp_path: Path) -> None:
        make_service("stripe")
        self.apply(tmp_path, WHOLE)
        changes = self.apply(tmp_path, "alerts:\n  slow: {within: 30m}\n")
        assert "~ alerts flapping: changes 3, within 10m -> default" in changes
        assert thresholds.present() == Thresholds.model_validate({"slow": {"within": 1800}})
        assert AuditEntry.objects.filter(action="configuration.apply").count() == 2

    def test_without_the_section_nothing_changes(self, tmp_path: Path) -> None:
        make_service("stripe")
        self.apply(tmp_path, WHOLE)
        self.apply(tmp_path, "services:\n  github: {checks: [{kind: connectivity}]}\n")
        assert thresholds.present().flapping.changes == 3

    def test_defaults_said_aloud_are_no_change(self, tmp_path: Path) -> None:
        assert self.apply(tmp_path, "alerts:\n  flapping: {changes: 5, within: 30m}\n  disabled: []\n") == []
        assert "alerts" not in yaml.safe_load(export_text())

    def test_it_may_name_a_service_of_the_same_file(self, tmp_path: Path) -> None:
        text = "alerts: {services: {github: {slo: 99}}}\nservices: {github: {checks: [{kind: connectivity}]}}\n"
        assert self.apply(tmp_path, text)
        assert thresholds.present().slo("github") == pytest.approx(0.99)

    def test_what_an_older_version_stored_and_is_no_use_counts_as_the_defaults(self) -> None:
        AlertThresholds.objects.create(values={"nonsense": 5})
        assert thresholds.present() == Thresholds()
        assert config.stored() == {}
