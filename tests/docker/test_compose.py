import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.serve.metrics import Metrics
from deploy.serve.settings import ServeSettings

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
BOARD = json.loads((DOCKER / "grafana/dashboards/octavo.json").read_text())
OF_PROMETHEUS = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
"""Prometheus' own client has these on Linux."""


def metrics() -> dict[str, set[str]]:
    """Every series that a server writes, with its labels."""
    made = Metrics()
    made.state(lambda: 0, lambda: 0, lambda: 1)
    made.model("m", "v", "t", "d")
    made.accepted()
    made.answered("m", "rest", "200", 0.1)
    made.refused("full")
    made.waited("m", 0.1)
    made.batch("m", 1, 0.1)
    found: dict[str, set[str]] = {}
    for line in made.text().decode().splitlines():
        if match := re.match(r"([a-z_]+)(?:\{(.*)\})? ", line):
            found.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return found


def queries() -> list[str]:
    return [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


@pytest.mark.parametrize("query", queries())
def test_every_query_asks_for_what_the_server_tells(query: str) -> None:
    there = metrics()
    names = set(re.findall(r"\b(?:octavo|process)_[a-z_]+", query))
    assert names
    assert names <= there.keys() | OF_PROMETHEUS
    labels = set().union(*(there.get(name, set()) for name in names)) | {"job", "instance"}
    asked = set(re.findall(r'(\w+)=~?"', query))
    for group in re.findall(r"by \(([^)]*)\)", query):
        asked |= {label.strip() for label in group.split(",")}
    assert asked <= labels


def test_the_board_shows_all_that_the_server_tells() -> None:
    text = " ".join(queries())
    told = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in metrics() if "octavo" in name}
    assert {name for name in told if name not in text} == {"octavo_accepted"}  # in flight, as a count


def test_the_board_asks_the_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/octavo.yaml").read_text())[
        "providers"
    ]
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} == {source["uid"]}
    assert source["url"] == "http://prometheus:9090"
    mounts = COMPOSE["services"]["grafana"]["volumes"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in mounts


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_service_is_confined(name: str) -> None:
    service: dict[str, Any] = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0] not in ("0", "root")
    assert service["pids_limit"] > 0
    assert {"mem_limit", "cpus"} <= service.keys()
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    # A variable that has no default, or an image that is made here: no tag of a registry can change under it.
    assert re.fullmatch(r"\$\{\w+(:\?.*|:-localhost/.*)\}", service["image"])


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_what_is_mounted_exists(name: str) -> None:
    for mount in COMPOSE["services"][name]["volumes"]:
        source = mount.split(":")[0]
        if source.startswith("./"):
            assert (DOCKER / source).exists()
        elif not source.startswith("${"):
            assert source in COMPOSE["volumes"]


def test_compose_waits_longer_than_the_server_takes_to_end() -> None:
    settings = ServeSettings()
    grace = int(COMPOSE["services"]["octavo"]["stop_grace_period"].removesuffix("s"))
    assert grace > settings.drain_s + settings.grace_s


def test_prometheus_asks_where_the_server_listens() -> None:
    (job,) = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    service, port = target.split(":")
    assert service in COMPOSE["services"]
    assert int(port) == ServeSettings().port
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert all(f'job="{job["job_name"]}"' in query for query in queries() if "process_" in query)
