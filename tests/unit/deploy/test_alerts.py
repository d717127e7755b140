"""The alerting rules use metrics that exist, and the page on production says what to do."""

import re
from typing import Any

import pytest
import yaml

from deploy.generate.metrics import collectors
from deploy.local.layout import CHECKOUT
from services.publisher.delivery.backlog_gauges import STATES

ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((CHECKOUT / "deploy/monitoring/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
PAGE = (CHECKOUT / "docs/how-to/run-in-production.md").read_text(encoding="utf-8")
SUFFIXES = ("_count", "_sum", "_bucket")


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_a_rule_uses_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    known = collectors()
    text = f"{rule['expr']} {rule['annotations']['description']}"
    names = set(re.findall(r"pinflow_\w+", text))
    assert names or rule["alert"] in {"PinflowDown", "PinflowRestarts"}
    for name in names:
        base = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
        assert name in known or base in known, name
    for name, selector in re.findall(r"(pinflow_\w+)\{(.*?)\}", rule["expr"]):
        base = next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name)
        used = set(re.findall(r"(\w+)(?:=~|!~|!=|=)", selector))
        collector = known[name if name in known else base]
        assert used <= set(collector._labelnames), name


def test_a_rule_about_zero_or_absence_uses_a_metric_that_its_process_alone_has() -> None:
    """A metric without labels is exposed by every process, with the value 0."""
    known = collectors()
    rules = "\n".join(rule["expr"] for rule in ALERTS)
    names = re.findall(r"(?:min|absent)\((pinflow_\w+)", rules)
    assert names
    for name in names:
        assert known[name]._labelnames, name


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_a_rule_uses_states_of_deliveries_that_exist(rule: dict[str, Any]) -> None:
    for values in re.findall(r'state=~?"(.*?)"', rule["expr"]):
        assert set(values.split("|")) <= set(STATES)


def test_a_pin_that_makes_progress_or_is_paused_does_not_make_the_delivery_stuck() -> None:
    (rule,) = [rule for rule in ALERTS if rule["alert"] == "PinflowDeliveryStuck"]
    states = re.findall(r'pinflow_delivery_pins\{state="(\w+)"\}', rule["expr"])
    assert states == ["queued"]


def test_short_pauses_of_several_accounts_do_not_add_up_to_a_long_one() -> None:
    (rule,) = [rule for rule in ALERTS if rule["alert"] == "PinflowDeliveryAccountsPaused"]
    # The number of paused accounts does not tell whether they are the same ones
    assert set(re.findall(r"pinflow_\w+", rule["expr"])) == {
        "pinflow_delivery_longest_pause_seconds"
    }
    assert "> 21600" in rule["expr"]


def test_the_page_says_what_to_do_about_each_alert() -> None:
    listed = re.findall(r"^\| (Pinflow\w+) \|", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(rule["alert"] for rule in ALERTS)
