import os
import re
from pathlib import Path

import pytest

from alerts.config import AlertRules, PageConfig, SinkConfig
from ingest.config import CaptureConfig
from linewatch.config import Config, GoldenConfig, LineConfig, WorkerEntry, load
from linewatch.errors import ConfigError
from linewatch.sockets import MAX_SOCKET_PATH, default_endpoint, make_room, reachable
from storage.config import RetentionConfig

GOOD = """
site: plant-3
data: var/
workers: [{name: w0, bind: "ipc://var/w0.sock", device: auto, max_batch: 32}]
lines:
  - id: bottling-1
    source: rtsp://camera-1.local/main
    policy: every
    deadline_ms: 200
    fps: 10
    roi: [100, 40, 900, 640]
    model: bottle@3
    false_alarms: 1 per 8h
    alert: {raise: 1 of 1, clear_after: 5s}
alerts: {page: {bind: "127.0.0.1:8700"}, sinks: [{url: "json://erp.local/hook", on: [raised, cleared]}]}
"""
SMALL = "data: var\nlines: [{id: a, source: 'synthetic:belt', model: m}]\n"


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "linewatch.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value).splitlines() == list(caught.value.problems), "one line per problem"
    return [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]


def test_the_documented_form_is_read_and_cut_into_slices(write, tmp_path):
    config = load(write(GOOD))
    assert config.storage.data == tmp_path / "var"
    assert config.storage.redis == "embedded"
    assert config.endpoints() == [f"ipc://{tmp_path}/var/w0.sock"]
    assert config.bind("w0") == config.endpoints()[0]
    assert config.worker("w0").max_batch == 32
    capture = config.capture("bottling-1")
    assert type(capture) is CaptureConfig
    assert capture.roi == (100, 40, 900, 640)
    (judge,) = config.judges()
    assert (judge.line, judge.model) == ("bottling-1", "bottle@3")
    assert judge.false_alarms.text == "1 per 8h"
    assert judge.false_alarms.rate(1 / judge.fps) == pytest.approx(1 / (8 * 3600 * 10))
    rules = config.rules()["bottling-1"]
    assert (rules.raise_.k, rules.raise_.n, rules.clear_after) == (1, 1, 5.0)
    assert config.alerts.sinks[0].on == ("raised", "cleared"), "YAML 1.1 would read `on` as true"
    assert config.keys(*config.endpoints()) is None
    with pytest.raises(ValueError, match="frozen"):
        config.site = "other"


def test_one_worker_is_there_when_none_is_named(write, tmp_path):
    config = load(write(SMALL))
    assert [worker.name for worker in config.workers] == ["w0"]
    assert config.endpoints() == [f"ipc://{tmp_path}/var/run/w0.sock"]
    assert config.judges()[0].false_alarms.share == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("policy:", "polcy:", "lines[0].polcy: unknown key; did you mean policy?"),
        ("clear_after:", "clear_aftr:", "lines[0].alert.clear_aftr: unknown key; did you mean clear_after?"),
        ("raise: 1 of 1", "rase: 1 of 1", "lines[0].alert.rase: unknown key; did you mean raise?"),
        ("max_batch:", "max_bach:", "workers[0].max_bach: unknown key; did you mean max_batch?"),
        ('bind: "127', 'bnid: "127', "alerts.page.bnid: unknown key; did you mean bind?"),
        ("on: [", "onn: [", "alerts.sinks[0].onn: unknown key; did you mean on?"),
        ("site:", "zzz:", re.compile("^zzz: unknown key; there is alerts, data, ")),
        ("policy: every", "policy: evry", "lines[0].policy: should be 'every' or 'latest', not 'evry'"),
        ("raise: 1 of 1", "raise: 3 of 2", "lines[0].alert.raise: `3 of 2` can never be reached"),
        ("5s", "5 lightyears", re.compile(r"^lines\[0\]\.alert\.clear_after: '5 lightyears' is no duration")),
        ("deadline_ms: 200", "deadline_ms: soon", re.compile(r"^lines\[0\]\.deadline_ms: .*, not 'soon'")),
        ("[100, 40, 900, 640]", "[900, 40, 100, 640]", re.compile(r"^lines\[0\]\.roi: \[900, 40, 100, 640\] must be")),
        ("    model: bottle@3\n", "", "lines[0].model: is missing"),
        ("model: bottle@3", "model: bottle@x", re.compile(r"^lines\[0\]\.model: 'bottle@x' does not match")),
        ("ipc://var/w0.sock", "udp://x:1", re.compile(r"^workers\[0\]\.bind: 'udp://x:1' is no endpoint")),
        ("[raised, cleared]}", "[raised, sold]}", re.compile(r"^alerts\.sinks\[0\]\.on\[1\]: 'sold' does not match")),
        ("data: var/\n", "", "data: is missing"),
        ("site: plant-3", "redis: http://x", re.compile("^redis: should be `embedded`")),
    ],
)
def test_a_mistake_is_one_line_with_its_place(write, old, new, expected):
    assert old in GOOD
    (line,) = problems(write(GOOD.replace(old, new)))
    assert expected.search(line) if isinstance(expected, re.Pattern) else line == expected


def test_all_mistakes_are_told_at_once(write):
    found = problems(write(GOOD.replace("policy", "polcy").replace("id: bottling-1", "id: 'a b'")))
    assert [line.split(":")[0] for line in found] == ["lines[0].id", "lines[0].polcy"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "is empty"),
        ("- a\n", "should be `key: value` lines, not a list"),
        ("a: [1\nb: 2\n", "line 2, column"),
        ("data: x\ndata: y\n", "line 2, column 1: the key data is given twice"),
        ("data: !!python/object/apply:os.system ['true']\n", "could not determine a constructor"),
        ("data: x\nlines: []\n", "lines: is empty; it needs at least 1"),
    ],
)
def test_what_is_no_configuration_says_why(write, text, expected):
    (line,) = problems(write(text))
    assert expected in line


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load(tmp_path / "nowhere.yaml")


def test_twins_are_refused(write):
    line = "{id: a, source: 'synthetic:belt', model: m}"
    assert problems(write(f"data: var\nlines: [{line}, {line}]\n")) == ["lines[1].id: 'a' is taken by lines[0]"]
    workers = "workers: [{name: w}, {name: w}]\n"
    assert problems(write(SMALL + workers)) == ["workers[1].name: 'w' is taken by workers[0]"]
    workers = "workers: [{name: v, bind: 'tcp://*:5550'}, {name: w, bind: 'tcp://*:5550'}]\n"
    assert problems(write(SMALL + workers)) == ["workers[1].bind: 'tcp://*:5550' is taken by workers[0]"]


def test_false_alarms_per_time_need_fps(write):
    config = load(write(GOOD.replace("    fps: 10\n", "")))
    with pytest.raises(ConfigError, match=r"lines\[0\].false_alarms: .*add `fps:` to line bottling-1"):
        config.judges()


def test_secrets_come_from_outside(write, tmp_path, monkeypatch):
    monkeypatch.setenv("STORE", "store.local")
    (tmp_path / "password").write_text("s3cret\n", encoding="utf-8")
    (tmp_path / "password").chmod(0o600)
    text = f"redis: 'rediss://:${{file:{tmp_path}/password}}@${{STORE}}:6379/0'\nsite: 'a $${{literal}}'\n"
    config = load(write(SMALL + text))
    assert config.redis == "rediss://:s3cret@store.local:6379/0"
    assert config.site == "a ${literal}"
    found = problems(write(SMALL + "redis: '${NOT_THERE}'\nsite: '${file:/not/there}'\n"))
    assert found[0].startswith("redis: the environment has no NOT_THERE")
    assert found[1].startswith("site: ${file:/not/there}: cannot be read")


def test_a_wrong_address_does_not_leak_its_password(write):
    found = problems(write(SMALL + "alerts: {sinks: [{url: ['json://user:hunter2@host']}]}\n"))
    assert found == ["alerts.sinks[0].url: should be a valid string, not (an address with credentials)"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("clips/a.mp4?rate=max", "{folder}/clips/a.mp4?rate=max"),
        ("./folder/", "{folder}/folder/"),
        ("/abs/a.mp4", "/abs/a.mp4"),
        ("usb:0", "usb:0"),
        ("synthetic:belt?fps=10", "synthetic:belt?fps=10"),
        ("rtsp://h/x", "rtsp://h/x"),
    ],
)
def test_relative_sources_lie_beside_the_file(write, tmp_path, source, expected):
    config = load(write(SMALL.replace("synthetic:belt", source)))
    assert config.capture("a").source == expected.format(folder=tmp_path)


def test_sqlite_history_lies_beside_the_file(write, tmp_path):
    assert load(write(SMALL + "history: sqlite:///h.db\n")).history == f"sqlite:///{tmp_path}/h.db"
    assert load(write(SMALL + "history: postgresql://h/db\n")).history == "postgresql://h/db"


def test_a_deep_data_folder_still_gets_a_socket_that_fits(tmp_path):
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    endpoint = default_endpoint(deep, "w0")
    path = Path(endpoint.removeprefix("ipc://"))
    assert len(os.fsencode(path)) <= MAX_SOCKET_PATH
    assert endpoint == default_endpoint(deep, "w0")
    assert endpoint != default_endpoint(deep, "w1")
    assert endpoint != default_endpoint(tmp_path / ("x" * 120), "w0")
    try:
        make_room(endpoint)
        assert path.parent.stat().st_mode & 0o777 == 0o700
    finally:
        path.parent.rmdir()


def test_a_named_socket_that_is_too_long_is_refused(write):
    (line,) = problems(write(SMALL + f"workers: [{{name: w, bind: 'ipc://{'d' * 110}'}}]\n"))
    assert "at most 107: leave it out" in line


def test_tcp_workers_are_reached_where_they_say(write):
    text = (
        "workers: [{name: a, bind: 'tcp://*:5550'}, {name: b, bind: 'tcp://0.0.0.0:5551', connect: 'tcp://b:5551'}]\n"
    )
    config = load(write(SMALL + text))
    assert config.endpoints() == ["tcp://127.0.0.1:5550", "tcp://b:5551"]
    assert config.bind("b") == "tcp://0.0.0.0:5551"
    assert config.keys(*config.endpoints()) == config.data / "keys"
    assert reachable("tcp://10.0.0.7:1") == "tcp://10.0.0.7:1"


def test_unknown_names_say_which_there_are(write):
    config = load(write(SMALL))
    with pytest.raises(ConfigError, match="no line 'b'; there is a"):
        config.capture("b")
    with pytest.raises(ConfigError, match="no worker 'w9'; there is w0"):
        config.worker("w9")


def test_the_documentation_names_every_key():
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text()
    tables = {
        "": (Config, {"lines", "workers", "alerts", "retention"}),
        "lines": (LineConfig, {"alert", "golden"}),
        "workers": (WorkerEntry, set()),
        "retention": (RetentionConfig, set()),
    }
    for model, elsewhere in tables.values():
        for name in set(model.model_fields) - elsewhere:
            assert f"| `{name}` |" in text, name
    nested = {"alert.": AlertRules, "golden.": GoldenConfig, "page.": PageConfig, "sinks[].": SinkConfig}
    for prefix, model in nested.items():
        for name, field in model.model_fields.items():
            assert f"| `{prefix}{field.alias or name}` |" in text, name
