from hypothesis import given
from hypothesis import strategies as st

from inference.batching import Batcher, LatencyModel


def test_latency_model_recovers_the_fixed_and_the_per_image_cost():
    model = LatencyModel()
    for n in (1, 4, 8, 2, 6) * 10:
        model.observe(n, 0.005 + 0.02 * n)
    assert abs(model.predict(1) - 0.025) < 1e-6
    assert abs(model.predict(16) - 0.325) < 1e-6


def test_latency_model_follows_a_machine_that_became_slower():
    model = LatencyModel()
    for cost in [0.01] * 100 + [0.03] * 100:
        for n in (1, 8):
            model.observe(n, cost * n)
    assert abs(model.predict(4) - 0.12) < 0.01


@given(st.lists(st.tuples(st.integers(1, 64), st.floats(1e-6, 10)), min_size=1, max_size=50), st.integers(1, 64))
def test_predictions_are_never_negative_and_grow_with_the_batch(seen, n):
    model = LatencyModel()
    for size, seconds in seen:
        model.observe(size, seconds)
    assert 0 <= model.predict(n) <= model.predict(n + 1) + 1e-9


def test_batch_is_as_large_as_its_earliest_deadline_allows():
    batcher: Batcher[str, int] = Batcher(max_batch=8)
    for _ in range(20):
        batcher.observe("m", 1, 0.010)
    for item in range(8):
        batcher.add(item, key="m", deadline=100.035)
    key, batch = batcher.take(100.0)
    assert (key, batch.items, batch.late) == ("m", [0, 1, 2], [])


def test_the_model_with_the_most_urgent_frame_goes_first_and_batches_never_mix_models():
    batcher: Batcher[str, str] = Batcher(max_batch=8)
    batcher.add("a1", key="a", deadline=None)
    batcher.add("b1", key="b", deadline=5.0)
    batcher.add("a2", key="a", deadline=None)
    assert batcher.take(0.0)[1].items == ["b1"]
    assert batcher.take(0.0)[1].items == ["a1", "a2"]
    assert batcher.take(0.0) is None


def test_a_prediction_that_is_too_high_is_corrected_because_one_frame_is_always_tried():
    batcher: Batcher[str, int] = Batcher(max_batch=4)
    batcher.observe("m", 1, 60.0)  # a hiccup
    for item in range(3):
        batcher.add(item, key="m", deadline=1.0)
    _, batch = batcher.take(0.0)
    assert batch.items == [2]
    assert batch.late == [0, 1]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.one_of(st.none(), st.floats(0, 10))), max_size=60),
    st.integers(1, 8),
    st.floats(0.001, 2),
)
def test_every_frame_comes_out_once_in_time_or_late(frames, max_batch, cost):
    batcher: Batcher[str, int] = Batcher(max_batch=max_batch)
    for number, (key, deadline) in enumerate(frames):
        batcher.add(number, key=key, deadline=deadline)
    now, out = 0.0, []
    while (taken := batcher.take(now)) is not None:
        key, batch = taken
        assert len(batch.items) <= max_batch
        assert batch.items or batch.late
        for item in batch.items:
            assert frames[item][0] == key
            assert frames[item][1] is None or frames[item][1] >= now
        out += batch.items + batch.late
        if batch.items:
            batcher.observe(key, len(batch.items), cost * len(batch.items))
        now += cost
    assert sorted(out) == list(range(len(frames)))
