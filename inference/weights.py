"""Where backbone weights come from: a file, the local store, or chance.

Weights are torchvision's tensors under torchvision's names. A file may hold less than the whole network as long as
every tensor up to the last tapped node is there. The network is never asked unless somebody called
`download_weights`; its files are verified against the hash in their name.

The store is a folder of `<backbone>.safetensors`: `$LINEWATCH_WEIGHTS`, else `linewatch/weights` under
`$XDG_DATA_HOME` (`~/.local/share`).
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision import models

from inference.detectors.backbones import BACKBONES, Backbone, expected_tensors
from inference.errors import WeightsError

RANDOM = "random"
_NAMED = 3  # missing tensors spelled out in an error
_STARTS = dict.fromkeys(BACKBONES, ("layer1",)) | {  # first stage of each network
    "efficientnet_b5": ("features.2",),
    "efficientnet_b7": ("features.2",),
    "swin_b": ("features.1",),
}
_ENDS = {name: ("layer4" if start == ("layer1",) else "features.7",) for name, start in _STARTS.items()}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """One file of the store."""

    name: str
    path: Path
    sha256: str
    size: int
    """Bytes."""


def store_path() -> Path:
    """Folder of the local store; it need not exist."""
    if given := os.environ.get("LINEWATCH_WEIGHTS"):
        return Path(given).expanduser()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "linewatch" / "weights"


def list_weights() -> list[StoredWeights]:
    """What the store holds, by name."""
    return [_stored(name) for name in sorted(BACKBONES) if _stored_file(name).is_file()]


def add_weights(name: str, file: Path | str) -> StoredWeights:
    """Copy a file of weights (.safetensors, or .pth/.pt without code) into the store, replacing what was there.

    Raises:
        WeightsError: no such backbone, or the file is not of it.
    """
    _check_name(name)
    tensors = _read(Path(file).expanduser())
    _check(tensors, expected_tensors(name, _STARTS[name]), name, str(file))  # at least the first stage
    target = _stored_file(name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            written = Path(folder) / target.name
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, written)
            written.replace(target)
    except OSError as exc:
        raise WeightsError(
            f"cannot write {target}: {exc.strerror}; name a writable folder in LINEWATCH_WEIGHTS"
        ) from exc
    return _stored(name)


def download_weights(name: str) -> StoredWeights:
    """Fetch torchvision's ImageNet weights (IMAGENET1K_V1, the papers') into the store; the only use of the network.

    Raises:
        WeightsError: no such backbone, the network is out of reach, or the file does not have its promised hash.
    """
    _check_name(name)
    url = _url(name)
    store = store_path()
    try:
        store.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=store) as folder:
            file = Path(folder) / url.rpartition("/")[2]
            promised = file.stem.rpartition("-")[2]
            torch.hub.download_url_to_file(url, str(file), hash_prefix=promised, progress=False)
            return add_weights(name, file)
    except (OSError, RuntimeError) as exc:
        reason = str(exc).splitlines()[0]
        raise WeightsError(
            f"cannot download {name} from {url}: {reason}; or bring a file: weights add {name} FILE"
        ) from exc


def load_backbone_weights(backbone: Backbone, spec: str | Path | None = None, *, seed: int = 0) -> str:
    """Load weights into a backbone.

    Args:
        backbone: gets the weights; its `sha256` names them afterwards.
        spec: a file; `"random"`; or None for the local store.
        seed: of random weights.

    Returns:
        sha256 of the source file (of the tensors, for random ones).

    Raises:
        WeightsError: the source is missing, incomplete, of another network, or not finite.
    """
    if spec == RANDOM:
        tensors = _random(backbone, seed)
        sha256 = _hash_tensors(tensors)
        log.warning(
            "random backbone weights: good for trying things out, but far fewer defects are found than with ImageNet's",
            backbone=backbone.name,
            seed=seed,
        )
    else:
        file = _stored_file(backbone.name) if spec is None else Path(spec).expanduser()
        if spec is None and not file.is_file():
            raise WeightsError(
                f"no weights for {backbone.name} in {store_path()}: name a file, add one (weights add {backbone.name} "
                f"FILE), let it be fetched (weights download {backbone.name}), or say random"
            )
        tensors = _read(file)
        sha256 = _hash_file(file)
        _check(tensors, backbone.expected(), backbone.name, str(file))
    backbone.load_weights(tensors)
    backbone.sha256 = sha256
    return sha256


def recognise(file: Path | str) -> str | None:
    """Name of the backbone whose weights a file holds, in whole or from its first stage on; None: of none known.

    Raises:
        WeightsError: the file is missing or cannot be read.
    """
    return _recognise(_read(Path(file).expanduser()), "")


def _check_name(name: str) -> None:
    if name not in BACKBONES:
        raise WeightsError(f"no backbone {name!r}: choose one of {', '.join(BACKBONES)}")


def _stored_file(name: str) -> Path:
    return store_path() / f"{name}.safetensors"


def _stored(name: str) -> StoredWeights:
    path = _stored_file(name)
    return StoredWeights(name, path, _hash_file(path), path.stat().st_size)


def _url(name: str) -> str:
    return str(models.get_weight(f"{models.get_model_weights(name).__name__}.IMAGENET1K_V1").url)


def _read(file: Path) -> dict[str, Tensor]:
    """Read a flat state dict; nothing in the file is executed."""
    if not file.is_file():
        raise WeightsError(f"no weights file {file}: name a .safetensors or .pth file")
    if file.suffix not in {".safetensors", ".pth", ".pt"}:
        raise WeightsError(f"weights file {file} ends in {file.suffix or 'nothing'}: .safetensors or .pth is read")
    if file.suffix == ".safetensors":
        try:
            return dict(load_file(file))
        except (SafetensorError, OSError) as exc:
            raise WeightsError(f"cannot read weights file {file}: {exc}") from exc
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)  # noqa: TID251 - foreign weights; runs no code
    except Exception as exc:  # a broken or hostile pickle may raise anything
        reason = (str(exc) or type(exc).__name__).splitlines()[0]
        raise WeightsError(f"weights file {file} is no plain state dict: {reason}") from exc
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise WeightsError(f"weights file {file} holds more than tensors by name: save the model's state_dict alone")
    return {str(key).removeprefix("module."): tensor for key, tensor in loaded.items()}


def _check(tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], name: str, source: str) -> None:
    missing = [key for key in expected if key not in tensors]
    wrong = [key for key in expected if key in tensors and tuple(tensors[key].shape) != expected[key]]
    if missing or wrong:
        if other := _recognise(tensors, name):
            raise WeightsError(
                f"{source} holds weights of {other}, not of {name}: choose that backbone or another file"
            )
        if missing:
            named = ", ".join(missing[:_NAMED]) + (", …" if len(missing) > _NAMED else "")
            raise WeightsError(f"{source} lacks {len(missing)} of the {len(expected)} tensors {name} needs: {named}")
        key = wrong[0]
        raise WeightsError(
            f"{source} has {len(wrong)} tensors of the wrong shape for {name}: "
            f"{key} is {list(tensors[key].shape)}, should be {list(expected[key])}"
        )
    for key in expected:
        if not tensors[key].is_floating_point() or not bool(tensors[key].isfinite().all()):
            raise WeightsError(f"{source} has values in {key} that are no finite floats: it is damaged")


def _recognise(tensors: Mapping[str, Tensor], name: str) -> str | None:
    """Another known network whose whole first stage is in the file, most tensors first."""
    fits = {}
    for other in BACKBONES:
        first = expected_tensors(other, _STARTS[other])
        if other != name and all(key in tensors and tuple(tensors[key].shape) == first[key] for key in first):
            whole = expected_tensors(other, _ENDS[other])
            fits[other] = sum(key in tensors and tuple(tensors[key].shape) == whole[key] for key in whole)
    return max(fits, key=lambda other: fits[other]) if fits else None


def _random(backbone: Backbone, seed: int) -> dict[str, Tensor]:
    """He-initialised products and identity norms; leaves torch's global generator alone.

    EfficientNet's squeeze-excitation gates (`.fc`) stand half open and Swin's attention sees all places alike: random
    gates would saturate in a network this deep, and then rounding alone turns the features upside down.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for key, shape in backbone.expected().items():
        zero = key.endswith(("bias", "bias_table", "running_mean")) or ".fc" in key
        tensor = torch.zeros(shape) if zero else torch.ones(shape)
        if len(shape) > 1 and not zero:
            nn.init.kaiming_normal_(tensor, generator=generator)
        tensors[key] = tensor
    return tensors


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        digest.update(key.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
