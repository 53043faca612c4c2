"""What a capture tells of its queues with each beat: bounded, and for people and metrics only."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0, lt=2**63)]


class Figures(BaseModel):
    """Queues and counters of one run of a capture; counters begin at 0 with it."""

    # What a newer capture tells beyond this is passed over: nothing is decided by it.
    model_config = ConfigDict(frozen=True, extra="ignore")

    waiting: Count = 0
    """Frames that wait for a worker."""
    in_flight: Count = 0
    """Frames that workers hold."""
    buffered_bytes: Count = 0
    """Pictures held, waiting and in flight."""
    buffer_bytes: Count = 0
    """Most bytes of pictures that are held: `buffer_mb`."""
    untold: Count = 0
    """Numbers given up of which no worker has said yet that storage knows."""
    dropped_messages: Count = 0
    """Messages of workers that were none of the protocol."""
    resent: Count = 0
    """Frames taken back from a worker, to be sent again."""
    source_losses: Count = 0
    """How often the source was lost."""
    workers: Count = 0
    """Workers heard of."""
    given_up: Annotated[dict[Annotated[str, Field(max_length=64)], Count], Field(max_length=16)] = {}
    """Reason -> frames that were given up for it, without being judged."""
