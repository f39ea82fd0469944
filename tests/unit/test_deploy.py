"""What `deploy/` hands to systemd, Docker and Kubernetes is well formed, and names settings that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
        text = unit.read_text().replace("/opt/product-sync/bin/product-sync", command)
        (tmp_path / unit.name).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())

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


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_what_kubernetes_is_given() -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", str(DEPLOY / "kubernetes")], capture_output=True, text=True, check=True
    )

    kinds = re.findall(r"^kind: (\w+)$", built.stdout, re.MULTILINE)
    assert sorted(kinds) == ["ConfigMap", "CronJob", "Deployment", "Service"]
