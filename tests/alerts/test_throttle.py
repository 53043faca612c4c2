import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.origin import answers_to, foreign, local_path
from alerts.throttle import LoginThrottle, Throttle, network_of


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 12), st.floats(0.5, 60))
def test_never_more_than_the_capacity_and_what_has_leaked(gaps: list[float], capacity: int, leak_s: float) -> None:
    throttle, now, allowed = Throttle(capacity=capacity, leak_s=leak_s), 0.0, 0
    for gap in gaps:
        now += gap
        if throttle.wait("a", now) == 0:
            throttle.charge("a", now)
            allowed += 1
        assert allowed <= capacity + now / leak_s + 1e-6


@given(st.floats(0, 1e6), st.integers(1, 12), st.floats(0.5, 60))
def test_after_the_wait_one_more_is_allowed(now: float, capacity: int, leak_s: float) -> None:
    throttle = Throttle(capacity=capacity, leak_s=leak_s)
    for _ in range(capacity):
        assert throttle.wait("a", now) == 0
        throttle.charge("a", now)
    wait_s = throttle.wait("a", now)
    assert 0 < wait_s <= leak_s * 1.001
    assert throttle.wait("a", now + wait_s + 1e-3) == 0


def test_who_knows_the_password_pays_nothing() -> None:
    throttle = LoginThrottle()
    for _ in range(100):
        assert throttle.enter("maria", "192.0.2.1", 0.0) == 0
        throttle.succeeded("maria", "192.0.2.1", 0.0)


def test_an_address_may_not_try_everybody() -> None:
    throttle = LoginThrottle()
    waits = [throttle.enter(f"name-{number}", "192.0.2.1", 0.0) for number in range(40)]
    assert waits.count(0) == 30
    assert waits[-1] == 5
    assert throttle.enter("maria", "192.0.2.2", 0.0) == 0


def test_made_up_names_push_out_nothing() -> None:
    throttle = LoginThrottle()
    while throttle.enter("maria", "192.0.2.1", 0.0) == 0:
        pass
    for number in range(20_000):
        throttle.enter(f"name-{number}", f"10.{number >> 8}.{number & 255}.1", 0.0)
    assert throttle.enter("maria", "192.0.2.99", 0.0) > 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
    ],
)
def test_an_address_of_ipv6_is_its_network(address: str, network: str) -> None:
    assert network_of(address) == network


@given(st.text())
def test_a_path_to_go_on_to_stays_here(text: str) -> None:
    path = local_path(text)
    assert path.startswith("/")
    assert not path.startswith(("//", "/\\"))
    assert path.isascii()
    assert path.isprintable()


@pytest.mark.parametrize("path", ["/", "/report?shift=last&line=a", "/evidence/a/1/heat.jpg", "/a%20b"])
def test_a_path_of_ours_is_kept(path: str) -> None:
    assert local_path(path) == path


@pytest.mark.parametrize(
    ("headers", "ours"),
    [
        ({}, True),
        ({"host": "a:1", "origin": "http://a:1"}, True),
        ({"host": "A.example", "origin": "https://a.example", "sec-fetch-site": "same-origin"}, True),
        ({"host": "a:1", "origin": "http://a:2"}, False),
        ({"host": "a:1", "origin": "null"}, False),
        ({"host": "", "origin": "null"}, False),
        ({"host": "a:1", "sec-fetch-site": "cross-site"}, False),
        ({"host": "a:1", "sec-fetch-site": "none"}, True),
    ],
)
def test_whose_page_it_is(headers: dict[str, str], ours: bool) -> None:
    assert (foreign(headers) is None) is ours


@pytest.mark.parametrize("host", ["", "evil.example", "localhost.evil.example", "1.2.3.4.evil.example", "local host"])
def test_names_that_are_not_ours(host: str) -> None:
    assert not answers_to(host, names=())
    assert answers_to(host, names=[host])
