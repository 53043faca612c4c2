"""A batch's frames by the engine that judges them now, and why some are not judged at all.

A line may have changed its model, or its calibration, since a frame was sent: what serves it is looked up here, once
for each batch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.batching import Batch
from inference.engine import Engine
from inference.inspection import Inspection
from inference.job import Job
from inference.serving import Served
from ingest.frame import Condition


@dataclass(frozen=True, slots=True)
class Group:
    """Frames of one engine in order of time; those without a reason not to be are judged.

    Attributes:
        engine: None: none of them is judged.
        frames: all of them.
    """

    engine: Engine | None
    frames: list[Inspection]

    def pixels(self) -> NDArray[np.uint8] | None:
        """[B, h, w, 3], of those that are judged; None: there are none."""
        judged = [one.job.pixels for one in self.frames if one.reason is None and one.job.pixels is not None]
        return np.stack(judged) if self.engine is not None and judged else None


class Grouping:
    """Sorts batches for one worker.

    Args:
        serving: what judges a line now; None: it has no model.
        refusal: why a line's frames are not to be judged by what serves it; None: they are.
        retry: called with a frame that was prepared for a model before the one that serves now.
    """

    def __init__(
        self,
        *,
        serving: Callable[[str], Served | None],
        refusal: Callable[[str, Served], str | None],
        retry: Callable[[Job], None],
    ) -> None:
        self._serving, self._refusal, self._retry = serving, refusal, retry

    def groups(self, batch: Batch[Job]) -> list[Group]:
        """One for each engine that is needed; frames to be sent again are in none."""
        late = {id(job) for job in batch.late}
        jobs = sorted((*batch.items, *batch.late), key=lambda job: (job.header.run, job.header.seq))
        # Looked up once: it may change at any moment.
        serving = {line: self._serving(line) for line in {job.header.line for job in jobs}}
        groups: dict[int, Group] = {}
        for job in jobs:
            served = serving[job.header.line]
            reason = "late" if id(job) in late else self._unfit(job, served)
            if reason is None and served is not None and not served.fits(job):
                self._retry(job)
                continue
            engine, standard = (None, None) if served is None else (served.engine, served.standard)
            groups.setdefault(id(engine), Group(engine, [])).frames.append(Inspection(job, standard, reason))
        return list(groups.values())

    def _unfit(self, job: Job, served: Served | None) -> str | None:
        """Why a frame cannot be judged; None: it can."""
        if job.header.condition is not Condition.OK:
            return job.header.condition.value
        if served is None:
            return "no model"
        watch = served.standard.watch
        if watch is not None and job.pixels is not None and served.fits(job):
            condition = watch.look(job.pixels)
            if condition is not Condition.OK:
                return condition.value
        return self._refusal(job.header.line, served)
