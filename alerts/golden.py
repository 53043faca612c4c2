"""Which golden samples of one line are missed: the last result of each sample and worker. Pure."""

from pydantic import BaseModel, ConfigDict

from storage.records import Challenge, Status

REMEMBERED = 512
"""Most results of a line; the oldest go first."""
_DAY_NS = 86_400 * 1_000_000_000


class Shown(BaseModel):
    """How a sample was last judged by a worker."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str
    worker: str
    expected: str
    status: Status
    model: str | None
    at_ns: int

    @property
    def missed(self) -> bool:
        """Whether the model did not judge as a person had said it must."""
        return self.status != self.expected


def show(shown: tuple[Shown, ...], challenge: Challenge) -> tuple[Shown, ...]:
    """Add a result, and forget what it replaces.

    Args:
        shown: the last results of the line, oldest first.
        challenge: the next one. Results more than a day older are forgotten, unless they are of the same worker: that
            worker, or that sample, is no longer there.
    """
    new = Shown(
        image=challenge.image,
        worker=challenge.worker,
        expected=challenge.expected,
        status=challenge.status,
        model=challenge.model,
        at_ns=challenge.at_ns,
    )
    kept = [
        one for one in shown if (one.image, one.worker) != (new.image, new.worker) and new.at_ns - one.at_ns <= _DAY_NS
    ]
    return (*kept, new)[-REMEMBERED:]
