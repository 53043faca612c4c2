import itertools

from hypothesis import given
from hypothesis import strategies as st

from ingest.ranges import Ranges

operations = st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(0, 20)), max_size=40)


@given(operations)
def test_ranges_behave_like_a_set_and_stay_minimal(steps):
    ranges, numbers = Ranges(), set()
    for add, first, length in steps:
        if add:
            ranges.add(first, first + length)
            numbers |= set(range(first, first + length + 1))
        else:
            ranges.remove(first, first + length)
            numbers -= set(range(first, first + length + 1))
        stretches = list(ranges)
        assert {n for low, high in stretches for n in range(low, high + 1)} == numbers
        assert len(ranges) == len(numbers)
        assert all(low <= high for low, high in stretches)
        assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(stretches))
