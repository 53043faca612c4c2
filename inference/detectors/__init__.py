"""The detectors, by name; each is imported only when asked for. The law they obey is in `base`."""

from importlib import import_module
from typing import TYPE_CHECKING

from inference.errors import InferenceError

if TYPE_CHECKING:
    from inference.detectors.base import Detector

DETECTORS: dict[str, str] = {
    "padim": "inference.detectors.padim:Padim",
    "spade": "inference.detectors.spade:Spade",
    "vae": "inference.detectors.vae:Vae",
    "msflow": "inference.detectors.msflow:Msflow",
    "mlff": "inference.detectors.mlff:Mlff",
}
"""Name of a detector to `module:Class`."""


def detector_class(name: str) -> "type[Detector]":
    """Import a detector.

    Raises:
        InferenceError: there is none of that name.
    """
    if name not in DETECTORS:
        raise InferenceError(f"no detector {name!r}: choose one of {', '.join(DETECTORS)}")
    module, _, attribute = DETECTORS[name].partition(":")
    found: type[Detector] = getattr(import_module(module), attribute)
    return found
