import random
import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from inference.turns import Turns


@given(st.permutations(range(6)))
def test_results_are_released_in_order_of_tickets_and_as_soon_as_they_can(order):
    released = []
    turns = Turns(released.append)
    tickets = [turns.ticket() for _ in order]
    for count, ticket in enumerate(order, start=1):
        turns.give(tickets[ticket], ticket)
        given_so_far = set(order[:count])
        due = next(n for n in range(7) if n not in given_so_far)
        assert released == list(range(due))


def test_threads_that_give_at_once_lose_and_overtake_nothing():
    released = []

    def release(number):
        time.sleep(random.Random(number).random() / 2000)
        released.append(number)

    turns = Turns(release)
    tickets = [turns.ticket() for _ in range(120)]
    random.Random(0).shuffle(tickets)
    givers = [
        threading.Thread(target=lambda mine: [turns.give(n, n) for n in mine], args=(tickets[lane::4],))
        for lane in range(4)
    ]
    for giver in givers:
        giver.start()
    for giver in givers:
        giver.join(10)
    assert released == list(range(120))
