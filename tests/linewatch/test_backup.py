"""Backups of a living site, restored: consistent each time, and nothing told twice or lost in silence."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from alerts.config import AlertRules
from alerts.follower import Follower
from linewatch.cli import main
from linewatch.datafolder import RESTORING, claim, only
from storage.archive import Archive
from storage.config import StorageConfig
from storage.golden import GoldenSamples
from storage.history import History
from storage.lines import Lines
from storage.models import Registry
from storage.records import Change, Status, Verdict
from storage.server import RedisServer, connect
from storage.verdicts import VerdictStream

PNG = b"\x89PNG\r\n\x1a\n"
RUN = "0000000000000001"
SINKS = {Change.RAISED: ["hook"], Change.CLEARED: ["hook"]}
SECOND = 1_000_000_000


@pytest.fixture
def site():
    folder = Path(tempfile.mkdtemp(prefix="lw-", dir="/tmp"))  # short: a socket lies in it
    config = "data: d\nlines: [{id: a, source: 'synthetic:belt?fps=5', model: m, false_alarms: 5%}]\n"
    (folder / "linewatch.yaml").write_text(config, encoding="utf-8")
    yield folder
    shutil.rmtree(folder)


def write_model(data: Path, name: str = "m", seed: int = 0) -> None:
    Registry(data / "models").write(
        name,
        detector="padim",
        settings={},
        preprocessing={"size": [64, 64]},
        backbone=None,
        backbone_sha256=None,
        data_fingerprint="x",
        n_train=3,
        metrics={},
        tensors={"mean": np.random.default_rng(seed).normal(size=5000)},
        calibration={"scores": [seed]},
        reference={"0.png": b"picture"},
    )


def backup(site: Path, name: str = "b.tar", *options: str) -> Path:
    assert main(["backup", str(site / "linewatch.yaml"), str(site / name), *options]) == 0
    return site / name


def restored(file: Path, data: Path, *options: str) -> StorageConfig:
    assert main(["restore", str(file), "--data", str(data), *options]) == 0
    return StorageConfig(data=data)


def test_models_samples_and_history_come_back_and_keys_only_when_asked_for(site, capsys):
    data = site / "d"
    write_model(data)
    write_model(data, seed=1)
    Registry(data / "models").promote("m", 2)
    GoldenSamples(data / "golden").add("a", "scratch", PNG + b"1", expected="reject", added_ns=1)
    History.open(StorageConfig(data=data)).close()
    (data / "keys" / "cameras").mkdir(parents=True)
    (data / "keys" / "cameras" / "a.key_secret").write_bytes(b"secret")
    plain, full = backup(site), backup(site, "k.tar", "--with-keys")
    assert "secret keys" in capsys.readouterr().out
    assert [stat.S_IMODE(file.stat().st_mode) for file in (plain, full)] == [0o600, 0o600]
    assert b"a.key_secret" not in plain.read_bytes()
    config = restored(plain, site / "new")
    registry = Registry(config.models)
    assert (registry.current("m"), registry.versions("m")) == (2, [1, 2])
    for number in (1, 2):
        registry.resolve(f"m@{number}").verify()
    assert registry.rollback("m") == 1, "what was promoted before is known too"
    [sample] = GoldenSamples(config.golden).of("a")
    assert GoldenSamples(config.golden).picture("a", sample) == PNG + b"1"
    assert not (site / "new" / "keys").exists()
    restored(full, site / "newer")
    secret = site / "newer" / "keys" / "cameras" / "a.key_secret"
    assert (secret.read_bytes(), stat.S_IMODE(secret.stat().st_mode)) == (b"secret", 0o600)


def one_line(capsys) -> str:
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    return said


def test_wrong_requests_are_one_clear_line(site, capsys):
    config = str(site / "linewatch.yaml")
    assert main(["backup", config, str(site / "b.tar")]) == 1
    assert "there is no history yet" in one_line(capsys)
    History.open(StorageConfig(data=site / "d")).close()
    file = backup(site)
    capsys.readouterr()
    assert main(["backup", config, str(file)]) == 1
    assert "is there already" in one_line(capsys)
    assert main(["backup", config, str(site / "no" / "b.tar")]) == 1
    assert "No such file" in one_line(capsys)
    assert main(["restore", str(file), "--data", str(site / "d")]) == 1
    assert "is not empty (history.db)" in one_line(capsys)
    with claim(site / "d"):
        assert main(["restore", str(file), "--data", str(site / "d"), "--replace"]) == 1
    assert "in use by another `linewatch up`" in one_line(capsys)
    with only(site / "d", "alerts"):
        assert main(["restore", str(file), "--data", str(site / "d"), "--replace"]) == 1
    assert "`linewatch alerts` runs here already" in one_line(capsys)
    file.write_bytes(file.read_bytes()[:5000])
    assert main(["restore", str(file), "--data", str(site / "new")]) == 1
    assert "b.tar: " in one_line(capsys)
    assert not (site / "new").exists(), "a broken backup touches nothing"


def test_a_file_that_vanishes_while_the_work_is_measured_is_no_matter(site, monkeypatch):
    write_model(site / "d")
    (site / "d" / "models" / "m" / ".calibration-new").write_bytes(b"about to be renamed")
    look = Path.lstat

    def lstat(path: Path) -> os.stat_result:
        if path.name == ".calibration-new":
            path.unlink()
        return look(path)

    monkeypatch.setattr(Path, "lstat", lstat)
    backup(site, "b.tar", "--without-history")
    assert not (site / "d" / "models" / "m" / ".calibration-new").exists()


def test_a_history_on_a_server_is_its_own_matter(site, capsys):
    path = site / "linewatch.yaml"
    path.write_text(path.read_text() + "history: postgresql+psycopg://ann:s3cret@db.local/lw\n", encoding="utf-8")
    assert main(["backup", str(path), str(site / "b.tar")]) == 1
    said = one_line(capsys)
    assert "pg_dump" in said
    assert "s3cret" not in said
    write_model(site / "d")
    assert Archive(backup(site, "b.tar", "--without-history")).contents.revision is None


def test_a_damaged_model_is_not_backed_up_as_if_it_were_well(site, capsys):
    History.open(StorageConfig(data=site / "d")).close()
    write_model(site / "d")
    (site / "d" / "models" / "m" / "1" / "reference" / "0.png").write_bytes(b"rot")
    assert main(["backup", str(site / "linewatch.yaml"), str(site / "b.tar")]) == 1
    assert "0.png: is not the file that was written" in one_line(capsys)
    assert not (site / "b.tar").exists()


def test_replacing_keeps_the_old_aside_and_the_rest_in_place(site, capsys):
    data = site / "d"
    History.open(StorageConfig(data=data)).close()
    write_model(data)
    file = backup(site)
    write_model(data, "other")
    (data / "evidence").mkdir()
    (data / "redis").mkdir()
    restored(file, data, "--replace")
    [aside] = data.glob("before-restore-*")
    assert Registry(aside / "models").names() == ["m", "other"]
    assert Registry(data / "models").names() == ["m"]
    assert (aside / "history.db").exists()
    assert (data / "evidence").is_dir()
    assert (data / "redis").is_dir()
    assert str(aside) in capsys.readouterr().out.replace("\n", "")


def test_an_interrupted_restore_is_said_and_can_be_run_again(site, capsys):
    data = site / "d"
    History.open(StorageConfig(data=data)).close()
    write_model(data)
    file = backup(site)
    script = f"""
        import os, signal, sys
        from pathlib import Path
        rename, left = Path.rename, [int(sys.argv[1])]
        def dying(self, target):
            if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return rename(self, target)
        Path.rename = dying
        from linewatch.cli import main
        sys.exit(main(["restore", {str(file)!r}, "--data", {str(data)!r}, "--replace"]))
    """
    for renames in range(4):
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(renames)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert (data / RESTORING).exists()
        assert main(["up", str(site / "linewatch.yaml")]) == 2
        assert "a restore was interrupted here" in one_line(capsys)
        restored(file, data, "--replace")
        assert not (data / RESTORING).exists()
        assert not list(data.glob(".restore-*"))
        assert Registry(data / "models").names() == ["m"]
        history = History.open(StorageConfig(data=data))
        assert history.position() == "0"
        history.close()
        capsys.readouterr()


WRITER = """
    import itertools, sys
    from pathlib import Path
    from storage.config import StorageConfig
    from storage.history import Consequences, Counts, History
    from storage.records import Alert, AlertKind, Change, Transition
    history = History.open(StorageConfig(data=Path(sys.argv[1])))
    after = "0"
    for n in itertools.count(1):
        alert = Alert(id=f"a/1/{n}/defect", line=f"l{n}", kind=AlertKind.DEFECT, text="D" * 300, raised_ns=n)
        history.commit(
            Consequences(
                position=f"{n}-0",
                transitions=[Transition(change=Change.RAISED, alert=alert, at_ns=n)],
                states={"a": str(n)},
                minutes={("a", 0): Counts(rejected=1)},
                audience={Change.RAISED: ["hook"]},
            ),
            after=after,
        )
        after = f"{n}-0"
        if n == 1: print("writing", flush=True)
"""


@pytest.mark.timeout(300)
def test_each_backup_of_a_living_history_is_of_one_moment(site):
    data = site / "d"
    write_model(data)
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(data)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout.readline() == "writing\n"
        seen = []
        for number in range(12):
            file = backup(site, f"{number}.tar")
            assert writer.poll() is None
            if number % 3 == 1:
                write_model(data, seed=number)  # models change meanwhile, too
            config = restored(file, site / f"r{number}")
            history = History.open(config)
            n = int(history.position().partition("-")[0])
            seen.append(n)
            assert history.rule_states() == {"a": str(n)}
            assert history.minutes("a", since=0, until=1)[0].rejected == n
            assert len(history.alerts(limit=10**6)) == n
            assert history.undelivered() == {"hook": n}
            assert history.events(f"a/1/{n}/defect") == [Change.RAISED]
            history.close()
            for version in Registry(config.models).versions("m"):
                Registry(config.models).resolve(f"m@{version}").verify()
            shutil.rmtree(config.data)
            file.unlink()
    finally:
        writer.kill()
        writer.communicate()
    assert seen == sorted(set(seen)), "each holds more than the one before: the writer went on"


# --- the verdict stream goes on beside a restored history ------------------------------------------------------------


def verdicts(first: int, count: int) -> list[Verdict]:
    chosen = [Status.REJECT if seq % 7 == 0 else Status.PASS for seq in range(first, first + count)]
    return [
        Verdict(
            line="a",
            run=RUN,
            seq=seq,
            status=status,
            score=2.0 if status is Status.REJECT else 0.5,
            p_value=0.5,
            threshold=1.0,
            model="m@1",
            captured_ns=seq * SECOND,
            judged_ns=seq * SECOND,
        )
        for seq, status in enumerate(chosen, first)
    ]


def follow(client, config: StorageConfig) -> Follower:
    history = History.open(config)
    rules = {"a": AlertRules.model_validate({"raise": "1 of 1", "clear_after": "2s", "silent_after": 0})}
    follower = Follower(client, history, rules=rules, audience=SINKS, on_verdicts=lambda _: None)
    follower.resume()
    while follower.follow(block_ms=0)[0]:
        pass
    history.close()
    return follower


def everything(config: StorageConfig) -> tuple:
    history = History.open(config)
    try:
        alerts = history.alerts(limit=10**6)
        events = {alert.id: history.events(alert.id) for alert in alerts}
        told = [delivery.key for delivery in history.due("hook", now_ns=1, limit=10**6)]
        return (
            alerts,
            events,
            history.rule_states(),
            history.minutes("a", since=0, until=10**9),
            told,
            history.position(),
        )
    finally:
        history.close()


def test_a_restored_history_follows_again_what_it_had_followed_and_ends_the_same(site):
    data = site / "d"
    config = StorageConfig(data=data)
    with RedisServer(data), connect(config) as client:
        lines = Lines(client)
        lines.record(verdicts(0, 40))
        follow(client, config)
        file = backup(site)
        lines.record(verdicts(40, 60))
        follow(client, config)
        expected = everything(config)
        restored(file, data, "--replace")
        assert everything(config) != expected
        follower = follow(client, config)
        assert follower.hole is None
        assert everything(config) == expected, "no alert doubled, none lost, each with the id it had"


def test_what_the_stream_no_longer_holds_is_told_as_a_hole(site):
    data = site / "d"
    config = StorageConfig(data=data)
    with RedisServer(data), connect(config) as client:
        lines = Lines(client)
        lines.record(verdicts(0, 40))
        follow(client, config)
        file = backup(site)
        lines.record(verdicts(40, 60))
        last = follow(client, config).position
        VerdictStream(client).trim(cursor=last, keep=10)
        restored(file, data, "--replace")
        follower = follow(client, config)
        assert re.search("dropped from the stream before they became alerts", follower.hole)
        alerts = everything(config)[0]
        assert len({alert.id for alert in alerts}) == len(alerts)
        assert follower.position == last


def test_a_restored_history_on_an_empty_redis_says_so_once_and_goes_on(site):
    data, new = site / "d", site / "n"
    with RedisServer(data), connect(StorageConfig(data=data)) as client:
        Lines(client).record(verdicts(0, 40))
        follow(client, StorageConfig(data=data))
    file = backup(site)
    config = restored(file, new)
    before = everything(config)
    with RedisServer(new), connect(config) as client:
        follower = follow(client, config)
        assert "Redis has lost its data" in follower.hole
        assert everything(config) == before
        Lines(client).record(verdicts(40, 10))
        assert follow(client, config).position != before[-1]
    alerts = everything(config)[0]
    assert len(alerts) > len(before[0])
    assert len({alert.id for alert in alerts}) == len(alerts)


def test_the_manifest_says_what_it_is(site):
    History.open(StorageConfig(data=site / "d")).close()
    began = time.time_ns()
    contents = Archive(backup(site)).contents
    assert began <= contents.made_ns <= time.time_ns()
    told = json.loads(contents.model_dump_json())
    assert [member["name"] for member in told["members"]] == ["history.db"]
    assert told["revision"] == max(path.name[1:5] for path in _revisions())


def _revisions() -> list[Path]:
    import storage

    return list((Path(storage.__file__).parent / "migrations" / "versions").glob("r[0-9]*.py"))


def test_a_backup_that_is_killed_leaves_no_file_that_looks_like_one(site):
    History.open(StorageConfig(data=site / "d")).close()
    script = f"""
        import os, signal
        from storage.archive import ArchiveWriter
        ArchiveWriter.seal = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        from linewatch.cli import main
        main(["backup", {str(site / "linewatch.yaml")!r}, {str(site / "b.tar")!r}])
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False, env=os.environ)
    assert done.returncode == -signal.SIGKILL
    assert not (site / "b.tar").exists()
    backup(site)
