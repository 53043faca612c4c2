"""Where and how much is kept."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class RetentionConfig(BaseModel):
    """Bounds on the evidence store; the oldest pictures go first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_gb: Annotated[float, Field(gt=0)] = 10.0
    """Most evidence kept, in gigabytes."""
    max_days: Annotated[float, Field(gt=0)] = 90.0
    """Oldest evidence kept, in days."""
    min_free_gb: Annotated[float, Field(ge=0)] = 1.0
    """Room always left on the disk, in gigabytes: evidence gives way before anything else does."""


class StorageConfig(BaseModel):
    """Line state, history, evidence, models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    """Folder of everything kept on disk; created with mode 0700."""
    redis: str = "embedded"
    """`embedded`: a private redis-server on a unix socket in `data`; or `redis://…`, `rediss://…`, `unix://…`."""
    history: str | None = None
    """SQLAlchemy URL of alert history; None: SQLite in `data`."""
    retention: RetentionConfig = RetentionConfig()

    @property
    def models(self) -> Path:
        """Folder of the model registry."""
        return self.data / "models"

    @property
    def evidence(self) -> Path:
        """Folder of the evidence store."""
        return self.data / "evidence"

    @property
    def golden(self) -> Path:
        """Folder of the golden samples."""
        return self.data / "golden"
