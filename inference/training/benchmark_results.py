"""Results of benchmarks in a file that survives a kill: each is there as a whole or not at all, and is never redone.

A result is found again by all that made it. Another setting, other weights, other pictures, another version of the
protocol or of this program: another result.
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from inference.errors import DataError
from inference.training.tally import Figures, Tally
from storage.durable import on_disk, replace_synced

SCHEMA = 1


class Makings(BaseModel):
    """Everything that makes a result."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    protocol: int
    """Version of the dataset's protocol."""
    category: str
    content: str
    """Names the pictures, see `inference.training.protocols.pictures.content`."""
    every: int
    """Of training videos, each so many-th frame was learned from."""
    geometry: str
    detector: str
    settings: dict[str, Any]
    """With the seed and the input size."""
    weights: tuple[str, ...]
    """Sha256 of each backbone's weights."""
    device: str
    """Type of the device: another may round, and train, otherwise."""
    code: str
    """Version of linewatch."""

    @property
    def key(self) -> str:
        """Sha256 of it all."""
        return sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()

    @property
    def seed(self) -> int:
        """The detector's."""
        return int(self.settings["seed"])


class Result(BaseModel):
    """One detector on one category."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    makings: Makings
    figures: Figures
    n_train: int
    n_good: int
    n_anomalous: int
    n_regions: int
    """Defective regions in the masks as judged."""
    fit_seconds: float
    judge_seconds: float
    """Of the detector alone."""


class Results:
    """The file.

    Args:
        path: of the JSON file; it need not exist. Beside it lies a folder `<name>.parts` with what figures over all
            categories and interrupted trainings need.

    Raises:
        DataError: the file is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts = path.with_name(f"{path.name}.parts")
        self._results = self._read()

    def get(self, key: str, *, counted: bool) -> Result | None:
        """Find a result; with `counted`, only if its tally's counts are there too."""
        if counted and not self.counts(key).is_file():
            return None
        return self._results.get(key)

    def counts(self, key: str) -> Path:
        """File that holds a tally's counts."""
        return self.parts / f"{key}.npz"

    def add(self, result: Result, tally: Tally | None = None) -> None:
        """Keep a result, and its tally's counts when given; others may write to the file meanwhile.

        Raises:
            storage.errors.StorageError: it cannot be written.
        """
        key = result.makings.key
        with on_disk(self.path):
            self.parts.mkdir(parents=True, exist_ok=True)
            if tally is not None:
                unfinished = self.parts / f"{key}.writing.npz"
                np.savez_compressed(unfinished, **tally.counts())  # type: ignore[arg-type]  # its stubs want a bool
                unfinished.replace(self.counts(key))
            with self._alone():
                self._results = {**self._read(), key: result}
                self._write([])

    def conclude(self, tables: list[dict[str, Any]]) -> None:
        """Keep what people read beside the results it was made from; the next result drops it.

        Raises:
            storage.errors.StorageError: it cannot be written.
        """
        with on_disk(self.path):
            self.parts.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self._results = {**self._read(), **self._results}
                self._write(tables)

    def _write(self, tables: list[dict[str, Any]]) -> None:
        results = {key: result.model_dump(mode="json") for key, result in self._results.items()}
        text = json.dumps({"schema": SCHEMA, "tables": tables, "results": results}, indent=1)
        replace_synced(self.path, f"{text}\n".encode())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.parts / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _read(self) -> dict[str, Result]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            raise DataError(f"{self.path} cannot be read as results ({exc}): name another --json FILE") from exc
        try:
            if not isinstance(found, dict) or found.get("schema") != SCHEMA:
                raise DataError(f"{self.path} holds no results of benchmarks: name another --json FILE")
            return {key: Result.model_validate(entry) for key, entry in found["results"].items()}
        except (ValidationError, KeyError, AttributeError) as exc:
            raise DataError(f"{self.path} holds results of another version: name another --json FILE") from exc
