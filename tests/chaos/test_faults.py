"""A fault knows whether it hit: on a plant of which nothing runs none does, and none leaves anything behind."""

import random
import signal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.journal import RunJournal, leftovers
from storage.lines import Unsettled
from tests.chaos import camera, faults, journals
from tests.chaos.books import newest_entries
from tests.chaos.faults import FAULTS
from tests.chaos.plant import LOCAL, REMOTE, WORKERS

CAMERAS = [fault for fault in FAULTS if fault.name.startswith("camera")]
TEAR = next(fault for fault in FAULTS if fault.name == "torn journal")
RUN = "00000000000000aa"


class FakePlant:
    """Writes down what is done to it."""

    def __init__(self, folder, running=()):
        self.lines = [LOCAL, REMOTE]
        self.blind = []
        self.clock_ns = 0
        self.other = SimpleNamespace(pull_cable=None, plug_cable=None)
        self.webhook = SimpleNamespace(mood="ok", met=0)
        self.inside = SimpleNamespace(strangers=lambda _: None, owed=lambda _: self.owed)
        self.owed = None
        self.sent = 0
        self.config = SimpleNamespace(
            data=folder, journal=folder, endpoints=lambda: [f"ipc://{folder}/{worker}" for worker in WORKERS]
        )
        self.signals = []
        self._running = set(running)
        self._orders = {}

    def pids(self):
        return dict.fromkeys(self._running, 1)

    def signal(self, role, number):
        if role not in self._running:
            return None
        self.signals.append((role, number))
        return 1

    def step_clock(self, offset_ns):
        self.clock_ns = offset_ns

    def order(self, line, orders):
        self._orders[line] = orders

    def obeyed(self, line, orders, **_):
        return f"capture {line}" in self._running and self._orders.get(line) == orders

    def pictures(self, _):
        return self.sent

    @property
    def at_ease(self):
        """Whether nothing that was done to it lasts."""
        return self.webhook.mood == "ok" and not set(self._orders.values()) - {camera.OK}


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(faults, "_MET_S", 0.05)
    monkeypatch.setattr(journals, "_KEPT_S", 0.0)
    monkeypatch.setattr(journals, "_KNOWN_S", 0.3)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_where_nothing_runs_nothing_is_hit(fault, tmp_path):
    plant = FakePlant(tmp_path)
    assert fault.strike(plant, random.Random(0)) is None
    assert plant.at_ease
    assert (plant.signals, plant.clock_ns, list(tmp_path.iterdir())) == ([], 0, [])


@pytest.mark.parametrize("fault", CAMERAS, ids=lambda fault: fault.name)
def test_a_camera_is_hit_once_it_obeys(fault, tmp_path):
    plant = FakePlant(tmp_path, {f"capture {LOCAL}", f"capture {REMOTE}"})
    heal = fault.strike(plant, random.Random(0))
    assert heal is not None
    assert not plant.at_ease
    heal()
    assert plant.at_ease


def test_the_clock_is_never_set_to_what_it_says(tmp_path):
    plant, draw = FakePlant(tmp_path, {"up"}), random.Random(0)
    step = next(fault for fault in FAULTS if fault.name == "clock step")
    back = 0
    for _ in range(200):
        before = plant.clock_ns
        hit = step.strike(plant, draw) is not None
        assert hit == (plant.clock_ns != before)
        back += hit and plant.clock_ns == 0
    assert back > 10


@pytest.mark.parametrize("mood", ["slow", "down"])
def test_a_sink_is_hit_once_a_message_met_it(mood, tmp_path):
    class Webhook(SimpleNamespace):
        @property
        def met(self):
            self.asked += 1
            return self.asked

    plant = FakePlant(tmp_path)
    plant.webhook = Webhook(mood="ok", asked=0)
    heal = next(fault for fault in FAULTS if fault.name == f"sink {mood}").strike(plant, random.Random(0))
    assert plant.webhook.mood == mood
    heal()
    assert plant.webhook.mood == "ok"


@given(count=st.integers(1, 2**40), seed=st.integers(0, 1000))
def test_a_torn_journal_says_less_than_the_whole_one(tmp_path_factory, count, seed):
    folder = tmp_path_factory.mktemp("journal")
    with RunJournal(folder, line=LOCAL, run=RUN) as journal:
        journal.advance(count)
    journal.path.write_bytes(journals.torn(journal.path.read_bytes(), random.Random(seed)))
    assert all(left.next_seq < count for left in leftovers(folder, line=LOCAL))


def owing(plant, folder, *, known):
    plant.owed, plant.sent = Unsettled(LOCAL, RUN, 3, known, 1), 5
    plant.inside.strangers = lambda _: (1, 0)
    with RunJournal(folder, line=LOCAL, run=RUN) as journal:
        journal.advance(5)
    return journal.path


@pytest.mark.usefixtures("soon")
def test_a_journal_is_torn_while_redis_knows_every_frame_and_some_are_open(tmp_path):
    plant = FakePlant(tmp_path, {f"worker {WORKERS[0]}", f"capture {LOCAL}"})
    path = owing(plant, tmp_path, known=5)
    whole = path.read_bytes()
    heal = TEAR.strike(plant, random.Random(0))
    assert path.read_bytes() != whole
    worker = f"worker {WORKERS[0]}"
    killed = [(f"capture {LOCAL}", signal.SIGKILL), (worker, signal.SIGKILL)]
    assert plant.signals == [(worker, signal.SIGSTOP), *killed]
    heal()
    assert plant.at_ease


@pytest.mark.usefixtures("soon")
def test_a_journal_that_redis_does_not_know_all_of_is_not_torn(tmp_path):
    plant = FakePlant(tmp_path, {f"worker {WORKERS[0]}", f"capture {LOCAL}"})
    path = owing(plant, tmp_path, known=4)
    whole = path.read_bytes()
    assert TEAR.strike(plant, random.Random(0)) is None
    assert (path.read_bytes(), plant.at_ease) == (whole, True)
    assert [number for _, number in plant.signals] == [signal.SIGSTOP, signal.SIGCONT]


@pytest.mark.usefixtures("soon")
def test_a_worker_that_still_loads_is_let_load(tmp_path):
    plant = FakePlant(tmp_path, {f"worker {WORKERS[0]}", f"capture {LOCAL}"})
    owing(plant, tmp_path, known=5)
    plant.inside.strangers = lambda _: (99, 0)  # the one before it said so
    assert TEAR.strike(plant, random.Random(0)) is None
    assert plant.signals == []


def test_a_camera_writes_down_what_it_obeys(tmp_path):
    source = camera.ChaosCamera(f"chaos:{tmp_path}?line={LOCAL}")
    for orders in (camera.OK, camera.DARK, camera.DARK, camera.OK):
        camera.order(tmp_path, LOCAL, orders)
        source.grab()
    entries = newest_entries(tmp_path, LOCAL)
    assert [entry["obeys"] for entry in entries if "obeys" in entry] == [camera.DARK, camera.OK]
    assert [entry["orders"] for entry in entries if "n" in entry] == [camera.OK, camera.DARK, camera.DARK, camera.OK]
