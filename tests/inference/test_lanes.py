import threading
import time

from inference.lanes import MOST_LANES, Lanes


def test_a_batch_alone_gets_all_cores_and_two_share_them():
    lanes = Lanes(6)
    with lanes.enter(0) as alone, lanes.enter(1) as second, lanes.enter(2) as third:
        assert (alone, second, third) == (6, 3, 2)
    with lanes.enter(0) as again:
        assert again == 6


def test_there_are_no_more_lanes_than_cores_and_one_on_a_gpu():
    assert [Lanes(cores).count for cores in (0, 1, 2, 64)] == [1, 1, 2, MOST_LANES]
    assert Lanes(64, single=True).count == 1


def test_a_lane_that_hangs_is_seen_and_one_that_fails_is_free_again():
    lanes = Lanes(2)
    release, entered = threading.Event(), threading.Event()

    def hang():
        with lanes.enter(0):
            entered.set()
            release.wait(10)

    thread = threading.Thread(target=hang)
    thread.start()
    entered.wait(10)
    time.sleep(0.05)
    assert lanes.longest() >= 0.05
    release.set()
    thread.join()
    assert lanes.longest() == 0
