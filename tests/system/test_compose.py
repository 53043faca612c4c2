"""compose.yaml without a container engine: held against the specification's schema, and its commands run as processes.

Each service's command, environment and health check are taken from the file as they stand; only paths, host names and
ports are put in the place where a container would find its own.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from linewatch.config import load

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_RUNNING = ["redis", "worker", "capture", "alerts"]
CONFIG = "/etc/linewatch/linewatch.yaml"
OUR_IMAGES = {"linewatch-capture", "linewatch-alerts", "linewatch-worker-cpu", "linewatch-worker-cuda"}


def test_it_follows_the_compose_specification():
    schema = json.loads((Path(__file__).parent / "compose_spec" / "compose-spec.json").read_text(encoding="utf-8"))
    jsonschema.Draft201909Validator.check_schema(schema)
    jsonschema.Draft201909Validator(schema).validate(COMPOSE)
    wrong = {**COMPOSE, "services": {"redis": {**SERVICES["redis"], "capdrop": ["ALL"]}}}
    with pytest.raises(jsonschema.ValidationError, match="capdrop"):
        jsonschema.Draft201909Validator(schema).validate(wrong)


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_as_few_rights_as_it_can(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    if name in ("prepare", "keys"):
        assert service["network_mode"] == "none"
    if name != "prepare":
        assert service["user"] == "10001:10001"
        assert "cap_add" not in service


def test_only_the_page_is_published_and_only_here():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"alerts": ["127.0.0.1:8700:8700"]}
    assert COMPOSE["networks"]["inner"]["internal"] is True


def test_a_camera_holds_its_own_key_and_no_other():
    holders = {
        volume: {
            name: place
            for name, service in SERVICES.items()
            for place in service.get("volumes", ())
            if place.startswith(f"{volume}:")
        }
        for volume in ("keys", "camera-belt-1")
    }
    assert set(holders["keys"]) == {"prepare", "keys", "worker", "worker-cuda"}
    assert set(holders["camera-belt-1"]) == {"prepare", "keys", "capture"}
    assert holders["camera-belt-1"]["capture"].endswith(":ro")
    assert holders["keys"]["worker"].endswith(":ro")


def test_only_redis_can_read_its_key():
    readers = {name for name, service in SERVICES.items() if any("server:" in v for v in service.get("volumes", []))}
    assert readers == {"prepare", "redis"}
    told = [name for service in SERVICES.values() for name in service.get("environment", {})]
    assert not [name for name in told if "PASS" in name.upper()], "the environment of a container is easy to read"


@pytest.mark.parametrize("name", [name for name in SERVICES if name not in ("prepare", "keys", "fit")])
def test_every_service_has_a_health_check_and_comes_back(name):
    assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_every_image_is_a_target_of_the_dockerfile():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    built = {(service["image"], service["build"]["target"]) for service in SERVICES.values() if "build" in service}
    assert {image for image, _ in built} == OUR_IMAGES
    for image, target in built:
        assert image == f"linewatch-{target}"
        stage = dockerfile.partition(f" AS {target}\n")[2].partition("\nFROM ")[0]
        assert "\nUSER 10001:10001" in stage, f"{target} runs as root"
    assert SERVICES["worker-cuda"]["profiles"] == ["cuda"]
    (gpu,) = SERVICES["worker-cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpu["capabilities"] == ["gpu"]


def test_what_an_image_is_built_from_is_let_through():
    kept = {line.removeprefix("!").rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line}
    assert kept >= {"pyproject.toml", "README.md", "LICENSE", "linewatch", "ingest", "inference", "alerts", "storage"}
    assert SERVICES["prepare"]["entrypoint"] == ["/opt/linewatch/deploy/prepare.sh"]
    assert "deploy/prepare.sh" in kept
    assert os.access(ROOT / "deploy" / "prepare.sh", os.X_OK)


# --- its commands as processes ---------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Machine:
    """Stands in for a container engine: volumes are folders, services are processes, addresses are local."""

    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    logs: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ports = {"6379": free_port(), "5550": free_port(), "8700": free_port()}
        self.config = self.folder / "linewatch.yaml"
        for service in ("worker", "capture"):
            text = self._local((ROOT / "deploy" / "linewatch.yaml").read_text(encoding="utf-8"), service)
            for host in ("redis", "worker", "0.0.0.0"):
                for port, mine in self.ports.items():
                    text = text.replace(f"{host}:{port}", f"127.0.0.1:{mine}")
            self._config(service).write_text(text, encoding="utf-8")

    def _config(self, service: str) -> Path:
        return self.folder / "capture.yaml" if service == "capture" else self.config

    def _local(self, text: str, service: str) -> str:
        """Replace what a container would mount: a camera has a folder of its own."""
        data = self.folder / ("camera" if service == "capture" else "data")
        places = {
            CONFIG: self._config(service),
            "/opt/linewatch": ROOT,
            "/run/linewatch": self.folder / "secrets",
            "/run/redis": self.folder / "server",
            "/var/lib/redis": self.folder / "redis",
            "/var/lib/capture": self.folder / "camera",
            "/camera/belt-1": self.folder / "camera" / "keys",
            "/var/lib/linewatch": data,
        }
        for there, here in places.items():
            text = text.replace(there, str(here))
        return text.replace("-p 6379", f"-p {self.ports['6379']}").replace("$$", "$")

    def environment(self, service: str) -> dict[str, str]:
        given = {
            name: self._local(str(value), service) for name, value in SERVICES[service].get("environment", {}).items()
        }
        if service == "prepare":
            given |= {"OWNER": "", "PORT": str(self.ports["6379"])}
        return {"PATH": os.environ["PATH"], **given, "HOME": str(self.folder)}

    def command(self, words: list[str], service: str = "worker") -> list[str]:
        """A command of ours runs as the module; anything else as it stands."""
        words = [self._local(word, service) for word in words]
        return [sys.executable, "-P", "-m", *words] if words[0] == "linewatch" else words

    def start(self, service: str) -> None:
        entry = SERVICES[service].get("entrypoint", ["linewatch"])
        log = (self.folder / f"{service}.log").open("ab")
        self.logs.append(log)
        command = self.command([*entry, *SERVICES[service].get("command", [])], service)
        environment = self.environment(service)
        self.processes[service] = subprocess.Popen(command, env=environment, cwd="/", stdout=log, stderr=log)

    def run(self, service: str) -> None:
        self.start(service)
        assert self.processes.pop(service).wait(60) == 0, self.said(service)

    def healthy(self, service: str) -> bool:
        kind, *words = SERVICES[service]["healthcheck"]["test"]
        words = ["sh", "-c", *words] if kind == "CMD-SHELL" else words
        command = self.command(words, service)
        environment = self.environment(service)
        return (
            subprocess.run(command, env=environment, cwd="/", capture_output=True, timeout=60, check=False).returncode
            == 0
        )

    def said(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        for service in ("capture", "worker", "alerts", "redis"):
            if service in self.processes:
                self.processes[service].send_signal(signal.SIGTERM)
                self.processes[service].wait(30)
        for log in self.logs:
            log.close()


@pytest.fixture
def machine(tmp_path_factory) -> Iterator[Machine]:
    machine = Machine(tmp_path_factory.mktemp("m"))
    yield machine
    for process in machine.processes.values():
        process.kill()
        process.wait()
    machine.stop()


def needs(*programs: str):
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: install openssl, redis-server")


@needs("openssl", "redis-server", "redis-cli")
def test_its_commands_run_and_its_health_checks_pass(machine):
    machine.run("prepare")
    before = sorted((path, path.read_bytes()) for path in machine.folder.glob("se*/*"))
    machine.run("prepare")
    assert sorted((path, path.read_bytes()) for path in machine.folder.glob("se*/*")) == before, "made once"
    assert all(path.stat().st_mode & 0o077 == 0 for path, _ in before)
    assert not list(machine.folder.rglob("ca.key"))
    machine.run("keys")
    made = {path.name: path.read_bytes() for path in machine.folder.rglob("*.key*")}
    machine.run("keys")
    assert {path.name: path.read_bytes() for path in machine.folder.rglob("*.key*")} == made, "made once"
    assert [path.parents[1].name for path in machine.folder.rglob("belt-1.key_secret")] == ["keys"]
    assert [path.parents[1].name for path in machine.folder.rglob("worker.key_secret")] == ["data"]

    fit(load(machine.config).storage.models / "belt")
    for service in LONG_RUNNING:
        assert not machine.healthy(service), f"{service} is not healthy before it runs"
    for service in LONG_RUNNING:
        machine.start(service)
    deadline = time.monotonic() + 120
    waiting = list(LONG_RUNNING)
    while waiting:
        assert time.monotonic() < deadline, {service: machine.said(service)[-2000:] for service in waiting}
        for service in LONG_RUNNING:
            if machine.processes[service].poll() is not None:
                machine.start(service)  # restart: unless-stopped
        waiting = [service for service in waiting if not machine.healthy(service)]
        time.sleep(0.5)

    command = machine.command(["linewatch", "verdicts", CONFIG, "--json"])
    verdicts = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd="/").stdout
    assert {json.loads(line)["line"] for line in verdicts.splitlines()} == {"belt-1"}
    machine.stop()
    assert {service: process.returncode for service, process in machine.processes.items()} == dict.fromkeys(
        LONG_RUNNING, 0
    )


def fit(out: Path) -> None:
    """A small model of the belt, as the `fit` service would make it of real pictures."""
    command = [sys.executable, "-P", "-m", "linewatch", "fit", "--weights", "random", "--image-size", "64"]
    command += ["--detector", "padim", "--data", "synthetic:belt?rate=max&seed=1&defect_every=0&frames=40"]
    subprocess.run([*command, "--out", out, "--device", "cpu"], check=True, timeout=120, cwd="/", capture_output=True)
