"""The state of an interrupted training, in one file: no pickle, replaced as a whole or not at all."""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from inference.errors import FitError


@dataclass(frozen=True, slots=True)
class Reached:
    """Where a training stands.

    Attributes:
        step: gradient steps done.
        epochs: planned in all.
        seconds: spent on the steps, all runs together.
    """

    step: int
    epochs: int
    seconds: float


class Checkpoint:
    """Tensors of a module and its optimiser, the step reached, and which training they belong to.

    Args:
        path: the file; None: nothing is kept.
        training: names the training; a checkpoint of another is refused.
    """

    def __init__(self, path: Path | None, training: str) -> None:
        self._path = path
        self._training = hashlib.sha256(training.encode()).hexdigest()

    def save(self, module: nn.Module, optimizer: torch.optim.Optimizer, reached: Reached) -> None:
        """Replace the file.

        Raises:
            FitError: it cannot be written.
        """
        if self._path is None:
            return
        tensors = {f"module.{key}": tensor for key, tensor in module.state_dict().items()}
        plain: dict[str, dict[str, Any]] = {}
        for number, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{number}.{key}"] = value
                elif value is not None:
                    plain.setdefault(str(number), {})[key] = value
        tensors = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
        about = json.dumps({"training": self._training, **asdict(reached), "optimizer": plain})
        written = _unfinished(self._path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            save_file(tensors, written, metadata={"about": about, "checksum": _checksum(about, tensors)})
            with written.open("rb") as file:
                os.fsync(file.fileno())
            written.replace(self._path)
        except (OSError, SafetensorError) as exc:
            with suppress(OSError):
                written.unlink()
            raise FitError(f"checkpoint {self._path} cannot be written: {exc}; make room or train elsewhere") from exc

    def load(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> Reached | None:
        """Bring module and optimiser to where the training stood.

        Returns:
            Where that is, or None when there is no checkpoint.

        Raises:
            FitError: it belongs to another training, or cannot be read.
        """
        if self._path is None or not self._path.is_file():
            return None
        try:
            with safe_open(self._path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        except (OSError, SafetensorError) as exc:
            raise FitError(f"checkpoint {self._path} cannot be read ({exc}): remove it and train anew") from exc
        if metadata.get("checksum") != _checksum(metadata.get("about", ""), tensors):
            raise FitError(f"checkpoint {self._path} is damaged, or none: remove it and train anew")
        about = json.loads(metadata["about"])
        if about["training"] != self._training:
            raise FitError(
                f"checkpoint {self._path} is of another training (other settings, images or weights): give the same "
                "ones again, or fit without --resume to start anew"
            )
        try:
            _restore(module, optimizer, tensors, about["optimizer"])
            return Reached(about["step"], about["epochs"], about["seconds"])
        except (RuntimeError, ValueError, KeyError) as exc:
            raise FitError(
                f"checkpoint {self._path} is of another version of this detector: remove it and train anew"
            ) from exc


def discard(path: Path) -> bool:
    """Delete a checkpoint: what was learned is in safety, or not wanted.

    Returns:
        Whether there was one.
    """
    there = path.is_file()
    path.unlink(missing_ok=True)
    _unfinished(path).unlink(missing_ok=True)
    return there


def _unfinished(path: Path) -> Path:
    """What is written before it takes the file's place; always of one name, so that kills leave one at most."""
    return path.with_name(f"{path.name}.writing")


def _restore(
    module: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
) -> None:
    module.load_state_dict({k.removeprefix("module."): t for k, t in tensors.items() if k.startswith("module.")})
    state: dict[int, dict[str, Any]] = {int(number): dict(values) for number, values in plain.items()}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".", 2)
            state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _checksum(about: str, tensors: Mapping[str, Tensor]) -> str:
    total = zlib.crc32(about.encode())
    for key, tensor in sorted(tensors.items()):
        total = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, zlib.crc32(key.encode(), total))
    return str(total)
