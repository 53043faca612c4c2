"""What a capture process must be told."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

LineId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""A line's name: letters, digits, `_ . -`, at most 64; safe in a path, a key and a page."""


class CaptureConfig(BaseModel):
    """One camera and how its frames are offered to the workers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: LineId
    """Name of the line this camera watches."""
    source: str
    """Where frames come from: `rtsp://…`, `file.mp4[?rate=max&loop=1]`, `folder/`, `usb:0`, `synthetic:belt?fps=10`."""
    policy: Literal["every", "latest"] = "every"
    """`every`: each frame ends in a verdict. `latest`: the freshest frame wins, the others are counted skips."""
    fps: Annotated[float, Field(gt=0)] | None = None
    """Judge at most this many frames a second (a faster camera is thinned before frames are numbered)."""
    deadline_ms: Annotated[int, Field(ge=10)] | None = None
    """A frame without a verdict this long after capture is `unknown`. None: 2000 for live sources, else never."""
    buffer_mb: Annotated[int, Field(ge=16)] = 256
    """Bound on full-resolution frames kept until they are acknowledged."""
    roi: tuple[int, int, int, int] | None = None
    """Region of interest `[x0, y0, x1, y1]` in pixels of the full picture."""
    mask: tuple[tuple[int, int], ...] | None = None
    """Polygon in pixels of the full picture; what lies outside it is not judged."""
    frozen_after_s: Annotated[float, Field(ge=0)] = 1.5
    """The same picture for this long, and 3 times, means a frozen camera; 0 turns the check off. Live sources only."""
    dark_below: Annotated[float, Field(ge=0, le=255)] = 6.0
    """A picture whose 99th percentile of luminance (0 to 255) lies below this is dark; 0 turns the check off."""
    overexposed_above: Annotated[float, Field(ge=0, le=1)] = 0.8
    """A picture with a larger share of white (luminance 250 or more) is overexposed; 1 turns the check off."""
