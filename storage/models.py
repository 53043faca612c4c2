"""The model registry: versions of sealed bundles, and which one is promoted.

::

    models/<name>/
        1/ 2/ 3/            bundles, see `storage.bundle`
        current             the promoted version, a number; replaced atomically
        promotions.jsonl    what was promoted and rolled back, oldest first
"""

import json
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any

import safetensors
from safetensors.numpy import save

from storage.bundle import (
    MANIFEST,
    NAME,
    REFERENCE,
    TENSORS,
    Bundle,
    Manifest,
    Tensors,
    calibration_file,
    contiguous,
    digest,
    encode_calibration,
    encode_manifest,
)
from storage.durable import lock, on_disk, replace_synced, sync_folder, write_synced
from storage.errors import BundleError

__all__ = ["Bundle", "Manifest", "Registry", "open_bundle"]

_POINTER = "current"
_HISTORY = "promotions.jsonl"
_LEFT_BEHIND_S = 24 * 3600  # an unfinished folder this old belongs to a writer that was killed


class Registry:
    """A folder of models; any number of processes may write, promote and read at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(
        self,
        name: str,
        *,
        detector: str,
        settings: dict[str, Any],
        preprocessing: dict[str, Any],
        backbone: str | None,
        backbone_sha256: str | None,
        data_fingerprint: str,
        n_train: int,
        metrics: dict[str, Any],
        tensors: Tensors,
        calibration: dict[str, Any] | None,
        reference: dict[str, bytes],
    ) -> Bundle:
        """Write a new version; the first of a name is promoted. Killed at any moment, it leaves no half version.

        Args:
            name: of the model.
            detector: key of the table of detectors.
            settings: the detector's hyper-parameters.
            preprocessing: how pictures become inputs.
            backbone: name of the pretrained network; None: there is none.
            backbone_sha256: hash of its weights.
            data_fingerprint: hash of the training images.
            n_train: how many images it has learned from.
            metrics: figures for people.
            tensors: name -> array, of any shape and numeric dtype.
            calibration: what `Bundle.calibration` gives back; None: not calibrated yet.
            reference: file name -> content of the images for the parity gate.

        Raises:
            BundleError: a name or value cannot be written.
            StorageFull: the disk is full.
        """
        folder = self._folder(name)
        files = {TENSORS: _encode_tensors(tensors)}
        encoded = None if calibration is None else encode_calibration(calibration)
        if encoded is not None:
            files[calibration_file(digest(encoded))] = encoded
        for file, content in reference.items():
            files[f"{REFERENCE}/{_checked(file, 'file')}"] = content
        new = folder / f".new-{uuid.uuid4().hex}"
        with on_disk(folder):
            (new / REFERENCE).mkdir(parents=True)
            try:
                for file, content in files.items():
                    write_synced(new / file, content)
                with self._locked(name):
                    version = self._next_version(name)
                    manifest = Manifest(
                        name=name,
                        version=version,
                        detector=detector,
                        settings=settings,
                        preprocessing=preprocessing,
                        backbone=backbone,
                        backbone_sha256=backbone_sha256,
                        tensors={TENSORS: digest(files[TENSORS])},
                        data_fingerprint=data_fingerprint,
                        n_train=n_train,
                        metrics=metrics,
                        code_version=distribution_version("linewatch"),
                        created=datetime.now(UTC).isoformat(timespec="seconds"),
                        calibration_sha256=None if encoded is None else digest(encoded),
                        reference={file: digest(content) for file, content in reference.items()},
                    )
                    write_synced(new / MANIFEST, encode_manifest(manifest))
                    sync_folder(new / REFERENCE)
                    sync_folder(new)
                    new.rename(folder / str(version))
                    sync_folder(folder)
                    if self.current(name) is None:
                        self._point(name, version)
            finally:
                shutil.rmtree(new, ignore_errors=True)
        return Bundle(folder / str(version))

    def resolve(self, ref: str) -> Bundle:
        """Find a bundle by `NAME` (its promoted version) or `NAME@3`.

        Raises:
            BundleError: there is none, or files of it are missing; says what to do.
        """
        match = re.fullmatch(rf"({NAME})(?:@([0-9]{{1,9}}))?", ref)
        if match is None:
            raise BundleError(f"{ref[:80]!r} is no model: write NAME or NAME@3")
        name, asked = match[1], match[2]
        there = self.versions(name)
        if not there:
            raise BundleError(
                f"no model {name} in {self.root}: `linewatch models list` shows those there are, "
                f"`linewatch fit --out {self.root / name}` makes it"
            )
        version = int(asked) if asked else self.current(name)
        if version is None:
            raise BundleError(
                f"no version of {name} is promoted: `linewatch models promote {self.root / name}@{there[-1]}`"
            )
        if version not in there:
            listed = ", ".join(map(str, there))
            raise BundleError(
                f"no version {version} of {name} in {self.root}, there are {listed}: "
                f"`linewatch models list`, or `linewatch models promote {self.root / name}@{there[-1]}`"
            )
        return Bundle(self.root / name / str(version))

    def names(self) -> list[str]:
        """Models there are."""
        if not self.root.is_dir():
            return []
        found = sorted(path.name for path in self.root.iterdir() if re.fullmatch(NAME, path.name))
        return [name for name in found if self.versions(name)]

    def versions(self, name: str) -> list[int]:
        """Versions of a model, ascending."""
        folder = self._folder(name)
        if not folder.is_dir():
            return []
        return sorted(int(path.parent.name) for path in folder.glob(f"*/{MANIFEST}") if path.parent.name.isdecimal())

    def current(self, name: str) -> int | None:
        """The promoted version.

        Raises:
            BundleError: the pointer holds no number.
        """
        pointer = self._folder(name) / _POINTER
        try:
            text = pointer.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as exc:
            raise BundleError(f"{pointer}: cannot be read ({exc}): `linewatch models promote` writes it anew") from exc
        if not text.isdecimal():
            raise BundleError(f"{pointer}: {text[:20]!r} is no version: `linewatch models promote` writes it anew")
        return int(text)

    def promote(self, name: str, version: int) -> None:
        """Let `NAME` mean this version from now on.

        Raises:
            BundleError: there is no such version, or its files are not what its manifest says.
        """
        self.resolve(f"{_checked(name, 'model')}@{version}").verify()
        with on_disk(self._folder(name)), self._locked(name):
            self._point(name, version)

    def rollback(self, name: str) -> int:
        """Promote what was promoted before; the version promoted now.

        Raises:
            BundleError: nothing was promoted before, or it is no longer there.
        """
        self.resolve(name)
        with on_disk(self._folder(name)), self._locked(name):
            there = self.versions(name)
            earlier = [version for version in self._before(name, self.current(name)) if version in there]
            if not earlier:
                raise BundleError(
                    f"{name} was never promoted to another version: `linewatch models promote {self.root / name}@N`"
                )
            self._point(name, earlier[-1], action="rollback")
        return earlier[-1]

    def _folder(self, name: str) -> Path:
        return self.root / _checked(name, "model")

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Be the only one who numbers or promotes; the kernel frees the lock of a killed process."""
        with (self._folder(name) / ".lock").open("a") as file:
            lock(file.fileno(), file.name)
            yield

    def _next_version(self, name: str) -> int:
        """One more than any there was; clears away what killed writers left."""
        for left in self._folder(name).glob(".new-*"):
            if time.time() - left.stat().st_mtime > _LEFT_BEHIND_S:
                shutil.rmtree(left, ignore_errors=True)
        return 1 + max([0, *self.versions(name), *(version for _, version in self._history(name))])

    def _point(self, name: str, version: int, *, action: str = "promote") -> None:
        # The pointer first: it alone decides, and `_before` copes with a history that lacks the last line.
        folder = self._folder(name)
        replace_synced(folder / _POINTER, f"{version}\n".encode())
        at = datetime.now(UTC).isoformat(timespec="seconds")
        history = folder / _HISTORY
        so_far = history.read_bytes() if history.exists() else b""
        entry = json.dumps({"action": action, "version": version, "at": at})
        replace_synced(history, so_far + f"{entry}\n".encode())

    def _history(self, name: str) -> list[tuple[str, int]]:
        path = self._folder(name) / _HISTORY
        try:
            lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
            return [(entry["action"], int(entry["version"])) for entry in map(json.loads, lines)]
        except (ValueError, KeyError, TypeError) as exc:
            raise BundleError(f"{path}: is damaged ({exc}): remove it; rolling back starts anew") from exc

    def _before(self, name: str, current: int | None) -> list[int]:
        """Versions promoted before the current one, as a stack: a rollback takes the top away."""
        stack: list[int] = []
        for action, version in self._history(name):
            if action == "rollback" and version in stack:
                del stack[len(stack) - stack[::-1].index(version) :]
            elif not stack or stack[-1] != version:
                stack.append(version)
        if current in stack:
            del stack[len(stack) - 1 - stack[::-1].index(current) :]
        return stack


def open_bundle(path_or_ref: str) -> Bundle:
    """Open what the command line names: `MODELS/NAME` (its promoted version), `MODELS/NAME@3`, or a version's folder.

    Raises:
        BundleError: there is none; says what to do.
    """
    path = Path(path_or_ref)
    if (path / MANIFEST).is_file():
        return Bundle(path)
    return Registry(path.parent).resolve(path.name)


def _encode_tensors(tensors: Tensors) -> bytes:
    try:
        encoded: bytes = save({name: contiguous(array) for name, array in tensors.items()})
    except (KeyError, ValueError, TypeError, safetensors.SafetensorError) as exc:
        raise BundleError(f"tensors cannot be written ({exc}): give arrays of numbers") from exc
    return encoded


def _checked(name: str, what: str) -> str:
    if re.fullmatch(NAME, name) is None:
        raise BundleError(f"{name[:80]!r} is no name of a {what}: use letters, digits, `_ . -`, at most 64")
    return name
