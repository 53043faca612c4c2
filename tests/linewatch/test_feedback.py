"""`alerts label`, `alerts missed` and `feedback`, on a real history and a real bundle's calibration."""

import json
import logging
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import structlog

from inference.calibration import Calibration
from linewatch.cli import main
from storage.config import StorageConfig
from storage.history import START, Consequences, Counts, History
from storage.labels import Labels
from storage.models import Registry
from storage.records import Alert, AlertKind, Change, Label, Transition

MINUTE_NS = 60 * 10**9


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    """Twenty alerts of the last minutes: ten score 11 to 11.9, ten 20 to 29."""
    history = History.open(StorageConfig(data=tmp_path / "var"))
    now_ns = time.time_ns() - MINUTE_NS
    scores = [*(11 + i / 10 for i in range(10)), *(20.0 + i for i in range(10))]
    transitions = [
        Transition(
            change=Change.RAISED,
            at_ns=now_ns + i,
            alert=Alert(
                id=f"a/1/{i}/defect",
                line="a",
                kind=AlertKind.DEFECT,
                text="Defect.",
                raised_ns=now_ns + i,
                cleared_ns=now_ns + i,
                score=10.5,
                worst_score=score,
                threshold=10.0,
                model="plate@1",
            ),
        )
        for i, score in enumerate(scores)
    ]
    minutes = {("a", now_ns // MINUTE_NS): Counts(passed=9980, rejected=20, unknown=3)}
    history.commit(Consequences(position="1-0", transitions=transitions, minutes=minutes), after=START)
    yield history
    history.close()


@pytest.fixture
def config(tmp_path: Path, history: History) -> str:
    assert history.position() == "1-0"
    file = tmp_path / "linewatch.yaml"
    file.write_text(
        "data: var/\nlines:\n  - {id: a, source: synthetic:belt, model: plate, false_alarms: 1%}\n", encoding="utf-8"
    )
    good = Calibration.of(np.random.default_rng(0).gamma(9, 1, 2000), "split")
    Registry(tmp_path / "var/models").write(
        "plate",
        detector="padim",
        settings={},
        preprocessing={"size": [32, 32]},
        backbone=None,
        backbone_sha256=None,
        data_fingerprint="",
        n_train=1,
        metrics={},
        tensors={"x": np.zeros(1)},
        calibration=good.model_dump(mode="json"),
        reference={},
    )
    return str(file)


def label_all(config: str) -> None:
    assert main(["alerts", "label", config, *(f"a/1/{i}/defect" for i in range(10)), "--as", "false-alarm"]) == 0
    assert main(["alerts", "label", config, *(f"a/1/{i}/defect" for i in range(10, 20)), "--as", "true-defect"]) == 0


def test_labels_are_kept_with_who_and_why(config: str, history: History, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["alerts", "label", config, "a/1/0/defect", "--as", "known-variation", "--by", "ann", "--note", "rust"]
    assert main(command) == 0
    assert "a/1/0/defect: known-variation, says ann" in capsys.readouterr().out
    (said,) = Labels(history).said("a/1/0/defect")
    assert (said.label, said.by, said.note) == (Label.KNOWN_VARIATION, "ann", "rust")
    assert main(["alerts", "list", config]) == 0
    assert "seen by ann, known variation" in capsys.readouterr().out


def test_an_escape_is_noted(config: str, history: History, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alerts", "missed", config, "--line", "a", "--at", "2026-01-02T03:04", "--part", "P7"]) == 0
    assert main(["alerts", "missed", config, "--line", "a", "--at", "00:00"]) == 0
    first, second = Labels(history).escapes("a", since_ns=0)
    assert (first.part, second.part) == ("P7", None)
    assert first.captured_ns == round(datetime(2026, 1, 2, 3, 4).astimezone().timestamp() * 1e9)
    assert time.time_ns() - second.captured_ns < 25 * 60 * MINUTE_NS
    assert "a: a defect passed at 2026-01-02 03:04:00" in capsys.readouterr().out


def test_feedback_suggests_what_to_write_into_the_configuration(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    label_all(config)
    capsys.readouterr()
    assert main(["feedback", config, "a"]) == 0
    said = capsys.readouterr().out
    assert "9980 pass, 20 reject, 3 unknown; 20 defect alerts" in said
    assert "10 true defects, 10 false alarms" in said
    assert "0.1 %" in said  # 10 of 9990 good ones
    assert "threshold 11.9 (now 10); it rests on 10 false alarms and known variations, and 10 true defects" in said
    assert "10 of 10" in said
    (line,) = [line for line in said.splitlines() if line.startswith("to apply it: ")]
    assert "10 of 10 false alarms removed, 0 of 10 lost" in line
    asked = line.split("false_alarms: ")[1].split("`")[0]
    limit = Calibration.model_validate(Registry(tmp_path / "var/models").resolve("plate").calibration())
    assert limit.threshold(float(asked.removesuffix("%")) / 100).threshold >= 11.9


def test_feedback_as_json(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["feedback", config, "a", "--since", "8h", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["alerts"], said["unlabelled"], said["few"]) == (20, 20, True)
    assert said["overkill"]["value"] is None
    assert said["suggestion"]["kind"] == "none"


def test_without_enough_labels_no_threshold_is_suggested(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alerts", "label", config, "a/1/0/defect", "--as", "false-alarm"]) == 0
    assert main(["feedback", config, "a"]) == 0
    said = capsys.readouterr().out
    assert "too few labels to suggest a threshold: 1 false alarms" in said
    assert "suggested" not in said.replace("to suggest", "")
    assert "fewer than 10 alerts are labelled" in said


def test_a_threshold_of_another_model_is_not_applied(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    label_all(config)
    text = Path(config).read_text(encoding="utf-8")
    Path(config).write_text(text.replace("model: plate", "model: other"), encoding="utf-8")
    capsys.readouterr()
    assert main(["feedback", config, "a"]) == 0
    said = capsys.readouterr().out
    assert "plate@1 is not the calibrated model in force" in said
    assert "false_alarms:" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["alerts", "label", "{}", "a/1/0/defect", "--as", "dust"], 2, "write true-defect, false-alarm"),
        (["alerts", "label", "{}", "a/1/99/defect", "--as", "false-alarm"], 1, "is not in the history"),
        (["alerts", "missed", "{}", "--line", "b", "--at", "12:00"], 2, "no line 'b'"),
        (["alerts", "missed", "{}", "--line", "a", "--at", "noon"], 2, "is no time"),
        (["alerts", "missed", "{}", "--line", "a", "--at", "2999-01-01"], 2, "not in the past"),
        (["feedback", "{}", "b"], 2, "no line 'b'"),
        (["feedback", "{}", "a", "--since", "soon"], 2, "is no duration"),
    ],
)
def test_wrong_requests_are_one_line(
    config: str, arguments: list[str], code: int, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("{}", config) for argument in arguments]) == code
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
