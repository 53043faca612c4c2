"""Fixtures of several folders: a private Redis, the shared images, and skips that CI does not let pass."""

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from ingest.preprocess import Preprocessing
from storage.config import StorageConfig
from storage.models import Bundle
from storage.server import RedisServer, connect
from tests.plates import write_plates

DATABASES = 16
_numbers = itertools.cycle(range(DATABASES))


@pytest.fixture(scope="session", autouse=True)
def features_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Whoever runs the tests keeps a cache of their own; processes inherit this one."""
    folder = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LINEWATCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One real server on a socket of its own."""
    folder = Path(tempfile.mkdtemp(prefix="lw-", dir="/tmp"))
    try:
        with RedisServer(folder) as server:
            yield server
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """An empty database of the private server, made as `connect` makes its clients."""
    client = connect(StorageConfig(data=redis_server.folder.parent))
    client.connection_pool.connection_kwargs["db"] = next(_numbers)
    client.flushdb()  # the tests' own server: the client can reach no other
    yield client
    client.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the real images."""
    folder = Path(os.environ.get("LINEWATCH_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: set LINEWATCH_SHARED")
    return folder


@pytest.fixture(scope="session")
def plate_model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny fitted model, made once: PaDiM with random weights on 64x64 pictures of a plate."""
    from inference.training.fit import fit_model  # most tests need no torch
    from inference.training.recipe import recipe  # most tests need no torch

    folder = tmp_path_factory.mktemp("plates")
    write_plates(folder / "data" / "train" / "good", 20)
    write_plates(folder / "data" / "calibration" / "good", 40, first=100)
    made = recipe(
        "padim", {"dimensions": 20}, preprocessing=Preprocessing(size=(64, 64)), weights="random", device="cpu"
    )
    bundle = fit_model(made, str(folder / "data"), folder / "models" / "plate")
    # It is shown belts too: with a scene they would be a camera that was knocked.
    bundle.set_calibration((bundle.calibration() or {}) | {"scene": None})
    return bundle


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = _skipped(terminalreporter)
    if skipped:
        terminalreporter.section("CI lets nothing be skipped")
        for name in skipped:
            terminalreporter.line(name)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and _skipped(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _skipped(reporter: pytest.TerminalReporter) -> list[str]:
    if os.environ.get("CI", "").lower() != "true":
        return []
    skipped = reporter.stats.get("skipped", [])
    # A GPU is the one thing that CI need not have.
    return [f"{report.nodeid}: {report.longrepr}" for report in skipped if "gpu" not in report.keywords]
