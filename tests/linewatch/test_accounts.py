"""`linewatch accounts`, and secrets: where they may come from, and where they never appear."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from linewatch import cli, yamlfile
from linewatch.config import load
from linewatch.errors import ConfigError
from linewatch.exposure import exposed_page, written_passwords
from linewatch.findings import Grade
from linewatch.yamlfile import read_secret
from storage.accounts import Accounts, digest
from storage.history import History
from storage.passwords import matches
from storage.roles import Role

PASSWORD = "correct horse battery"
LINES = "lines: [{id: a, source: 'synthetic:belt', model: m}]\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.passwords._COST", 16)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "linewatch.yaml"
    path.write_text(f"data: var/\n{LINES}")
    return path


@pytest.fixture
def accounts(config: Path):
    history = History.open(load(config).storage)
    yield Accounts(history.database)
    history.close()


def run(*words: object) -> int:
    return cli.main([str(word) for word in ("accounts", *words)])


def secret(tmp_path: Path, text: str = PASSWORD, mode: int = 0o600) -> Path:
    path = tmp_path / "secret"
    path.write_text(text + "\n")
    path.chmod(mode)
    return path


# --- the commands ----------------------------------------------------------------------------------------------


def test_an_account_from_its_first_day_to_its_last(config, accounts, tmp_path, capsys, monkeypatch):
    assert run("add", config, "Maria", "--role", "operator", "--password-file", secret(tmp_path)) == 0
    assert capsys.readouterr().out == "maria: operator\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("another, long one\nrest"))
    assert run("add", config, "wall") == 0
    assert matches("another, long one", accounts.kept_password("wall"))
    assert matches(PASSWORD, accounts.kept_password("maria"))
    capsys.readouterr()

    assert run("token", config, "maria") == 0
    token = capsys.readouterr().out.strip()
    assert accounts.of_token(digest(token)).name == "maria"
    assert run("list", config, "--json") == 0
    shown = capsys.readouterr().out
    assert '"name":"maria","role":"operator"' in shown
    assert run("list", config) == 0
    shown += capsys.readouterr().out
    assert "viewer" in shown
    for hidden in (token, digest(token), "scrypt", PASSWORD):
        assert hidden not in shown

    assert run("role", config, "wall", "operator") == 0
    assert [account.role for account in accounts.all()] == ["operator", "operator"]
    assert run("password", config, "maria", "--password-file", secret(tmp_path, "yet another one")) == 0
    assert matches("yet another one", accounts.kept_password("maria"))
    assert run("token", config, "maria", "--drop") == 0
    assert accounts.of_token(digest(token)) is None
    assert run("add", config, "erp", "--no-password") == 0
    assert run("remove", config, "erp") == 0
    assert run("remove", config, "wall") == 0
    assert "last one" not in capsys.readouterr().err
    assert run("remove", config, "maria") == 0
    assert "That was the last one" in capsys.readouterr().err
    assert not accounts.there_are()


@pytest.mark.parametrize(
    ("words", "typed_and_ends"),
    [
        (["add", "maria"], ("short\n", 2, "the password has 5 characters: take 10 to 1024")),
        (["add", "maria"], ("", 2, "the password has 0 characters")),
        (["add", "a b"], (PASSWORD, 2, "'a b' is no name of an account")),
        (["add", "maria", "--role", "god"], (PASSWORD, 2, "god")),
        (["remove", "nobody"], ("", 1, "no account 'nobody'")),
        (["password", "nobody"], (PASSWORD, 1, "no account 'nobody'")),
        (["token", "nobody"], ("", 1, "no account 'nobody'")),
    ],
)
def test_what_cannot_be_done_is_one_line(config, capsys, monkeypatch, words, typed_and_ends):
    (command, name, *rest), (typed, code, says) = words, typed_and_ends
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert run(command, config, name, *rest) == code
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert PASSWORD not in err


def test_a_password_is_no_argument(config):
    assert run("add", config, "maria", PASSWORD) == 2
    assert run("add", config, "maria", "--password", PASSWORD) == 2


# --- secrets' files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o640, 0o660, 0o606, 0o602])
def test_a_secret_that_others_can_read_is_refused(tmp_path, mode):
    path = secret(tmp_path, mode=mode)
    with pytest.raises(ConfigError, match=f"mode {mode:03o} lets others read it: chmod 600 {path}") as caught:
        read_secret(path)
    assert PASSWORD not in str(caught.value)
    config = tmp_path / "linewatch.yaml"
    config.write_text(f"data: var/\nredis: 'redis://:${{file:{path}}}@localhost:1/0'\n{LINES}")
    with pytest.raises(ConfigError, match=r"redis: \$\{file:.*\}: is a secret, and its mode"):
        load(config)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_secret_of_the_owners_alone_is_read(tmp_path, mode):
    assert read_secret(secret(tmp_path, mode=mode)) == PASSWORD


def test_what_a_container_engine_mounts_is_not_ours_to_mend(tmp_path, monkeypatch):
    path = secret(tmp_path, mode=0o444)
    monkeypatch.setattr(yamlfile, "_MOUNTED", tmp_path)
    assert read_secret(path) == PASSWORD
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(yamlfile, "_MOUNTED", tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "link").symlink_to(path)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_secret(tmp_path / "elsewhere" / "link")


@pytest.mark.parametrize(("mode", "read"), [(0o640, True), (0o440, True), (0o644, False)])
def test_a_file_of_roots_may_be_its_groups(tmp_path, monkeypatch, mode, read):
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of root's")
    path = secret(tmp_path, mode=mode)
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    if read:
        assert read_secret(path) == PASSWORD
    else:
        with pytest.raises(ConfigError, match="chmod 600"):
            read_secret(path)


def test_what_is_no_text_is_not_quoted(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"hunter2\xff")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="cannot be read: is no text") as caught:
        read_secret(path)
    assert "hunter2" not in str(caught.value)


# --- what a check says -----------------------------------------------------------------------------------------


def test_passwords_in_the_file_are_noted(tmp_path):
    path = tmp_path / "linewatch.yaml"
    path.write_text(
        "data: var/\nredis: 'rediss://user:hunter2@host:6379/0'\nhistory: postgresql+psycopg://lw@host/lw\n"
        "lines:\n  - {id: a, source: 'rtsp://u:hunter2@camera/main', model: m}\n"
        "  - {id: b, source: 'rtsp://u:${CAMERA}@camera/main', model: m}\n"
        "alerts: {sinks: [{url: 'mqtt://u:hunter2@broker/topic'}, {url: 'json://host:80/a@b'}]}\n"
    )
    found = list(written_passwords(path))
    assert [finding.subject for finding in found] == ["redis", "lines[0].source", "alerts.sinks[0].url"]
    assert {finding.grade for finding in found} == {Grade.NOTE}
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    ("page", "grade"),
    [("bind: '127.0.0.1:0'", None), ("bind: '0.0.0.0:0'", Grade.BAD), ("bind: '0.0.0.0:0', open: true", Grade.NOTE)],
)
def test_a_page_that_others_reach(tmp_path, page, grade):
    path = tmp_path / "linewatch.yaml"
    path.write_text(f"data: var/\n{LINES}alerts: {{page: {{{page}}}}}\n")
    found = list(exposed_page(load(path)))
    assert [finding.grade for finding in found] == ([] if grade is None else [grade])
    assert not (tmp_path / "var").exists(), "an examination makes nothing"
    if grade is not None:
        history = History.open(load(path).storage)
        Accounts(history.database).add("maria", Role.VIEWER, PASSWORD, now_ns=1)
        history.close()
        assert [finding.grade for finding in exposed_page(load(path))] == [Grade.GOOD]


@pytest.mark.parametrize(
    "wrong",
    [
        "redis: 'redsi://:hunter2@host:1/0'",
        "redis: 'redis://:hunter2@host:notaport/0'",
        "redis: 'redis://:hunter2@127.0.0.1:1/0'",
        "history: 'postgresql+nodriver://u:hunter2@host/db'",
        "history: 'u:hunter2@host'",
        "alerts: {sinks: [{url: 'jsno://u:hunter2@host/a'}]}",
        "alerts: {sinks: [{url: 'mqtt://u:hunter2@'}]}",
        "alerts: {page: {bind: 'u:hunter2@h:1'}}",
        "workers: [{name: w, bind: 'tcp://u:hunter2@host'}]",
    ],
)
def test_no_error_shows_a_password(tmp_path, wrong):
    path = tmp_path / "linewatch.yaml"
    lines = "lines: [{id: a, source: 'rtsp://u:hunter2@127.0.0.1:1/x', model: m}]\n"
    path.write_text(f"data: var/\n{lines}{wrong}\n")
    for words in (["check", path, "--no-cameras"], ["alerts", "list", path], ["lines", path]):
        command = [sys.executable, "-P", "-m", "linewatch", *map(str, words)]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")
        assert "hunter2" not in shown.stdout + shown.stderr, words
