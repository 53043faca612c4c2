import pytest

from inference.false_alarms import FalseAlarms, parse_false_alarms


@pytest.mark.parametrize(
    ("text", "fps", "share"),
    [
        ("5%", None, 0.05),
        ("0.5 %", None, 0.005),
        ("10ppm", None, 1e-5),
        ("1 in 1000", None, 1e-3),
        ("0.01", None, 0.01),
        (".01", None, 0.01),
        ("1e-4", None, 1e-4),
        ("1 per 8h", 10.0, 1 / (8 * 3600 * 10)),
        ("2 per day", 1.0, 2 / 86400),
        ("1 per 30 min", 2.0, 1 / 3600),
        ("3 per 2 Hours", 1.0, 3 / 7200),
        ("1 per 10s", 25.0, 1 / 250),
    ],
)
def test_false_alarms_are_understood(text: str, fps: float | None, share: float) -> None:
    asked = parse_false_alarms(text)
    assert asked.text == text
    assert asked.rate(None if fps is None else 1 / fps) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "fps", "says"),
    [
        ("1 per 8h", None, "state fps"),
        ("5", None, "between 0 and 1"),
        ("0%", None, "between 0 and 1"),
        ("1 in 0", None, "0 frames"),
        ("1 per 8ms", 10.0, "not understood"),
        ("seldom", None, "not understood"),
        ("", None, "not understood"),
        ("-1%", None, "not understood"),
        ("1 per 0h", 5.0, "above 0"),
        ("10 per s", 5.0, "between 0 and 1"),
    ],
)
def test_unclear_false_alarms_are_refused_with_the_mend(text: str, fps: float | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_false_alarms(text).rate(None if fps is None else 1 / fps)


@pytest.mark.parametrize("given", [{}, {"share": 0.1, "per_s": 0.1}])
def test_either_a_share_or_a_number_per_time(given: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="either a share or a number per time"):
        FalseAlarms(text="both or none", **given)
