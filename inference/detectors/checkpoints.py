"""The state of an interrupted training, in one file: no pickle, replaced as a whole or not at all."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from inference.errors import FitError


class Checkpoint:
    """Tensors of a module and its optimiser, the step reached, and which training they belong to.

    Args:
        path: the file; None: nothing is kept.
        training: names the training; a checkpoint of another is refused.
    """

    def __init__(self, path: Path | None, training: str) -> None:
        self._path = path
        self._training = hashlib.sha256(training.encode()).hexdigest()

    def save(self, module: nn.Module, optimizer: torch.optim.Optimizer, step: int, epochs: int) -> None:
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
        about = {"training": self._training, "step": step, "epochs": epochs, "optimizer": plain}
        written = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            save_file(
                {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()},
                written,
                metadata={"about": json.dumps(about)},
            )
            with written.open("rb") as file:
                os.fsync(file.fileno())
            written.replace(self._path)
        except (OSError, SafetensorError) as exc:
            written.unlink(missing_ok=True)
            raise FitError(f"checkpoint {self._path} cannot be written: {exc}; make room or train elsewhere") from exc

    def load(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, int] | None:
        """Bring module and optimiser to where the training stood.

        Returns:
            The steps done and the epochs planned, or None when there is no checkpoint.

        Raises:
            FitError: it belongs to another training, or cannot be read.
        """
        if self._path is None or not self._path.is_file():
            return None
        try:
            with safe_open(self._path, framework="pt") as file:
                about = json.loads(file.metadata()["about"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        except (OSError, SafetensorError, KeyError, ValueError) as exc:
            raise FitError(f"checkpoint {self._path} cannot be read ({exc}): remove it and train anew") from exc
        if about["training"] != self._training:
            raise FitError(
                f"checkpoint {self._path} is of another training (other settings, images or weights): give the same "
                "ones again, or fit without --resume to start anew"
            )
        module.load_state_dict({k.removeprefix("module."): t for k, t in tensors.items() if k.startswith("module.")})
        state: dict[int, dict[str, Any]] = {int(number): dict(values) for number, values in about["optimizer"].items()}
        for key, tensor in tensors.items():
            if key.startswith("optimizer."):
                _, number, name = key.split(".", 2)
                state.setdefault(int(number), {})[name] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        return about["step"], about["epochs"]

    def remove(self) -> None:
        """Delete the file: the training is done."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
