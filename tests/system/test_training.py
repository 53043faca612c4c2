"""Training as a person lives with it: killed and gone on with, cut to a budget, given up, refused in one line."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.plates import write_plates

SMALL = ["--image-size", "64", "--set", "hidden=16", "--set", "batch=8", "--device", "cpu"]
FIT = ["fit", "--detector", "msflow", "--data", "good", "--weights", "random", *SMALL]
CHECKPOINT = Path(".training", "msflow.checkpoint")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write_plates(tmp_path / "good", 30)
    return tmp_path


def environment(**more: str) -> Mapping[str, str]:
    # One thread: the sums of several are added in any order.
    return {**os.environ, "LINEWATCH_LOG": "json", "OMP_NUM_THREADS": "1", "COLUMNS": "200", **more}


def run(*arguments: str, site: Path, says: int = 0, **more: str) -> tuple[str, list[dict[str, object]]]:
    """A command line as a process of its own: what it prints, and its log."""
    command = [sys.executable, "-m", "linewatch", *arguments]
    done = subprocess.run(
        command, cwd=site, env=environment(**more), capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == says, done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith(("{", "linewatch: ")) for line in lines), done.stderr
    logs = [json.loads(line) for line in lines if line.startswith("{")]
    return done.stdout + "".join(f"{line}\n" for line in lines if not line.startswith("{")), logs


def kill_in_mid_training(*arguments: str, site: Path, model: Path, how: signal.Signals = signal.SIGKILL) -> str:
    """Start a training and end it once its first checkpoint is there; gives what it said last."""
    command = [sys.executable, "-m", "linewatch", *arguments, "--checkpoint-s", "0.1"]
    with subprocess.Popen(command, cwd=site, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        try:
            give_up = time.monotonic() + 120
            while not (model / CHECKPOINT).is_file():
                assert process.poll() is None
                assert time.monotonic() < give_up
                time.sleep(0.01)
        finally:
            process.send_signal(how)
        assert process.stderr is not None
        said = process.stderr.read()
    assert not list(model.glob("[0-9]*")), "it was to be killed before its end"
    return said


def learned(bundle: Path) -> str:
    return hashlib.sha256((bundle / "tensors.safetensors").read_bytes()).hexdigest()


def events(logs: list[dict[str, object]]) -> list[object]:
    return [entry["event"] for entry in logs]


def test_killed_and_resumed_it_writes_the_very_bytes_of_a_training_left_alone(site: Path) -> None:
    long = ["--set", "epochs=100"]
    whole, broken = site / "m/whole", site / "m/broken"
    kill_in_mid_training(*FIT, *long, "--out", "m/broken", site=site, model=broken)
    listed, _ = run("models", "list", "m", site=site)
    assert listed == ""
    _, logs = run(*FIT, *long, "--out", "m/broken", "--resume", site=site)
    (resumed,) = [entry for entry in logs if "goes on from its checkpoint" in str(entry["event"])]
    assert 0 <= resumed["epoch"] < resumed["of"] == 100  # 0: a busy machine reached its first checkpoint that early
    run(*FIT, *long, "--out", "m/whole", site=site)
    assert learned(broken / "1") == learned(whole / "1")
    assert not (broken / CHECKPOINT.parent).exists()
    run("models", "verify", "m/broken", site=site)


def test_what_was_cut_off_is_given_up_unless_resume_is_said_and_another_training_is_refused(site: Path) -> None:
    model, long = site / "m/x", ["--set", "epochs=100000", "--out", "m/x"]
    said = kill_in_mid_training(*FIT, *long, site=site, model=model, how=signal.SIGINT)
    assert said.splitlines()[-1] == "linewatch: interrupted; the same command with --resume goes on"
    said, _ = run(*FIT, *long, "--resume", "--set", "hidden=8", site=site, says=1)
    (line,) = said.splitlines()
    assert "is of another training" in line
    assert "without --resume" in line
    assert (model / CHECKPOINT).is_file()
    _, logs = run(*FIT, "--set", "epochs=1", "--out", "m/x", site=site)
    assert "an interrupted training is given up, --resume would have gone on" in events(logs)
    said, logs = run(*FIT, "--set", "epochs=1", "--out", "m/x", "--resume", site=site)
    assert "no interrupted training to go on with: it starts anew" in events(logs)
    assert "x@2: msflow fitted on 24 good images" in said


def test_a_budget_of_minutes_ends_it_early(site: Path) -> None:
    began = time.monotonic()
    said, logs = run(*FIT, "--set", "epochs=1000000", "--minutes", "0.05", "--out", "m/x", site=site)
    assert time.monotonic() - began < 60
    (planned,) = [entry for entry in logs if entry["event"] == "the budget holds fewer epochs"]
    assert 1 < planned["epochs"] < 1000000
    assert "x@1: msflow fitted on 24 good images" in said


def test_the_papers_profile_without_its_weights_is_one_line_before_the_work(site: Path) -> None:
    arguments = ["fit", "--detector", "msflow", "--data", "good", "--out", "m/x", "--profile", "paper"]
    said, logs = run(*arguments, "--device", "cpu", site=site, says=2, LINEWATCH_WEIGHTS=str(site / "none"))
    (line,) = said.splitlines()
    assert "no weights for efficientnet_b5" in line
    assert "weights download efficientnet_b5" in line
    assert logs == []
    assert not (site / "m").exists()


def test_features_are_kept_where_it_is_said_and_not_if_not(site: Path) -> None:
    cache = site / "cache"
    run(*FIT, "--set", "epochs=1", "--out", "m/x", "--features-gb", "0", site=site, LINEWATCH_CACHE=str(cache))
    assert not cache.exists()
    run(*FIT, "--set", "epochs=1", "--out", "m/x", site=site, LINEWATCH_CACHE=str(cache))
    (kept,) = cache.iterdir()
    run(*FIT, "--set", "epochs=1", "--out", "m/x", "--seed", "1", site=site, LINEWATCH_CACHE=str(cache))
    assert kept in list(cache.iterdir())
