"""What an operator asks for: how many false alarms are acceptable, as a share of good parts or per time."""

import re
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}  # by the first letter of the unit
_NUMBER = r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)"
_SHARE = re.compile(rf"{_NUMBER}\s*(%|ppm|)")
_ONE_IN = re.compile(rf"{_NUMBER}\s+in\s+{_NUMBER}")
_PER_TIME = re.compile(rf"{_NUMBER}\s+per\s+{_NUMBER}?\s*(s|secs?|seconds?|m|mins?|minutes?|h|hours?|d|days?|w|weeks?)")


class FalseAlarms(BaseModel):
    """Either a share of good images, or a number per time; `parse_false_alarms` reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str
    """As it was asked."""
    share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Of good images (of a video: of its blocks, see `inference.calibration`)."""
    per_s: Annotated[float, Field(gt=0)] | None = None
    """False alarms a second."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.share is None) == (self.per_s is None):
            raise ValueError(f"false alarms {self.text!r}: either a share or a number per time")
        return self

    def rate(self, unit_s: float | None) -> float:
        """Share of units that may raise a false alarm, where a unit is an image or a block of a video.

        Args:
            unit_s: seconds from one unit to the next; only what is asked per time needs it.

        Raises:
            ValueError: it is needed and not known, or there would be a false alarm in every unit.
        """
        if self.share is not None:
            return self.share
        if unit_s is None or self.per_s is None:
            raise ValueError(
                f"false alarms {self.text!r} is per time: state fps, or a share such as '5%' or '1 in 1000'"
            )
        share = self.per_s * unit_s
        if not 0 < share < 1:
            each = f"{share:.3g} in each unit of {unit_s:.3g} s"
            raise ValueError(f"false alarms {self.text!r} is {each}: it must lie between 0 and 1, ask for fewer")
        return share


USUAL = FalseAlarms(text="5%", share=0.05)
"""What is asked where nobody says anything else."""


def parse_false_alarms(text: str) -> FalseAlarms:
    """Read `5%`, `10ppm`, `0.01`, `1 in 1000`, or per time: `1 per 8h`, `2 per day`, `1 per 30 min`.

    Raises:
        ValueError: one line saying what is wrong with `text` and how to write it.
    """
    plain = text.strip().lower()
    if match := _SHARE.fullmatch(plain):
        return _of_share(text, float(match[1]) * {"%": 1e-2, "ppm": 1e-6, "": 1.0}[match[2]])
    if match := _ONE_IN.fullmatch(plain):
        if float(match[2]) == 0:
            raise ValueError(f"false alarms {text!r}: nothing happens in 0 frames, write for example '1 in 1000'")
        return _of_share(text, float(match[1]) / float(match[2]))
    if match := _PER_TIME.fullmatch(plain):
        seconds = float(match[2] or 1) * _SECONDS[match[3][0]]
        if seconds <= 0 or float(match[1]) <= 0:
            raise ValueError(f"false alarms {text!r}: both numbers must be above 0")
        return FalseAlarms(text=text, per_s=float(match[1]) / seconds)
    raise ValueError(f"false alarms {text!r} is not understood: write '1 per 8h', '5%', '10ppm', '1 in 1000' or '0.01'")


def _of_share(text: str, share: float) -> FalseAlarms:
    if not 0 < share < 1:
        raise ValueError(f"false alarms {text!r} is {share:g} of good frames: it must lie between 0 and 1")
    return FalseAlarms(text=text, share=share)
