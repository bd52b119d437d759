"""The compose file, as far as it can be checked without Docker."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

COMPOSE = ROOT / "docker" / "compose.yaml"


@pytest.fixture
def services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return services


def test_every_published_port_is_bound_to_loopback(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_ray_node_asks_for_a_token(services: dict[str, Any]) -> None:
    for name in ("head", "worker"):
        assert services[name]["environment"]["RAY_AUTH_MODE"] == "token"
        assert services[name]["secrets"] == ["ray_token"]


def test_the_lock_file_pins_every_dependency_with_a_digest() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {re.split(r"[\[<>=]", dependency)[0].lower() for dependency in dependencies}
    lock = (ROOT / "docker" / "requirements.lock").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==\S+.*\\\n +(--hash=sha256)", lock, re.MULTILINE))
    assert names <= pinned.keys()
