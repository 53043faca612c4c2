"""`linewatch golden`: recording, showing here or by a worker that runs, and what is kept for audits."""

import json
import logging
import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import structlog

from inference import worker
from linewatch import golden
from linewatch.cli import main
from linewatch.config import load
from linewatch.findings import Grade
from linewatch.golden import ask, running
from linewatch.preflight import examine
from storage.challenges import ChallengeStream
from storage.evidence import EvidenceStore
from storage.history import Consequences, History
from storage.records import Alert, AlertKind, Change, Transition
from storage.server import RedisServer, connect
from storage.workers import Workers
from tests.plates import plate

CONFIG = """
data: d
workers: [{name: w0, device: cpu, threads: 1}]
lines:
  - {id: cam, source: parts/, model: plate, false_alarms: 10%, golden: {block: true}}
  - {id: other, source: parts/, model: none, roi: [0, 0, 400, 50]}
"""


@pytest.fixture(autouse=True)
def logs_as_before():
    """Each command points the logs of this process at its own stderr."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def path(tmp_path, plate_model):
    path = tmp_path / "linewatch.yaml"
    path.write_text(CONFIG)
    models = load(path).storage.models
    models.mkdir(parents=True)
    shutil.copytree(plate_model.path.parent, models / "plate")
    for name, defect in (("good", False), ("patch", True)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), plate(700, defect=defect))
    return path


@pytest.fixture
def say(path, capsys):
    """Runs the command; gives exit code, output and complaint."""

    def run(*arguments, line="cam"):
        capsys.readouterr()
        code = main(["golden", str(path), line, *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, "\n".join(part for part in err.splitlines() if part.startswith("linewatch:"))

    return run


def rows(out):
    return {line.split()[0]: line for line in out.splitlines()[1:]}


def test_recorded_samples_are_shown_here_when_nothing_runs_and_results_are_kept(path, say):
    folder = path.parent
    assert say("--record", folder / "good.png", "--expect", "pass")[0] == 0
    code, out, _ = say("--record", folder / "patch.png")
    assert (code, out) == (0, "cam: golden sample patch recorded, must be judged reject\n")
    code, out, _ = say()
    assert code == 0
    assert out.splitlines()[0].split() == ["sample", "expected", "got", "score", "threshold", "model", "worker", "why"]
    shown = rows(out)
    assert shown.keys() == {"good", "patch"}
    assert "plate@1" in shown["patch"]
    assert "command line" in shown["patch"]
    assert say("--record", folder / "good.png", "--name", "no-defect")[0] == 0
    code, out, _ = say("--json")
    assert code == 1, "a good part is not rejected"
    results = {result["image"]: result for result in map(json.loads, out.splitlines())}
    assert [name for name, result in results.items() if result["status"] != result["expected"]] == ["no-defect"]
    code, out, _ = say("--results", "--json")
    assert code == 0
    kept = [json.loads(line) for line in out.splitlines()]
    assert [result["image"] for result in kept].count("patch") == 2
    assert kept[0]["at_ns"] > kept[-1]["at_ns"]
    assert {result["occasion"] for result in kept} == {"asked"}
    assert len(say("--results", "--since", "1h")[1].splitlines()) == len(kept) + 1
    assert len(say("--results", "--since", "2100-01-01T06:00")[1].splitlines()) == 1
    assert len(say("--results", line="other")[1].splitlines()) == 1


def test_samples_are_listed_and_removed(path, say):
    assert say("--record", path.parent / "good.png", path.parent / "patch.png")[0] == 0
    code, out, _ = say("--list")
    assert code == 0
    assert rows(out).keys() == {"good", "patch"}
    assert str(path.parent / "good.png") in out
    [first, second] = [json.loads(line) for line in say("--list", "--json")[1].splitlines()]
    assert (first["name"], second["expected"]) == ("good", "reject")
    assert say("--remove", "good")[:2] == (0, "cam: golden sample good removed\n")
    assert rows(say("--list")[1]).keys() == {"patch"}


def test_a_sample_that_cannot_be_shown_is_missed(path, say):
    say("--record", path.parent / "patch.png")
    shutil.copy(path.parent / "good.png", load(path).storage.golden / "cam" / "patch.png")
    code, out, _ = say()
    assert code == 1
    assert "unknown MISSED" in out
    assert "is not the picture that was recorded" in out
    wide = path.parent / "wide.png"
    cv2.imwrite(str(wide), np.zeros((60, 400, 3), np.uint8))
    assert say("--record", wide, line="other")[0] == 0
    code, out, _ = say(line="other")
    assert code == 1
    assert "no model" in out


def test_wrong_requests_are_one_line_and_change_nothing(path, say):
    good, patch = path.parent / "good.png", path.parent / "patch.png"
    (path.parent / "text.png").write_text("no picture")
    say("--record", good)
    for arguments, line, complaint in (
        ((), "cam2", "no line 'cam2'"),
        ((), "other", "line other has no golden samples"),
        (("--record", patch, "--list"), "cam", "one at a time"),
        ((patch,), "cam", "pictures are recorded with --record"),
        (("--since", "1h"), "cam", "--since goes with --results"),
        (("--results", "--since", "soon"), "cam", "--since 'soon'"),
        (("--record", patch, good), "cam", "has a golden sample good already"),
        (("--record", patch, patch), "cam", "has a golden sample patch already"),
        (("--record", patch, path.parent / "none.png"), "cam", "no such file"),
        (("--record", patch, path.parent / "text.png"), "cam", "text.png"),
        (("--record", patch, "--name", "../x"), "cam", "is no name"),
        (("--record", patch, good, "--name", "x"), "cam", "--name is for one picture"),
        (("--record", patch), "other", "reaches outside the 96x96 picture"),
        (("--remove", "x"), "cam", "no golden sample 'x'; there is good"),
        (("--record-alert", "cam/1/2/defect"), "cam", "has no alert 'cam/1/2/defect'"),
        (("--expect", "maybe", "--record", patch), "cam", "maybe"),
    ):
        code, _, said = say(*arguments, line=line)
        assert (code, complaint in said, len(said.splitlines())) == (2, True, 1), said
    assert [sample["name"] for sample in map(json.loads, say("--list", "--json")[1].splitlines())] == ["good"]
    assert say("--list", line="other")[1].splitlines()[1:] == []


def test_the_picture_of_an_alert_becomes_a_sample(path, say):
    config = load(path)
    evidence = EvidenceStore(config.storage.evidence, config.retention)
    alert_of(config, evidence, seq=1)
    code, _, said = say("--record-alert", "cam/00aa/1/defect")
    assert (code, "only the 64x64 picture" in said) == (2, True), said
    full = plate(7, defect=True)
    evidence.portrait(line="cam", run="00aa", seq=1, jpeg=jpeg(full))
    assert say("--record-alert", "cam/00aa/1/defect", line="other")[0] == 2
    code, out, _ = say("--record-alert", "cam/00aa/1/defect")
    assert (code, out) == (0, "cam: golden sample 00aa-1 recorded, must be judged reject\n")
    [sample] = map(json.loads, say("--list", "--json")[1].splitlines())
    assert sample["origin"] == "alert cam/00aa/1/defect"
    kept = cv2.imread(str(config.storage.golden / "cam" / "00aa-1.png"))
    assert kept.shape == (96, 96, 3)
    assert np.abs(kept.astype(int) - full).mean() < 5
    assert say()[0] == 0
    alert_of(config, None, seq=2)
    assert "has no picture" in say("--record-alert", "cam/00aa/2/defect")[2]


def jpeg(picture):
    return cv2.imencode(".jpg", picture)[1].tobytes()


def alert_of(config, evidence, *, seq):
    """An alert, with the picture that the model saw and the line's latest one."""
    folder = None
    if evidence is not None:
        small = cv2.resize(plate(7, defect=True), (64, 64))
        where = {"line": "cam", "run": "00aa", "seq": seq, "captured_ns": time.time_ns()}
        folder = evidence.put(frame=small, anomaly_map=None, threshold=None, **where)
        evidence.latest("cam", jpeg(plate(8)))
    alert = Alert(
        id=f"cam/00aa/{seq}/defect",
        line="cam",
        kind=AlertKind.DEFECT,
        text="Defect.",
        raised_ns=10**18,
        cleared_ns=10**18,
        evidence=folder,
    )
    history = History.open(config.storage)
    raised = Transition(change=Change.RAISED, alert=alert, at_ns=10**18)
    history.commit(Consequences(position=f"{seq}-0", transitions=[raised]), after=history.position())
    history.close()


@contextmanager
def working(config):
    stop = threading.Event()
    arguments = {
        "endpoint": f"ipc://{config.data}/w0",
        "lines": config.judges(),
        "storage": config.storage,
        "keys": None,
        "stop": stop,
    }
    thread = threading.Thread(target=worker.serve, args=(config.worker("w0"),), kwargs=arguments)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def wait_until(condition, timeout=20.0):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.05)


def test_workers_that_run_are_asked(path, say, monkeypatch):
    config = load(path)
    say("--record", path.parent / "patch.png")
    with RedisServer(config.data):
        assert running(config) == []
        with working(config):
            wait_until(lambda: running(config) == ["w0"])
            code, out, _ = say()
            assert (code, "w0" in rows(out)["patch"]) == (0, True)
            say("--record", path.parent / "good.png")
            code, out, _ = say()
            assert code == 1
            assert "MISSED" in rows(out)["good"]
            assert say("--results")[1].splitlines()[1:] == [], "the alert service keeps what workers say"
            stream = [result.occasion for _, result in ChallengeStream(connect(config.storage)).read("0")]
            assert stream == ["start", "asked", "asked", "asked"]
        Workers(connect(config.storage)).record("w0", {"wall_ns": time.time_ns() + 3600 * 10**9})
        answers = ask(config, "cam", ["w0"], patience_s=-3.5)
        assert (answers.results, answers.silent, answers.good) == ([], ["w0"], False)
        monkeypatch.setattr(golden, "PATIENCE_S", 0.1)
        monkeypatch.setattr(golden, "EACH_S", 0.1)
        code, _, said = say()
        assert (code, "no answer in time from w0" in said) == (1, True)


def test_check_looks_at_the_samples(path, say):
    def found():
        findings = examine(load(path), cameras=False)
        return {f.subject: f.grade for f in findings if "golden" in f.subject}

    subject = "line cam: golden samples"
    assert found() == {subject: Grade.BAD}, "they block, and there are none"
    say("--record", path.parent / "patch.png")
    assert found() == {subject: Grade.GOOD}
    Path(load(path).storage.golden / "cam" / "patch.png").unlink()
    assert found() == {subject: Grade.BAD}
