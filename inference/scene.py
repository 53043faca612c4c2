"""What a fixed camera sees when all is well, and in which way it no longer does."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from ingest.frame import Condition
from ingest.preprocess import RGB


class Scene(BaseModel):
    """Reference of one camera, learned from good pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SceneBuilder:
    """Learns a scene from a stream of good pictures, in bounded memory."""

    def __init__(self) -> None:
        self._seen = 0

    def add(self, pictures: NDArray[np.uint8]) -> Self:
        """Take in good pictures.

        Args:
            pictures: `[B, h, w, 3]` uint8 RGB, prepared like the model's inputs.
        """
        self._seen += len(pictures)
        return self

    def scene(self) -> Scene | None:
        """What was learned; None: too few pictures, or nothing in them stands still."""
        return None


class SceneWatch:
    """Compares pictures with a scene; safe to use from several threads."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def look(self, picture: RGB) -> Condition:
        """OK, MOVED, LIGHT, BLURRED or OCCLUDED.

        Args:
            picture: `[h, w, 3]` uint8 RGB, prepared like those the scene was learned from.
        """
        return Condition.OK
