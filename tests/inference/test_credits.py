"""Whatever a configuration allows, a grant can be sent."""

import threading

import pytest

from inference.lanes import MOST_LANES
from inference.link import Link
from ingest import wire
from ingest.preprocess import Preprocessing
from tests.inference.test_link import beat, calling, hear, say


@pytest.mark.parametrize("lanes", [1, MOST_LANES])
def test_the_largest_batches_are_granted_what_the_wire_can_say(tmp_path, lanes):
    link = Link(
        endpoint=f"ipc://{tmp_path}/w",
        keys=None,
        worker="w0-1",
        ahead=(3 + lanes) * 1024,
        serves=lambda _: True,
        wanted=lambda _: Preprocessing(size=(32, 16)),
        pinned=lambda _: False,
        frame=lambda _: None,
        told=lambda _: True,
    )
    link.endpoint = f"ipc://{tmp_path}/w"
    stop = threading.Event()
    thread = threading.Thread(target=link.serve, args=(stop,))
    thread.start()
    try:
        numbers = []
        for _ in range(2):
            with calling(link) as socket:
                say(socket, beat())
                grant = hear(socket, "grant")
                assert grant.credits == min((3 + lanes) * 1024, wire.MAX_CREDITS)
                numbers.append(grant.connection)
        assert len(set(numbers)) == 2, "each connection has a number of its own"
    finally:
        stop.set()
        thread.join(10)
        link.close()
