"""compose.yaml as far as it can be judged without containers: what it starts exists, and it tells no secret."""

import fnmatch
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.services import CRASHED_RUNS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "compose.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
OURS = {name for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
BASH = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


def lines_of_shell(command):
    """The simple commands of a shell script that `sh -euc` runs."""
    *_, script = command
    return [part.split(">")[0].strip() for line in script.splitlines() for part in line.split("||")]


def commands():
    """Every command of ours that some service runs, as words."""
    found = []
    for name in sorted(OURS):
        command = SERVICES[name]["command"]
        if command[0] == "sh":
            found += [line.split() for line in lines_of_shell(command) if line.startswith("prefect")]
        else:
            found.append(command)
    return found


def test_it_has_the_parts_that_are_promised_and_nothing_listens_beyond_this_machine():
    assert set(SERVICES) == {"postgresql", "storage", "prefect", "mlflow", "setup", "worker"}
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not any(service.get("network_mode") for service in SERVICES.values())


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_or_ends_by_itself(name):
    service = SERVICES[name]
    if name == "setup":
        assert service["restart"] == "on-failure"
        return
    test = service["healthcheck"]["test"]
    assert test[0] == "CMD"
    if test[1] == "python":
        compile(test[3], name, "exec")
        port = re.search(r"127\.0\.0\.1:(\d+)/", test[3])[1]
        # What Prefect's worker listens on, else what the command says.
        assert port == "8080" if name == "worker" else port in service["command"]


def test_what_a_service_waits_for_exists_and_can_be_waited_for():
    for service in SERVICES.values():
        for name, wait in service.get("depends_on", {}).items():
            wanted = wait["condition"]
            assert wanted == ("service_completed_successfully" if name == "setup" else "service_healthy")
            assert name == "setup" or "healthcheck" in SERVICES[name]


def test_images_are_pinned_and_the_lock_is_what_is_installed():
    pinned = [service["image"] for service in SERVICES.values()]
    pinned += re.findall(r"^FROM (\S+)", DOCKERFILE, flags=re.MULTILINE)
    assert all(re.search(r":\D*\d+[.\d]*\d", image) for image in pinned), pinned
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)[1]
    assert {SERVICES[name]["image"] for name in OURS} == {f"factseg:{version}"}
    assert "--require-hashes --requirement requirements.lock" in DOCKERFILE
    assert re.search(r"^USER factseg$", DOCKERFILE, flags=re.MULTILINE)


def test_no_password_is_written_down_or_has_a_default():
    for service in SERVICES.values():
        for name, value in service["environment"].items():
            if re.search(r"PASSWORD|SECRET", name):
                assert re.fullmatch(r"\$\{\w+:\?.*\}", value), name
    for secret in re.findall(r"://\w+:([^@\s]+)@", TEXT):
        assert re.fullmatch(r"\$\{\w+:\?\}", secret)
    assert not re.search(r"\$\{\w*PASSWORD:?-", TEXT)


def test_every_variable_is_explained_to_its_users():
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    variables = set(re.findall(r"\$\{(\w+)", TEXT))
    assert variables == {
        "POSTGRES_PASSWORD",
        "STORAGE_USER",
        "STORAGE_PASSWORD",
        "STORAGE_PORT",
        "PREFECT_PORT",
        "MLFLOW_PORT",
        "FACTSEG_DATA",
    }
    assert [name for name in variables if f"`{name}`" not in page] == []


@pytest.mark.slow
@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_and_their_options_exist_in_what_is_installed(command):
    words = [word for word in command if not word.startswith("-")]
    helped = words[: {"prefect": 3, "mlflow": 2}[command[0]]]
    if helped[1] == "deploy":
        helped = helped[:2]
    ran = subprocess.run([*helped, "--help"], env=BASH, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for option in [word for word in command if word.startswith("--")]:
        assert option in ran.stdout


def test_settings_of_the_servers_are_known_to_them():
    from mlflow import environment_variables
    from prefect import settings

    assert not hasattr(settings, "PREFECT_SERVER_DATABASE_TIMOUT")
    for service in SERVICES.values():
        for name in service["environment"]:
            if name.startswith("PREFECT_"):
                assert hasattr(settings, name), name
    security = (Path(environment_variables.__file__).parent / "environment_variables.py").read_text()
    for name in ("MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION"):
        assert f'"{name}"' in security


def test_the_bucket_is_made_once_and_found_again(s3_server):
    (python,) = [line for line in lines_of_shell(SERVICES["setup"]["command"]) if line.startswith("python")]
    for _ in range(2):
        ran = subprocess.run(["sh", "-euc", python], env=BASH | s3_server, capture_output=True, check=False)
        assert ran.returncode == 0, ran.stderr.decode()
    from upath import UPath

    assert "factseg" in [place.path.strip("/") for place in UPath("s3:///").iterdir()]


def test_files_that_the_image_needs_are_in_its_context_and_nothing_else():
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in {"", "#"}]
    assert rules[0] == "*"
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in kept)
    assert kept >= {"fact", "flows", "pipeline", "storage", "pyproject.toml", "requirements.lock"}
    assert not [name for name in kept if fnmatch.fnmatch(name, "*env*") or name.startswith(".")]
    assert "crashed-runs.yaml" in kept
    assert "crashed-runs.yaml" in TEXT


def test_the_automation_that_is_looked_for_is_the_one_that_is_made():
    automation = yaml.safe_load((ROOT / "crashed-runs.yaml").read_text(encoding="utf-8"))
    assert automation["name"] == CRASHED_RUNS
    assert f"inspect {CRASHED_RUNS}" in TEXT
