"""What docs/operating gives to an operator works: rules, dashboard, unit and configuration."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import config

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "operating"
SUFFIX = re.compile(r"_(?:bucket|sum|count)$")


def tool(name: str) -> str:
    found = shutil.which(name, path=f"{ROOT / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        assert os.environ.get("CI") != "true", f"{name} is not installed"
        pytest.skip(f"{name} is not installed: what it checks is not checked here")
    return found


def described() -> set[str]:
    rows = re.findall(r"^\| (`[^|]+)\|", (ROOT / "docs" / "METRICS.md").read_text(), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def expressions() -> Iterator[tuple[str, str]]:
    for text in re.findall(r"expr: (.+)", (PAGES / "alerts.yml").read_text()):
        yield "alerts.yml", text
    for panel in json.loads((PAGES / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def test_rules_and_dashboard_ask_only_for_metrics_that_are_there() -> None:
    known = described()
    found = [(where, name) for where, text in expressions()
             for name in re.findall(r"\b(?:mvgateway|process)_\w+", text.replace('job="mvgateway"', ""))]  # fmt: skip
    assert len(found) > 20
    assert not [
        (where, name) for where, name in found if name not in known and SUFFIX.sub("", name) not in known
    ]


def test_every_alert_says_what_it_means() -> None:
    page = (PAGES / "monitoring.md").read_text()
    alerts = re.findall(r"alert: (\w+)", (PAGES / "alerts.yml").read_text())
    assert alerts
    assert not [alert for alert in alerts if f"| `{alert}` |" not in page]


def test_every_event_of_the_log_is_described() -> None:
    page = (PAGES / "monitoring.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "gateway").rglob("*.py"))
    events = set(re.findall(r'(?:events|_events|self)\.note\(\s*"([^"]+)"', sources))
    assert {"session opened", "draining"} <= events
    assert not sorted(event for event in events if f"`{event}`" not in page)


def test_promtool_takes_the_rules() -> None:
    done = subprocess.run(
        [tool("promtool"), "check", "rules", str(PAGES / "alerts.yml")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_fires_when_its_condition_holds(tmp_path: Path) -> None:
    """Two of them, over made-up series: promtool evaluates the rules as Prometheus would."""
    series: list[dict[str, Any]] = [
        {"series": 'mvgateway_journal_commit_failures_total{world="w",instance="g"}', "values": "0+10x20"},
        {"series": 'process_open_fds{job="mvgateway",instance="g"}', "values": "99x20"},
        {"series": 'process_max_fds{job="mvgateway",instance="g"}', "values": "100x20"},
    ]
    wanted = {
        "StoreFailing": (
            {"severity": "critical", "world": "w", "instance": "g"},
            "commits of world w fail on g",
        ),
        "DescriptorsShort": (
            {"severity": "warning", "instance": "g", "job": "mvgateway"},
            "g runs out of file descriptors",
        ),
    }
    tests = {
        "rule_files": [str(PAGES / "alerts.yml")],
        "evaluation_interval": "30s",
        "tests": [{
            "interval": "30s",
            "input_series": series,
            "alert_rule_test": [
                {"eval_time": "5m", "alertname": name,
                 "exp_alerts": [{"exp_labels": labels, "exp_annotations": {"summary": summary}}]}
                for name, (labels, summary) in wanted.items()
            ],
        }],
    }  # fmt: skip
    file = tmp_path / "tests.yml"
    file.write_text(json.dumps(tests))
    done = subprocess.run([tool("promtool"), "test", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "mvgateway.service"
    text = (PAGES / "mvgateway.service").read_text()
    assert "/opt/mvgateway/bin/mvgateway serve" in text
    unit.write_text(text.replace("/opt/mvgateway/bin/mvgateway", "/bin/true"))
    done = subprocess.run([tool("systemd-analyze"), "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_systemd_takes_the_socket_unit_and_its_addresses_are_those_of_the_sample_configuration(
    tmp_path: Path,
) -> None:
    text = (PAGES / "mvgateway.socket").read_text()
    (tmp_path / "mvgateway.socket").write_text(text)
    service = (PAGES / "mvgateway.service").read_text()
    (tmp_path / "mvgateway.service").write_text(service.replace("/opt/mvgateway/bin/mvgateway", "/bin/true"))
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", str(tmp_path / "mvgateway.socket")],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    settings = config.load(argparse.Namespace(config=str(PAGES / "mvgateway.toml")), {})
    both = f"{settings.host}:{settings.port}"
    assert set(re.findall(r"^ListenStream=(.+)", text, re.MULTILINE)) == {both, settings.plain}
    assert re.findall(r"^ListenDatagram=(.+)", text, re.MULTILINE) == [both]


def test_the_gateway_takes_the_sample_configuration() -> None:
    settings = config.load(argparse.Namespace(config=str(PAGES / "mvgateway.toml")), {})
    unit = (PAGES / "mvgateway.service").read_text()
    patience = re.search(r"TimeoutStopSec=(\d+)", unit)
    assert patience is not None
    assert int(patience[1]) * 1_000 > settings.drain_ms + settings.lame_duck_ms
