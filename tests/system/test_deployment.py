"""What an administrator installs: units, rules and dashboard name only what there is; so does the page about them."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import typer
import yaml

from alerts.metrics.table import BY_NAME, CONDITIONS, METRICS, REASONS, STATES
from linewatch.cli import app
from storage.records import AlertKind

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
RULES = yaml.safe_load((DEPLOY / "prometheus" / "linewatch.rules.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((DEPLOY / "grafana" / "linewatch.json").read_text(encoding="utf-8"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
STATUSES = ("pass", "reject", "unknown", "skipped")
VALUES: dict[str, tuple[str, ...]] = {
    "condition": CONDITIONS,
    "status": STATUSES,
    "state": STATES,
    "reason": REASONS,
    "kind": tuple(AlertKind),
}
"""Label -> the values it may have."""
TARGET = {"job", "instance"}  # Prometheus adds these to whatever it scrapes


def alert_rules() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def labels_of(name: str) -> set[str]:
    """Labels of a metric, by the name under which it is asked for."""
    if name == "up":
        return TARGET
    metric = BY_NAME.get(name)
    if metric is None or metric.kind == "histogram":
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert base != name, f"there is no metric {name}"
        assert BY_NAME[base].kind == "histogram", f"there is no metric {name}"
        return {*BY_NAME[base].labels, *TARGET, *(["le"] if name.endswith("_bucket") else [])}
    return {*metric.labels, *TARGET}


def check(expression: str) -> int:
    """Parse a query as Prometheus would; the number of metrics it names, each of which there is, with these labels."""
    named: list[Any] = []
    available: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, promql.VectorSelector):
            named.append(node)

    tree = promql.parse(expression.replace("$__rate_interval", "5m"))
    promql.walk(tree, visit)
    for selector in named:
        labels = labels_of(selector.name)
        available |= labels
        for matcher in selector.matchers.matchers:
            assert matcher.name in labels, f"{selector.name} has no label {matcher.name}"
            if matcher.name in VALUES:
                unknown = set(matcher.value.split("|")) - set(VALUES[matcher.name])
                assert not unknown, f"{matcher.name} is never {unknown}"
    for words in re.findall(r"\b(?:by|on|ignoring|without)\s*\(([^)]*)\)", expression):
        assert {word.strip() for word in words.split(",")} <= available, f"{words} in {expression}"
    return len(named)


def test_a_wrong_query_would_be_noticed() -> None:
    for wrong in (
        "linewatch_frames > 0",
        'linewatch_redis_up{line="a"} == 0',
        "rate(linewatch_judge_latency_seconds[5m])",
        'linewatch_role_state{state="dead"}',
        "sum by (worker) (linewatch_redis_up)",
    ):
        with pytest.raises(AssertionError):
            check(wrong)
    with pytest.raises(ValueError, match="invalid promql query"):
        check("linewatch_redis_up == ")


@pytest.mark.parametrize("rule", alert_rules(), ids=lambda rule: rule["alert"])
def test_alert_rules_are_about_metrics_there_are(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert check(rule["expr"]) >= 1
    assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m"))
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    kept = set.union(*(labels_of(name) for name in re.findall(r"\b(up|linewatch_\w+)\b", rule["expr"])))
    assert shown <= kept


def queries() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("title", "expression"), list(queries()), ids=lambda text: text[:40])
def test_panels_are_about_metrics_there_are(title: str, expression: str) -> None:
    assert check(expression) >= 1, title


def test_the_dashboard_can_be_imported() -> None:
    assert {"title", "uid", "panels", "templating", "schemaVersion", "time"} <= set(DASHBOARD)
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) < 24
    for panel in panels:
        assert panel["type"] in {"row", "stat", "timeseries"}
        letters = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(letters)) == len(letters)
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            asked = re.fullmatch(r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", variable["definition"])
            assert asked is not None
            assert asked[2] in labels_of(asked[1])


def test_every_metric_is_on_the_dashboard() -> None:
    text = " ".join(expression for _, expression in queries())
    unseen = {metric.name for metric in METRICS if metric.name not in text}
    labels_only = {"linewatch_build_info", "linewatch_line_model_info"}
    health = {"linewatch_history_up", "linewatch_service_ailments"}  # Prometheus' rules watch these
    assert unseen <= labels_only | health | SMALL


SMALL = {
    "linewatch_capture_workers",
    "linewatch_worker_received_total",
    "linewatch_worker_judged_total",
    "linewatch_worker_recorder_queue_limit",
    "linewatch_outbox_attempts",
}


def table(heading: str) -> list[list[str]]:
    """Rows of the table of operations.md that has this heading."""
    _, found, rest = OPERATIONS.partition(f"| {heading} |")
    assert found, heading
    lines = rest.split("\n\n", maxsplit=1)[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]


def test_the_documented_metrics_are_the_metrics() -> None:
    documented = [
        (name.strip("`"), kind, tuple(re.findall(r"\w+", labels)), says) for name, kind, labels, says in table("metric")
    ]
    assert documented == [(metric.name, metric.kind, metric.labels, metric.help) for metric in METRICS]


def test_the_documented_alerts_are_the_rules() -> None:
    rows = table("alert")
    assert [row[0].strip("`") for row in rows] == [rule["alert"] for rule in alert_rules()]
    assert all(len(row) == 3 and row[2] for row in rows)


def test_what_the_security_page_wants_an_alarm_on_has_a_rule_and_a_row() -> None:
    security = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    (wanted,) = re.findall(r"^- \[ \] an alarm on (.*)$", security, re.MULTILINE)
    documented = " ".join(cell for row in table("alert") for cell in row)
    for figure, rule in re.findall(r"`(\w+)` \(`(\w+)`\)", wanted):
        (expression,) = [known["expr"] for known in alert_rules() if known["alert"] == rule]
        assert f"linewatch_worker_{figure}_total" in expression
        assert f"`{rule}`" in documented
    assert {"strangers", "dropped_messages"} <= set(re.findall(r"`(\w+)` \(", wanted))


def test_log_events_that_are_documented_exist() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8")
        for name in ("ingest", "inference", "alerts")
        for path in (ROOT / name).rglob("*.py")
    )
    for _, events, _, _ in table("role"):
        for event in re.findall(r"`([^`]+)`", events):
            start = event.partition(";")[0].replace("alert raised", "alert {").replace("alert cleared", "alert {")
            assert f'"{start}' in sources, event


# Directives of systemd.unit(5), .exec(5), .service(5), .kill(5) and .resource-control(5) that the units use: where
# there is no systemd-analyze, a misspelt one is still found.
KNOWN = {
    "Unit": "Description Wants After StartLimitIntervalSec",
    "Install": "WantedBy",
    "Service": """Type NotifyAccess ExecStart User Group TimeoutStartSec TimeoutStopSec WatchdogSec KillMode OOMPolicy
        MemoryHigh MemoryMax StateDirectory StateDirectoryMode ConfigurationDirectory WorkingDirectory Environment UMask
        LimitNOFILE Restart RestartSec NoNewPrivileges CapabilityBoundingSet ProtectSystem ProtectHome PrivateTmp
        PrivateDevices ProtectClock ProtectControlGroups ProtectHostname ProtectKernelLogs ProtectKernelModules
        ProtectKernelTunables ProtectProc LockPersonality RemoveIPC RestrictAddressFamilies RestrictNamespaces
        RestrictRealtime RestrictSUIDSGID SystemCallArchitectures SystemCallFilter SystemCallErrorNumber
        MemoryDenyWriteExecute DevicePolicy DeviceAllow SupplementaryGroups""",
}


def read(unit: Path) -> dict[str, list[tuple[str, str]]]:
    sections: dict[str, list[tuple[str, str]]] = {}
    for line in unit.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            section.append((name, value))
    return sections


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_start_commands_that_exist(unit: Path) -> None:
    sections = read(unit)
    for section, directives in sections.items():
        assert {name for name, _ in directives} <= set(KNOWN[section].split())
    service = dict(sections["Service"])
    program, command, *words = shlex.split(service["ExecStart"])
    assert program == "/opt/linewatch/bin/linewatch"
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]  # a group
    assert command in commands
    chosen = commands[command].commands["run"] if hasattr(commands[command], "commands") else commands[command]
    options = {option for parameter in chosen.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options
    hardening = {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "PrivateTmp": "yes", "User": "linewatch"}
    assert hardening.items() <= service.items()
    assert {"MemoryMax", "StateDirectory", "Restart"} <= set(service)
    assert ("WatchdogSec" in service) == (service["Type"] == "notify"), "only `up` tells systemd that it turns"


def test_a_polite_end_has_its_time() -> None:
    from alerts import courier
    from inference import worker
    from ingest import service
    from linewatch import keeper, launch, supervisor

    roles_s = {
        "capture": launch._CAPTURE_ENDS_S,
        "worker": launch._WORKER_ENDS_S,
        "alerts": launch._ALERTS_END_S,
    }
    killed_s = supervisor._MOST_KILLS * supervisor._KILLED_S
    needs_s = {
        "linewatch.service": sum(roles_s.values()) + len(roles_s) * killed_s + keeper._JOIN_S,
        "linewatch-capture@.service": 5 + service.DRAIN_S + 2,
        "linewatch-worker@.service": 5 * worker.DRAIN_S + 5,
        "linewatch-alerts.service": 2 * courier.DRAIN_S + 2 + 5,
    }
    assert set(needs_s) == {unit.name for unit in UNITS}
    for role, grace_s in roles_s.items():
        assert grace_s >= next(needs for unit, needs in needs_s.items() if unit.startswith(f"linewatch-{role}")), role
    for unit in UNITS:
        assert int(dict(read(unit)["Service"])["TimeoutStopSec"]) > needs_s[unit.name], unit.name


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("linewatch")
    for unit in UNITS:
        text = unit.read_text(encoding="utf-8")
        assert text.count("/opt/linewatch/bin/linewatch") == 1
        (tmp_path / unit.name).write_text(text.replace("/opt/linewatch/bin/linewatch", str(program)), encoding="utf-8")
    if shutil.which("systemd-analyze") is None:
        return  # the list above has found what is misspelt
    files = sorted(str(file) for file in tmp_path.iterdir())
    command = ["systemd-analyze", "verify", "--man=no", *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    ours = [line for line in done.stderr.splitlines() if "linewatch" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_user_is_made() -> None:
    users = (DEPLOY / "systemd" / "linewatch.sysusers").read_text(encoding="utf-8")
    assert "u linewatch - " in users
