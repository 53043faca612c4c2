"""Which golden samples of one line are missed: the results of each worker's last showing. Pure."""

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
    """Add a result, and forget what it replaces: the worker's former showing, of which all results have one time.

    A showing begins with what is missed, so that a miss that goes on is not taken for mended in between.

    Args:
        shown: the last results of the line, oldest first.
        challenge: the next one. What is more than a day older is forgotten too: that worker is no longer there.
    """
    new = Shown(
        image=challenge.image,
        worker=challenge.worker,
        expected=challenge.expected,
        status=challenge.status,
        model=challenge.model,
        at_ns=challenge.at_ns,
    )
    kept = [one for one in shown if _stands(one, new)]
    return (*kept, new)[-REMEMBERED:]


def _stands(old: Shown, new: Shown) -> bool:
    if old.worker == new.worker:
        return old.at_ns == new.at_ns and old.image != new.image
    return new.at_ns - old.at_ns <= _DAY_NS
