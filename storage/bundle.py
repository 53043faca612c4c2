"""One version of a model: a sealed folder whose manifest names every file by its hash.

::

    models/<name>/<version>/
        manifest.json               what it is, and the sha256 of every other file
        tensors.safetensors
        calibration-<sha256>.json   named by its content: a new calibration never overwrites the one in use
        reference/                  images for the parity gate
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import safetensors
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.numpy import load_file

from storage.durable import on_disk, replace_synced
from storage.errors import BundleError

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
"""Names of models and files: safe in a path, a key and a page."""
MANIFEST = "manifest.json"
TENSORS = "tensors.safetensors"
REFERENCE = "reference"

Tensors = dict[str, NDArray[Any]]
FileName = Annotated[str, Field(pattern=rf"^{NAME}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """What a bundle is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    name: FileName
    version: Annotated[int, Field(ge=1)]
    detector: str
    """Key of the table of detectors."""
    settings: dict[str, Any]
    """The detector's hyper-parameters: they rebuild the empty module."""
    preprocessing: dict[str, Any]
    """How pictures become inputs, in fitting and serving alike."""
    backbone: str | None = None
    backbone_sha256: Sha256 | None = None
    tensors: dict[FileName, Sha256]
    """File -> sha256."""
    data_fingerprint: str
    """Hash of the training images."""
    n_train: Annotated[int, Field(ge=0)]
    """How many images it has learned from."""
    metrics: dict[str, Any]
    code_version: str
    created: str
    """UTC, ISO 8601."""
    calibration_sha256: Sha256 | None = None
    reference: dict[FileName, Sha256]
    """File in `reference/` -> sha256."""


class Bundle:
    """One version of a model on disk.

    Attributes:
        path: its folder.
        manifest: what it is.

    Raises:
        BundleError: it has no manifest, one of another version of linewatch, or files are missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = _read_manifest(path)
        missing = [file.name for file, _ in self._files() if not file.is_file()]
        if missing:
            raise BundleError(f"{path}: {', '.join(missing)} is missing: copy the whole folder again, or fit anew")

    @property
    def ref(self) -> str:
        """`name@version`."""
        return f"{self.manifest.name}@{self.manifest.version}"

    def tensors(self) -> Tensors:
        """Learned tensors by name, bit for bit as they were written.

        Raises:
            BundleError: a file is not the one that was written.
        """
        loaded: Tensors = {}
        for file, sha256 in self.manifest.tensors.items():
            _check(self.path / file, sha256)
            try:
                with on_disk(self.path / file):
                    loaded |= load_file(self.path / file)
            except (safetensors.SafetensorError, ValueError) as exc:
                raise BundleError(f"{self.path / file}: is no safetensors file ({exc}): fit anew") from exc
        return loaded

    def calibration(self) -> dict[str, Any] | None:
        """What `set_calibration` was given last; None when it was never calibrated.

        Raises:
            BundleError: the file is not the one that was written.
        """
        sha256 = self.manifest.calibration_sha256
        if sha256 is None:
            return None
        path = self.path / calibration_file(sha256)
        _check(path, sha256)
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found

    def set_calibration(self, calibration: dict[str, Any]) -> None:
        """Replace the calibration; killed at any moment, it leaves either the old one or the new one.

        Raises:
            BundleError: the calibration holds what JSON cannot.
            StorageFull: the disk is full; the old calibration stays.
        """
        data = encode_calibration(calibration)
        old, new = self.manifest.calibration_sha256, digest(data)
        manifest = self.manifest.model_copy(update={"calibration_sha256": new})
        with on_disk(self.path):
            replace_synced(self.path / calibration_file(new), data)
            replace_synced(self.path / MANIFEST, encode_manifest(manifest))
            self.manifest = manifest
            if old not in (None, new):
                (self.path / calibration_file(str(old))).unlink(missing_ok=True)

    def verify(self) -> None:
        """Check every file against its hash.

        Raises:
            BundleError: names the first that differs.
        """
        if self.path.absolute().parts[-2:] != (self.manifest.name, str(self.manifest.version)):
            raise BundleError(
                f"{self.path}: its manifest says {self.ref}: put it at {self.manifest.name}/{self.manifest.version}"
            )
        for file, sha256 in self._files():
            _check(file, sha256)

    def _files(self) -> list[tuple[Path, str]]:
        manifest = self.manifest
        files = [(self.path / name, sha256) for name, sha256 in manifest.tensors.items()]
        if manifest.calibration_sha256 is not None:
            sha256 = manifest.calibration_sha256
            files.append((self.path / calibration_file(sha256), sha256))
        return files + [(self.path / REFERENCE / name, sha256) for name, sha256 in manifest.reference.items()]


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def calibration_file(sha256: str) -> str:
    """Name of a calibration with this content."""
    return f"calibration-{sha256[:16]}.json"


def encode_calibration(calibration: dict[str, Any]) -> bytes:
    """Calibration as JSON; numbers read back exactly.

    Raises:
        BundleError: it holds what JSON cannot.
    """
    try:
        return json.dumps(calibration, allow_nan=False, indent=1).encode()
    except (TypeError, ValueError) as exc:
        raise BundleError(f"calibration cannot be written ({exc}): give finite numbers, texts and lists") from exc


def encode_manifest(manifest: Manifest) -> bytes:
    """Manifest as JSON for people and `Bundle`."""
    return manifest.model_dump_json(indent=2).encode()


def contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """The array in C order, its shape kept (numpy's own `ascontiguousarray` gives a scalar an axis)."""
    return array if array.flags.c_contiguous else np.array(array, order="C")


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except FileNotFoundError as exc:
        raise BundleError(f"{path}: holds no {MANIFEST}: `linewatch models list` shows the models there are") from exc
    except OSError as exc:
        raise BundleError(f"{file}: {exc.strerror}: check the path and who may read it") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        where = where[:200]  # it may quote the file
        raise BundleError(f"{file}: {where}: {first['msg']}: fit anew, or use the linewatch that wrote it") from exc


def _check(file: Path, sha256: str) -> None:
    try:
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as exc:
        raise BundleError(f"{file}: {exc.strerror}: copy the whole bundle again, or fit anew") from exc
    if found != sha256:
        raise BundleError(
            f"{file}: sha256 {found[:12]}… is not the manifest's {sha256[:12]}…: copy the bundle again, or fit anew"
        )
