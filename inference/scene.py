"""What a fixed camera sees when all is well, and in which way it no longer does."""

from pydantic import BaseModel, ConfigDict


class Scene(BaseModel):
    """Reference of one camera, learned from good pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")
