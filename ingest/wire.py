"""What crosses between capture and worker: one msgpack header, and for pictures one buffer that is never copied.

::

    capture                                worker
      ── Beat   "alive, next seq is n" ──>          every second, and the first thing a worker hears of a line
      <── Grant "n frames may be open, this size" ──  every half second: also the worker's sign of life
      ── FrameHeader + pixels ──>
      ── Gap    "these will never come" ──>         given up: skipped, late, lost with a process
      <── Ack   "settled; send the full picture?" ──  only after the verdict is stored
      ── Portrait + JPEG ──>                        the full-resolution evidence that was asked for

`pack` turns a message into ZeroMQ parts, `unpack` is its inverse and accepts nothing else. Every field has a bound, so
that whoever may speak for a line can spoil that line's accounts, but neither memory nor another line's.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import msgpack  # type: ignore[import-untyped]  # msgpack ships no types
import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from ingest.config import LineId
from ingest.errors import WireError
from ingest.figures import Figures
from ingest.frame import MAX_PART, MOST_FRAMES, Condition
from ingest.preprocess import RGB, Preprocessing

MAX_HEADER_BYTES = 32 * 1024
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
MAX_CREDITS = 4096

Buffer = bytes | memoryview
RunId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Seq = Annotated[int, Field(ge=0, lt=MOST_FRAMES)]
"""Number of a frame in its run."""
Nanoseconds = Annotated[int, Field(ge=0, lt=2**62)]
"""Of a clock; wall clocks reach it in 2116. Databases hold 63 bits."""
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
"""Databases hold no NUL."""


def _forwards(span: tuple[int, int]) -> tuple[int, int]:
    if span[0] > span[1]:
        raise ValueError(f"{span[0]} to {span[1]} runs backwards")
    return span


Stretch = Annotated[tuple[Seq, Seq], AfterValidator(_forwards)]
Stretches = Annotated[list[Stretch], Field(min_length=1, max_length=1024)]

_MSGPACK_LIMITS: Final = {
    "max_str_len": 1024,
    "max_bin_len": 0,
    "max_ext_len": 0,
    "max_array_len": 1024,  # stretches of a gap, corners of a mask
    "max_map_len": 64,
}
_MAX_ERROR = 200  # characters of an error's text: it may quote the message


class _Header(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    v: Literal[1] = 1


class FrameHeader(_Header):
    """One prepared frame; the payload is its pixels."""

    kind: Literal["frame"] = "frame"
    line: LineId
    run: RunId
    seq: Seq
    wall_ns: Nanoseconds
    mono_ns: Nanoseconds
    shape: tuple[Annotated[int, Field(ge=1, le=4096)], Annotated[int, Field(ge=1, le=4096)], Literal[3]]
    """Height, width, channels of the payload."""
    dtype: Literal["uint8"] = "uint8"
    encoding: Literal["raw", "none"] = "raw"
    """`none`: no pixels, because `condition` says there is nothing to judge."""
    condition: Condition = Condition.OK
    part: Annotated[Text, Field(max_length=MAX_PART)] | None = None
    preparation: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None
    """Digest of the preprocessing it was asked to be prepared with; two models may differ in more than their size."""
    deadline_ms: Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)] | None = None
    """Time left when the frame was sent, so that no two hosts' clocks are compared."""

    @property
    def id(self) -> str:
        """`line/run/seq`, as of the frame and its verdict."""
        return f"{self.line}/{self.run}/{self.seq}"


class Beat(_Header):
    """The line is alive."""

    kind: Literal["beat"] = "beat"
    line: LineId
    run: RunId
    next_seq: Seq
    """The number the next frame of this run will get: all before it are to be accounted for."""
    settled: Seq = 0
    """All numbers below have had their outcome stored: whoever does not know it has lost it."""
    wall_ns: Nanoseconds
    condition: Condition = Condition.OK
    ended: bool = False
    """True in the last beat of a run."""
    figures: Figures | None = None
    """Queues and counters, for metrics."""

    @model_validator(mode="after")
    def _check_settled(self) -> "Beat":
        if self.settled > self.next_seq:
            raise ValueError(f"{self.settled} numbers are settled, of {self.next_seq}")
        return self


class Gap(_Header):
    """Frames of a run that will never be judged."""

    kind: Literal["gap"] = "gap"
    line: LineId
    run: RunId
    ranges: Stretches
    """First and last number of each stretch, both included. Numbers that have a verdict already keep it."""
    outcome: Literal["unknown", "skipped"]
    reason: Annotated[Text, Field(max_length=64)]
    wall_ns: Nanoseconds


class Portrait(_Header):
    """The full-resolution picture of a settled frame, asked for by its `Ack`; the payload is a JPEG."""

    kind: Literal["portrait"] = "portrait"
    line: LineId
    run: RunId
    seq: Seq


class Grant(_Header):
    """What a worker allows and wants."""

    kind: Literal["grant"] = "grant"
    worker: Annotated[Text, Field(max_length=128)]
    """Names one start of one worker: a restarted worker has a new name and holds nothing of the old one's frames."""
    line: LineId
    credits: Annotated[int, Field(ge=0, le=MAX_CREDITS)]
    """How many frames of this line may be unacknowledged at once."""
    connection: Annotated[int, Field(ge=0, lt=2**53)] = 0
    """Which connection to this worker it goes to. Another one than before: what was under way on that may be lost."""
    preprocessing: Preprocessing | None = None
    """What the line's model wants to see; None while it has no model (frames are then settled as `unknown`)."""
    pinned: bool = False
    """All frames of the line go to one worker while it lives, because the model looks at several in a row."""


class Ack(_Header):
    """Frames that have their verdict in storage: capture may forget them."""

    kind: Literal["ack"] = "ack"
    line: LineId
    run: RunId
    ranges: Stretches
    portrait: bool = False
    """Send the full-resolution picture of these before forgetting them."""
    retry: bool = False
    """Not settled: prepare again by the latest grant (the model and its input size changed) and resend."""


Message = FrameHeader | Beat | Gap | Portrait | Grant | Ack
_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
_WITH_PAYLOAD = (FrameHeader, Portrait)


def pack(message: Message, payload: Buffer | RGB | None = None) -> list[Buffer]:
    """Turn a message into ZeroMQ parts: the header, and the payload's own memory if there is one."""
    header = msgpack.packb(message.model_dump(mode="json", exclude_none=True))
    if payload is None:
        return [header]
    return [header, payload.data.cast("B") if isinstance(payload, np.ndarray) else payload]


def unpack(parts: Sequence[Buffer]) -> tuple[Message, memoryview | None]:
    """Read what `pack` wrote.

    Raises:
        WireError: anything else; the text says what was wrong and never holds the payload.
    """
    if not 1 <= len(parts) <= 2:
        raise WireError(f"a message has 1 or 2 parts, not {len(parts)}")
    if len(parts[0]) > MAX_HEADER_BYTES:
        raise WireError(f"header of {len(parts[0])} bytes is longer than {MAX_HEADER_BYTES}")
    try:
        fields: Any = msgpack.unpackb(parts[0], **_MSGPACK_LIMITS)
    except (ValueError, msgpack.UnpackException) as error:
        raise WireError(f"header is not msgpack within bounds: {type(error).__name__}") from error
    try:
        message = _ADAPTER.validate_python(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        text = f"header field {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise WireError(_plain(text)) from error
    payload = memoryview(parts[1]).cast("B") if len(parts) == 2 else None
    _check_payload(message, payload)
    return message, payload


def pixels(header: FrameHeader, payload: memoryview) -> RGB:
    """View a frame's payload as `[h, w, 3]` uint8, read-only, without a copy."""
    return np.frombuffer(payload, np.uint8).reshape(header.shape)


def _plain(text: str) -> str:
    """Text for a log: one short line, whatever a stranger has put into it."""
    shown = "".join(character if character.isprintable() else "?" for character in text[: _MAX_ERROR + 1])
    return shown if len(shown) <= _MAX_ERROR else f"{shown[:_MAX_ERROR]}…"


def _check_payload(message: Message, payload: memoryview | None) -> None:
    wants = isinstance(message, _WITH_PAYLOAD) and not (isinstance(message, FrameHeader) and message.encoding == "none")
    if wants != (payload is not None):
        raise WireError(f"a {message.kind} message must {'' if wants else 'not '}carry a payload")
    if payload is None:
        return
    if payload.nbytes > MAX_PAYLOAD_BYTES:
        raise WireError(f"payload of {payload.nbytes} bytes is larger than {MAX_PAYLOAD_BYTES}")
    if isinstance(message, FrameHeader):
        height, width, channels = message.shape
        if payload.nbytes != height * width * channels:
            raise WireError(f"payload of {payload.nbytes} bytes is not {width}x{height}x{channels}")
