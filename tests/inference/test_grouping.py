from types import SimpleNamespace

import numpy as np
import pytest

from inference.batching import Batch
from inference.calibration import Calibration
from inference.grouping import Grouping
from inference.job import Job
from inference.judge import Standard
from inference.serving import Served
from ingest.frame import Condition
from ingest.preprocess import Preprocessing
from ingest.wire import FrameHeader

STANDARD = Standard(model="m@1", threshold=1.0, calibration=Calibration(method="split", scores=(0.1, 0.2)))


def served(size=(16, 16), watch=None):
    """A line's engine, as far as grouping looks at it."""
    engine = SimpleNamespace(preprocessing=Preprocessing(size=size))
    standard = STANDARD if watch is None else SimpleNamespace(watch=watch)
    return Served(engine, standard, None)


def frame(seq, line="a", condition=Condition.OK, value=0):
    header = FrameHeader(
        line=line, run="0" * 16, seq=seq, wall_ns=seq, mono_ns=seq, shape=(16, 16, 3), condition=condition
    )
    pixels = np.full((16, 16, 3), value, np.uint8) if condition is Condition.OK else None
    return Job(b"cam", header, pixels, None)


def refusing(reason=None):
    return lambda *_: reason


def group(batch, lines, refusal=refusing()):  # noqa: B008 - it holds nothing
    again = []
    grouping = Grouping(serving=lines.get, refusal=refusal, retry=again.append)
    return grouping.groups(batch), again


def test_lines_of_one_engine_are_judged_together_in_order_of_time():
    one, other = served(), served()
    batch = Batch(items=[frame(3, value=3), frame(1, "b", value=1), frame(2, "c", value=2)], late=[])
    groups, again = group(batch, {"a": one, "b": one, "c": other})
    assert [(one.engine is each.engine, [f.job.header.seq for f in each.frames]) for each in groups] == [
        (True, [1, 3]),
        (False, [2]),
    ]
    assert groups[0].pixels().shape == (2, 16, 16, 3)
    assert groups[0].pixels()[:, 0, 0, 0].tolist() == [1, 3]
    assert not again


def test_what_is_not_judged_keeps_its_place_and_says_why():
    one = served()
    batch = Batch(items=[frame(2), frame(0, condition=Condition.FROZEN), frame(4, "b")], late=[frame(1)])
    groups, _ = group(batch, {"a": one})
    assert [[(f.job.header.seq, f.reason) for f in each.frames] for each in groups] == [
        [(0, "frozen"), (1, "late"), (2, None)],
        [(4, "no model")],
    ]
    assert len(groups[0].pixels()) == 1
    assert groups[1].engine is None
    assert groups[1].pixels() is None
    assert [f.standard for f in groups[1].frames] == [None]


def test_what_was_prepared_for_the_model_before_is_asked_for_again():
    groups, again = group(Batch(items=[frame(1), frame(2)], late=[frame(0)]), {"a": served(size=(32, 32))})
    assert [job.header.seq for job in again] == [1, 2]
    assert [[f.reason for f in each.frames] for each in groups] == [["late"]]  # its verdict does not need the pixels
    assert groups[0].pixels() is None


@pytest.mark.parametrize(("seen", "reason"), [(Condition.MOVED, "moved"), (Condition.OK, "golden sample missed")])
def test_a_camera_that_sees_another_scene_comes_before_a_line_that_is_held(seen, reason):
    watched = served(watch=SimpleNamespace(look=lambda _: seen))
    [only], _ = group(Batch(items=[frame(1)], late=[]), {"a": watched}, refusing("golden sample missed"))
    assert [f.reason for f in only.frames] == [reason]
    assert only.pixels() is None


def test_what_serves_a_line_is_looked_up_once_for_a_batch():
    asked = []
    grouping = Grouping(serving=lambda line: asked.append(line) or served(), refusal=refusing(), retry=asked.append)
    grouping.groups(Batch(items=[frame(seq) for seq in range(4)], late=[]))
    assert asked == ["a"]
