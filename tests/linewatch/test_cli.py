import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import redis
import structlog

from alerts.errors import SinkError
from inference.errors import DataError, EngineError, FitError, WeightsError
from ingest.errors import SourceError
from linewatch import cli
from linewatch.commands import checking, running, watching
from linewatch.errors import AlreadyRunning, ConfigError
from storage.errors import BundleError, StoreUnavailable
from storage.history import Consequences, History
from storage.lines import Lines
from storage.models import Registry
from storage.records import Alert, AlertKind, Change, Status, Transition, Verdict
from storage.server import RedisServer
from storage.workers import Workers

RUN = "0" * 16


@pytest.fixture
def config(tmp_path: Path, redis_server: RedisServer, redis_client: redis.Redis) -> Path:
    """A configuration of two lines on an empty database of the private server."""
    database = redis_client.connection_pool.connection_kwargs["db"]
    path = tmp_path / "linewatch.yaml"
    path.write_text(
        f"data: var\nredis: 'unix://{redis_server.socket}?db={database}'\nlines:\n"
        "  - {id: belt, source: 'synthetic:belt?fps=5', model: m}\n"
        "  - {id: yard, source: 'folder/', model: m@2}\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def quiet():
    """Undo what a command does to the logs of its process."""
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers
    structlog.reset_defaults()


@pytest.fixture
def linewatch(capsys, quiet):  # noqa: ARG001 - for its effect
    """Run a command line in this process; its exit code, stdout and stderr."""

    def linewatch(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return linewatch


def real(*arguments: str, **settings) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "linewatch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **settings)


def one_line(stderr: str) -> str:
    (line,) = stderr.splitlines()
    assert line.startswith("linewatch: ")
    return line.removeprefix("linewatch: ")


# --- the way in ------------------------------------------------------------------------------------------------------


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from linewatch.cli import main; code = main(['--help']); "
        "heavy = {'torch', 'cv2', 'scipy', 'numpy', 'sqlalchemy', 'nicegui', 'fastapi', 'zmq', 'redis', 'matplotlib'};"
        "sys.exit(f'loaded {heavy & set(sys.modules)}' if heavy & set(sys.modules) else code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    for name in (
        "demo",
        "up",
        "capture",
        "worker",
        "alerts",
        "fit",
        "evaluate",
        "lines",
        "verdicts",
        "check",
        "doctor",
    ):
        assert f"\n  {name} " in result.stdout


def test_the_version_and_the_module_form():
    result = real("--version")
    assert (result.returncode, result.stdout, result.stderr) == (0, "linewatch 0.1.0\n", "")


def test_every_command_has_help(linewatch):
    import typer

    def walk(command, path):
        yield path, command
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, [*path, name])

    for path, command in walk(typer.main.get_command(cli.app), []):
        code, out, _ = linewatch(*path, "--help")
        assert code == 0
        assert "Usage: linewatch" in out
        assert command.help, path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["frobnicate"], "No such command 'frobnicate'. (see `linewatch --help`)"),
        (["ups"], "No such command 'ups'. Did you mean 'up'? (see `linewatch --help`)"),
        (["up"], "Missing argument 'CONFIG'. (see `linewatch up --help`)"),
        (["up", "c.yaml", "--frob"], "No such option: --frob (see `linewatch up --help`)"),
        (["health", "c.yaml", "cook"], "'cook' is not one of 'capture', 'worker', 'alerts'"),
        (["up", "/no/such.yaml"], "/no/such.yaml: no such file"),
        (["alerts", "/no/such.yaml"], "/no/such.yaml: no such file"),
        (["alerts", "list", "/no/such.yaml"], "/no/such.yaml: no such file"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(arguments, expected):
    result = real(*arguments)
    assert result.returncode == 2
    assert expected in one_line(result.stderr)
    assert result.stdout == ""


def test_without_a_command_there_is_help(linewatch):
    code, out, _ = linewatch()
    assert code == 2
    assert "Usage: linewatch" in out


def test_each_mistake_of_a_configuration_has_its_line(linewatch, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("data: var\nlines: [{id: a, source: 'synthetic:belt', modle: m}]\n", encoding="utf-8")
    code, _, err = linewatch("up", path)
    assert code == 2
    assert err.splitlines() == [
        f"linewatch: {path}: lines[0].model: is missing",
        f"linewatch: {path}: lines[0].modle: unknown key; did you mean model?",
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (BundleError("x"), 2),
        (DataError("x"), 2),
        (WeightsError("x"), 2),
        (EngineError("x"), 2),
        (FitError("x"), 1),
        (SourceError("x"), 1),
        (StoreUnavailable("x"), 1),
        (SinkError("x"), 1),
        (AlreadyRunning("x"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=repr,
)
def test_each_error_has_its_exit_code(linewatch, monkeypatch, error, code):
    def fail(_):
        raise error

    monkeypatch.setattr(checking, "load", fail)
    assert linewatch("check", "c.yaml") == (code, "", "" if code == 130 else "linewatch: x\n")


def test_a_defect_is_one_line_unless_debugging(linewatch, monkeypatch):
    def fail(_):
        raise KeyError("surprise")

    monkeypatch.setattr(checking, "load", fail)
    monkeypatch.delenv("LINEWATCH_DEBUG", raising=False)
    code, _, err = linewatch("check", "c.yaml")
    assert code == 70
    assert one_line(err) == "defect: KeyError: 'surprise'; run with --debug to see where"
    monkeypatch.setenv("LINEWATCH_DEBUG", "1")
    code, _, err = linewatch("check", "c.yaml")
    assert code == 70
    assert "Traceback" in err
    assert err.endswith("linewatch: defect: KeyError: 'surprise'\n")


def test_a_defect_of_a_role_is_logged_with_its_place(config):
    code = "import ingest.service, sys; ingest.service.capture = lambda *_, **__: 1 / 0; "
    code += "from linewatch.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-P", "-c", code, "capture", str(config), "--line", "belt"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 70
    record = json.loads(result.stderr.splitlines()[0])
    assert (record["event"], record["role"], record["name"]) == ("defect", "capture", "belt")
    assert "in <lambda>" in record["exception"]


def test_a_reader_that_leaves_is_no_error():
    command = f"{sys.executable} -P -m linewatch --help | head -n 0"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert result.stderr == ""


# --- looking ---------------------------------------------------------------------------------------------------------


def verdict(line: str, seq: int, status: Status) -> Verdict:
    judged = {} if status is Status.UNKNOWN else {"score": 0.5 + seq, "threshold": 0.6, "model": "m@1", "p_value": 0.2}
    reason = "late" if status is Status.UNKNOWN else None
    now = time.time_ns()
    return Verdict(line=line, run=RUN, seq=seq, status=status, reason=reason, captured_ns=now, judged_ns=now, **judged)


@pytest.fixture
def busy(redis_client):
    """A belt that has captured five frames, of which three have ended."""
    lines = Lines(redis_client)
    lines.beat(line="belt", run=RUN, next_seq=5, camera="ok", wall_ns=time.time_ns(), ended=False)
    statuses = [Status.PASS, Status.REJECT, Status.UNKNOWN]
    lines.record([verdict("belt", seq, status) for seq, status in enumerate(statuses)])
    return lines


@pytest.mark.usefixtures("busy")
def test_lines_shows_every_line_of_the_configuration(linewatch, config):
    code, out, _ = linewatch("lines", config, "--json")
    belt, yard = map(json.loads, out.splitlines())
    assert code == 0
    counts = ("captured", "passed", "rejected", "unknown", "open")
    assert belt["line"] == "belt"
    assert [belt[key] for key in counts] == [5, 1, 1, 1, 2]
    assert [yard[key] for key in ("line", "captured", "beat_ns")] == ["yard", 0, 0]
    code, out, _ = linewatch("lines", config)
    assert code == 0
    assert out.splitlines()[1].split()[:8] == ["belt", "ok", "5", "1", "1", "1", "0", "2"]
    assert out.splitlines()[2].split()[-1] == "never"


def test_verdicts_are_printed_in_order(linewatch, config, busy):
    busy.record([verdict("yard", 0, Status.PASS)])
    code, out, _ = linewatch("verdicts", config, "--json")
    assert code == 0
    found = [json.loads(line) for line in out.splitlines()]
    assert [(each["line"], each["seq"]) for each in found] == [("belt", 0), ("belt", 1), ("belt", 2), ("yard", 0)]
    code, out, _ = linewatch("verdicts", config, "--line", "belt", "--count", "2")
    first, second = out.splitlines()
    assert f"reject   belt/{RUN}/1  score 1.5 / 0.6" in first
    assert f"unknown  belt/{RUN}/2  late" in second
    assert linewatch("verdicts", config, "--line", "bilt")[0] == 2


def test_verdicts_follow_the_stream(config, busy):
    command = [sys.executable, "-P", "-m", "linewatch", "verdicts", str(config), "--follow", "--json", "--count", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert json.loads(process.stdout.readline())["seq"] == 2
            busy.record([verdict("belt", 3, Status.PASS)])
            assert json.loads(process.stdout.readline())["seq"] == 3
        finally:
            process.kill()


def test_an_alert_is_listed_and_acknowledged(linewatch, config):
    from linewatch.config import load

    assert linewatch("alerts", "list", config, "--json") == (0, "", "")
    now = time.time_ns()
    alert = Alert(id=f"belt/{RUN}/1/defect", line="belt", kind=AlertKind.DEFECT, text="[a] defect", raised_ns=now)
    raised = Transition(change=Change.RAISED, alert=alert, at_ns=now)
    History.open(load(config).storage).commit(Consequences(position="1-0", transitions=[raised]), after="0")
    code, out, _ = linewatch("alerts", "list", config)
    assert code == 0
    assert alert.id in out
    assert "[a] defect" in out
    code, out, _ = linewatch("alerts", "ack", config, alert.id, "--by", "kim")
    assert (code, out) == (0, f"{alert.id}: acknowledged by kim\n")
    code, out, _ = linewatch("alerts", "list", config, "--open", "--line", "belt", "--json")
    assert json.loads(out)["acknowledged_by"] == "kim"
    code, _, err = linewatch("alerts", "ack", config, "nobody/knows")
    assert code == 1
    assert "nobody/knows" in one_line(err)


def test_alerts_with_a_configuration_runs_the_service(linewatch, config, monkeypatch):
    ran = []
    monkeypatch.setattr(watching, "run_alerts", ran.append)
    assert linewatch("alerts", config)[0] == 0
    assert ran == [config]


# --- running ---------------------------------------------------------------------------------------------------------


def test_roles_are_told_their_slices(linewatch, config, monkeypatch):
    import ingest.service

    told = []

    def capture(settings, **rest):
        told.append((settings.id, rest["workers"], rest["journal"], rest["keys"], rest["stop"].is_set()))
        return 0

    monkeypatch.setattr(ingest.service, "capture", capture)
    monkeypatch.setattr(running.signal, "signal", lambda *_: None)
    assert linewatch("capture", config, "--line", "belt")[0] == 0
    data = config.parent / "var"
    assert told == [("belt", [f"ipc://{data}/run/w0.sock"], data / "journal", None, False)]
    code, _, err = linewatch("capture", config, "--line", "bilt")
    assert code == 2
    assert one_line(err) == "no line 'bilt'; there is belt, yard"


@pytest.mark.parametrize(
    ("held", "stopped", "code"),
    [(False, True, 0), (True, False, 0), (True, True, 143)],
    ids=["alone", "ended", "killed"],
)
def test_only_the_end_of_its_source_ends_a_supervised_capture(linewatch, config, monkeypatch, *, held, stopped, code):
    import ingest.service

    def capture(*_, stop, **__):
        if stopped:
            stop.set()
        return 0

    monkeypatch.setattr(ingest.service, "capture", capture)
    monkeypatch.setattr(running.signal, "signal", lambda *_: None)
    monkeypatch.setattr(running.lifeline, "held", lambda: held)
    assert linewatch("capture", config, "--line", "belt")[0] == code


def test_a_source_that_does_not_exist_is_one_line(config):
    result = real("capture", str(config), "--line", "yard", env={**os.environ, "LINEWATCH_LOG_LEVEL": "error"})
    assert result.returncode == 1
    assert "folder" in one_line(result.stderr)


# --- checking --------------------------------------------------------------------------------------------------------


def test_check_names_what_is_missing_and_the_mend(linewatch, config):
    code, out, _ = linewatch("check", config)
    assert code == 1
    lines = out.splitlines()
    assert any(line.startswith("BAD  line belt: model m: ") for line in lines)
    assert any(line.startswith("ok   line belt: source: delivers ") for line in lines)
    assert any(line.startswith("BAD  line yard: source: ") for line in lines)
    assert any(line == "ok   redis: answers" for line in lines)
    code, out, _ = linewatch("check", config, "--no-cameras")
    assert code == 1
    assert "source" not in out


@pytest.fixture
def model(config):
    """Write a bundle `m` with some regions and good scores, which `check` never runs."""

    def model(*, roi: tuple[int, ...] | None, scores: int) -> None:
        calibration = {"method": "split", "scores": [number / 100 for number in range(scores)]} if scores else None
        Registry(config.parent / "var" / "models").write(
            "m",
            detector="padim",
            settings={},
            preprocessing={"size": [64, 64], "roi": roi},
            backbone=None,
            backbone_sha256=None,
            data_fingerprint="0" * 64,
            n_train=10,
            metrics={},
            tensors={"mean": np.zeros(3, np.float32)},
            calibration=calibration,
            reference={},
        )

    return model


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"roi": None, "scores": 400}, "ok   line belt: model m: threshold "),
        ({"roi": None, "scores": 20}, "note line belt: model m: threshold "),
        (
            {"roi": None, "scores": 0},
            "BAD  line belt: model m: is not calibrated, so it has no threshold -> linewatch ",
        ),
        (
            {"roi": (0, 0, 9, 9), "scores": 400},
            "BAD  line belt: model m: was fitted with roi [0, 0, 9, 9], the line has none -> ",
        ),
    ],
    ids=["good", "extrapolated", "uncalibrated", "another region"],
)
def test_check_holds_a_line_against_its_model(linewatch, config, model, settings, expected):
    model(**settings)
    _, out, _ = linewatch("check", config, "--no-cameras")
    (found,) = [line for line in out.splitlines() if line.startswith(expected)]
    assert ("calibrate with 299 good images" in found) == expected.startswith("note")


def test_check_sees_a_wrong_sink(linewatch, config):
    config.write_text(config.read_text() + "alerts: {sinks: [{url: 'pigeon://loft'}]}\n")
    code, out, _ = linewatch("check", config, "--no-cameras")
    assert code == 1
    assert "BAD  alerts.sinks[0]: " in out


def test_check_sees_a_taken_port(linewatch, config):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        config.write_text(config.read_text() + f"alerts: {{page: {{bind: '127.0.0.1:{port}'}}}}\n")
        _, out, _ = linewatch("check", config, "--no-cameras")
        assert f"BAD  alerts.page.bind: 127.0.0.1:{port}: Address already in use" in out


def test_doctor_looks_at_this_machine(linewatch, config):
    code, out, _ = linewatch("doctor", config)
    subjects = {line[5:25].strip() for line in out.splitlines()}
    assert {"linewatch", "parts", "packages", "GPU", "clock", "disk", "data", "redis", "camera belt"} <= subjects
    assert code == (1 if "\nBAD" in out else 0)


@pytest.mark.usefixtures("busy")
def test_health_is_what_arrived_in_storage(linewatch, config, redis_client):
    assert linewatch("health", config, "capture", "--name", "belt")[0] == 0
    code, _, err = linewatch("health", config, "capture", "--name", "yard")
    assert (code, one_line(err)) == (1, "capture yard: never heard of")
    assert linewatch("health", config, "worker")[0] == 1
    Workers(redis_client).record("w0", {"wall_ns": time.time_ns()})
    assert linewatch("health", config, "worker")[0] == 0
    Workers(redis_client).record("w0", {"wall_ns": time.time_ns() - 60 * 10**9})
    code, _, err = linewatch("health", config, "worker")
    assert one_line(err) == "worker w0: last sign of life 60 s ago"
    Workers(redis_client).record("w0", {"wall_ns": time.time_ns() + 90 * 10**9})
    code, _, err = linewatch("health", config, "worker")
    assert code == 1
    assert "ahead of this clock" in one_line(err), "a clock that was set back keeps no dead worker alive"
    code, _, err = linewatch("health", config, "alerts")
    assert (code, one_line(err)) == (1, "alerts: the page has not been opened")
