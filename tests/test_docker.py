"""What is in `docker/`, as far as it can be checked without containers: `docker/rehearse.py` runs its processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from tests.support.paths import ROOT

DOCKER = ROOT / "docker"
KUBERNETES = "1.31"


def loaded(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))
    return document


@pytest.fixture
def services() -> dict[str, Any]:
    services: dict[str, Any] = loaded("compose.yaml")["services"]
    return services


def pods() -> list[Any]:
    """The pod templates of both Kubernetes files."""
    clusters = {"cluster": loaded("kubernetes/cluster.yaml")["spec"]}
    clusters["job"] = loaded("kubernetes/job.yaml")["spec"]["rayClusterSpec"]
    return [
        pytest.param(group["template"]["spec"], id=f"{name}-{number}")
        for name, cluster in clusters.items()
        for number, group in enumerate([cluster["headGroupSpec"], *cluster["workerGroupSpecs"]])
    ]


def test_the_compose_file_follows_the_compose_specification(services: dict[str, Any]) -> None:
    compose = loaded("compose.yaml")
    compose["services"]["head"]["configs"][0]["mode"] = 0o555  # YAML 1.2, as Docker reads it, knows this as a number
    composed = PyCompose.from_json(json.dumps(compose))
    composed.validate()
    assert set(composed.service_names()) == services.keys()


def test_every_published_port_is_bound_to_loopback(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_ray_node_asks_for_a_token(services: dict[str, Any]) -> None:
    assert "RAY_AUTH_MODE=token" in (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    for name in ("head", "worker"):
        assert services[name]["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
        assert services[name]["secrets"] == ["ray_token"]
    for cluster in (loaded("kubernetes/cluster.yaml")["spec"], loaded("kubernetes/job.yaml")["spec"]["rayClusterSpec"]):
        assert cluster["authOptions"] == {"mode": "token", "secretName": "midre-token"}
    commands = loaded("ray_up.yaml")["head_start_ray_commands"] + loaded("ray_up.yaml")["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in command for command in commands if "ray start" in command)


@pytest.mark.parametrize("pod", pods())
def test_pods_follow_the_schema_of_kubernetes_and_do_not_run_as_root(pod: dict[str, Any]) -> None:
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "midre"}, "spec": pod}
    kubernetes_validate.validate(document, KUBERNETES, strict=True)
    assert pod["securityContext"]["runAsNonRoot"] is True


def test_a_job_on_kubernetes_takes_its_cluster_with_it_and_waits_for_its_queue() -> None:
    job = loaded("kubernetes/job.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["shutdownAfterJobFinishes"] is True
    assert job["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "midre"}
    assert job["spec"]["suspend"] is True
    assert "storage.artifacts=s3://" in job["spec"]["entrypoint"]


def test_the_file_for_ray_up_follows_its_schema() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(loaded("ray_up.yaml")))


@pytest.mark.parametrize("script", ["slurm.sh", "make_secrets.sh"])
def test_a_script_is_one_that_bash_can_read(script: str) -> None:
    subprocess.run(["bash", "-n", DOCKER / script], check=True)


def test_secrets_are_drawn_once_each_anew_into_a_folder_of_this_user_alone(tmp_path: Path) -> None:
    texts = []
    for name in ("first", "second"):
        folder = tmp_path / name
        folder.mkdir()
        script = folder / "make_secrets.sh"
        script.write_bytes((DOCKER / "make_secrets.sh").read_bytes())
        subprocess.run(["sh", script], check=True, env={"PATH": os.environ["PATH"]})
        assert (folder / "secrets").stat().st_mode & 0o077 == 0
        assert subprocess.run(["sh", script], capture_output=True).returncode == 1
        texts.append("\n".join(file.read_text() for file in sorted((folder / "secrets").iterdir())))
    drawn = [set(re.findall(r"[0-9a-f]{32,}", text)) for text in texts]
    assert len(drawn[0]) == len(drawn[1]) == 5
    assert not drawn[0] & drawn[1]


def test_secrets_that_the_compose_file_names_are_those_that_are_drawn(tmp_path: Path) -> None:
    script = tmp_path / "make_secrets.sh"
    script.write_bytes((DOCKER / "make_secrets.sh").read_bytes())
    subprocess.run(["sh", script], check=True)
    compose = loaded("compose.yaml")
    files = {secret["file"] for secret in compose["secrets"].values()}
    files |= {item["path"] for service in compose["services"].values() for item in service.get("env_file", [])}
    assert files == {f"secrets/{file.name}" for file in (tmp_path / "secrets").iterdir()}
    assert "/docker/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8")
    assert "docker/secrets" in (ROOT / ".dockerignore").read_text(encoding="utf-8")


def test_the_lock_file_pins_every_dependency_with_a_digest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    dependencies = [*project["dependencies"], *project["optional-dependencies"]["server"]]
    names = {re.split(r"[\[<>=]", dependency)[0].lower() for dependency in dependencies}
    lock = (DOCKER / "requirements.lock").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==\S+.*\\\n +(--hash=sha256)", lock, re.MULTILINE))
    assert names <= pinned.keys()


def test_the_image_without_cuda_leaves_out_torch_and_what_torch_alone_needs() -> None:
    lock = DOCKER / "requirements.lock"
    [expression] = re.findall(r"sed -E '([^']+)'", (DOCKER / "Dockerfile").read_text(encoding="utf-8"))
    kept = subprocess.run(["sed", "-E", expression, lock], check=True, capture_output=True, text=True).stdout
    names = [set(re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==", text, re.MULTILINE)) for text in (lock.read_text(), kept)]
    left_out = names[0] - names[1]
    assert {"torch", "torchvision", "triton"} < left_out
    assert all(name.startswith(("nvidia-", "cuda-")) for name in left_out - {"torch", "torchvision", "triton"})
    assert {"mlflow", "ray", "torchmetrics"} < names[1]
