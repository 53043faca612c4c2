import json
import os

import pytest

from alerts.board import Board
from alerts.processes import Processes
from storage.config import StorageConfig
from storage.history import History

WELL = {"role": "capture belt", "pid": 7, "state": "running", "restarts": 3, "last_exit": 1, "last_hang": None}
LOOP = {"role": "worker w0", "pid": None, "state": "crash-loop", "restarts": 9, "last_exit": 70, "last_hang": None}
HUNG = {"state": "hung", "pid": 8, "restarts": 1, "last_exit": -9, "last_hang": "says nothing for 15 s"}


@pytest.fixture
def up(tmp_path):
    def up(*roles, pid=None, **more):
        told = {"pid": os.getppid() if pid is None else pid, "roles": roles, **more}
        (tmp_path / "up.json").write_text(json.dumps(told), encoding="utf-8")
        return Processes(tmp_path / "up.json")

    return up


def test_what_does_not_stay_up_is_said_in_one_line_each(up):
    assert up(WELL, LOOP, redis=HUNG).ailments() == [
        (
            "worker w0: ends again and again soon after its start: started again 9 times, "
            "the last time with exit code 70; "
            "its log says why"
        ),
        (
            "redis: makes no progress and does not end: started again 1 times, the last time with signal 9 "
            "(says nothing for 15 s); its log says why"
        ),
    ]
    assert up(WELL).ailments() == []


def test_a_file_of_another_supervisor_says_nothing(up):
    assert up(LOOP, pid=1).ailments() == []


def test_none_is_well_and_a_broken_one_is_told(tmp_path):
    assert Processes(tmp_path / "up.json").ailments() == []
    (tmp_path / "up.json").write_text("{", encoding="utf-8")
    [said] = Processes(tmp_path / "up.json").ailments()
    assert "cannot be read" in said


def test_the_board_shows_it(up, tmp_path):
    history = History.open(StorageConfig(data=tmp_path))
    board = Board(history, {}, up(LOOP).ailments)
    assert board.view().trouble == tuple(board.ailments())
    assert board.ailments()[0].startswith("worker w0: ")
    history.close()
