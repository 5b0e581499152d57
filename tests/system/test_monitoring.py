"""docker/monitoring/: alert rules, a dashboard and the configuration of Prometheus, read by its own promtool."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.runs.metrics import METRICS, SERVED
from tests.support import docker
from tests.support.promtool import promtool

MONITORING = docker.DOCKER / "monitoring"
PROVISIONED = MONITORING / "grafana"
DOCS = (docker.DOCKER.parent / "docs" / "monitoring.md").read_text("utf-8")
RULES: list[dict[str, Any]] = yaml.safe_load((MONITORING / "rules.yml").read_text("utf-8"))["groups"][0]["rules"]
DASHBOARD: dict[str, Any] = json.loads((PROVISIONED / "dashboard.json").read_text("utf-8"))

#: What others measure: Prometheus itself, and luigid (docs/scheduling.md).
OTHERS = {"up", "luigi_task_failed_total"}

#: The labels of metrics; what a metric has beside its own are those of Prometheus' jobs.
LABELS = {"network", "job", "version", "table", "disk"}


def expressions() -> Iterator[str]:
    """Yield all of the dashboard."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield target["expr"].replace('"$network"', '".*"')


def metrics_in(expression: str) -> set[str]:
    """Return the metrics that an expression is about: words that are neither functions, labels, nor in quotes."""
    text = re.sub(r'"[^"]*"|\b(?:by|on|without|ignoring) ?\([^)]*\)|[{,] ?\w+(?==)', "", expression)
    return set(re.findall(r"\b[a-z_]+\b(?!\s*\()", text)) - {"or", "and", "unless", "d", "bool"}


def test_prometheus_takes_the_rules(tmp_path: Path) -> None:
    """And the configuration that names them, as the compose file puts it into the container."""
    promtool("check", "rules", str(MONITORING / "rules.yml"))
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    token = tmp_path / "token"
    token.touch()
    config["scrape_configs"][0]["authorization"]["credentials_file"] = str(token)
    config["rule_files"] = [str(MONITORING / "rules.yml")]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_every_alert_fires_when_it_should() -> None:
    """At its time and not before; promtool runs the tests of the rules, of which each alert has one that fires."""
    promtool("test", "rules", str(MONITORING / "rules.test.yml"))
    tests = yaml.safe_load((MONITORING / "rules.test.yml").read_text("utf-8"))["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    alerts = {rule["alert"] for rule in RULES}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == alerts


def test_every_alert_is_documented() -> None:
    """In the order of the file; it says what to do."""
    assert re.findall(r"^\| `(SotIngest\w+)`", DOCS, re.MULTILINE) == [rule["alert"] for rule in RULES]
    assert [rule["alert"] for rule in RULES if not {"summary", "description"} <= rule["annotations"].keys()] == []


@pytest.mark.parametrize("expression", [*(rule["expr"] for rule in RULES), *expressions()])
def test_expressions_are_about_metrics_that_there_are(expression: str, tmp_path: Path) -> None:
    """Rules and panels name nothing that nobody measures, and no label that it does not have."""
    rules = {"groups": [{"name": "panels", "rules": [{"record": "panel", "expr": expression}]}]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    promtool("check", "rules", str(tmp_path / "rules.yml"))
    assert metrics_in(expression) <= {*METRICS, *SERVED, *OTHERS}
    assert metrics_in(expression)
    named = re.findall(r"\b(?:by|on) ?\(([^)]*)\)", expression)
    assert {label.strip() for names in named for label in names.split(",")} <= LABELS


def test_every_metric_is_shown() -> None:
    """On the dashboard; what it does not show nobody would miss."""
    assert {*METRICS, *SERVED} == set().union(*map(metrics_in, expressions())) - OTHERS


def test_a_name_that_nobody_measures_would_be_found() -> None:
    """What tells the metrics of an expression looks at all of it."""
    assert metrics_in('time() - max by (network) (sot_a{network=~".*", table="b"}) > 26 * 3600') == {"sot_a"}
    assert metrics_in("sum by (network) (increase(luigi_b{network=~'x'}[1d])) / sot_c") >= {"luigi_b", "sot_c"}


def test_panels_do_not_overlap() -> None:
    """Each place on the 24 columns is one panel's; ids are unique, and all have the variable's data source."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        own = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not own & taken
        taken |= own
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel["targets"]} == {
        "${datasource}"
    }


def test_compose_brings_what_is_there() -> None:
    """The files are where Prometheus and Grafana look for them, and what is scraped are services."""
    services = docker.compose()["services"]
    mounted = dict(volume.split(":")[:2] for name in ("prometheus", "grafana") for volume in services[name]["volumes"])
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text("utf-8"))
    assert config["rule_files"] == [mounted["./monitoring/rules.yml"]]
    targets = [each["static_configs"][0]["targets"][0] for each in config["scrape_configs"]]
    assert [target.partition(":")[0] for target in targets if target.partition(":")[0] not in services] == []
    secret = config["scrape_configs"][0]["authorization"]["credentials_file"]
    assert secret == f"/run/secrets/{services['prometheus']['secrets'][0]['source']}"
    provider = yaml.safe_load((PROVISIONED / "provider.yml").read_text("utf-8"))["providers"][0]
    assert mounted["./monitoring/grafana/dashboard.json"].rpartition("/")[0] == provider["options"]["path"]
    source = yaml.safe_load((PROVISIONED / "datasource.yml").read_text("utf-8"))["datasources"][0]
    assert source["url"].removeprefix("http://").partition(":")[0] in services
    collector = next(each for each in services["node-exporter"]["command"] if "directory" in each)
    metrics_path = services["scheduler"]["environment"]["METRICS_PATH"]
    assert collector.partition("=")[2] == metrics_path.replace("/var/lib/sot-ingest", "/work").rpartition("/")[0]
