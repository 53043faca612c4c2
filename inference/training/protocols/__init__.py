"""The papers' protocols: which pictures train, which test, and how they become inputs. May import what training may."""

from importlib import import_module
from typing import TYPE_CHECKING

from inference.errors import DataError

if TYPE_CHECKING:
    from inference.training.protocols.base import PaperProtocol

PROTOCOLS: dict[str, str] = {
    "mvtec": "inference.training.protocols.mvtec:Mvtec",
    "rd-mvtec": "inference.training.protocols.rd_mvtec:RdMvtec",
    "btad": "inference.training.protocols.btad:Btad",
    "stc": "inference.training.protocols.stc:Stc",
    "visa": "inference.training.protocols.visa:Visa",
    "kolektorsdd": "inference.training.protocols.kolektorsdd:Kolektorsdd",
}
"""Name of a dataset to `module:Class`."""


def protocol_class(name: str) -> "type[PaperProtocol]":
    """Import a protocol.

    Raises:
        DataError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise DataError(f"no dataset {name!r}: choose one of {', '.join(PROTOCOLS)}")
    module, _, attribute = PROTOCOLS[name].partition(":")
    found: type[PaperProtocol] = getattr(import_module(module), attribute)
    return found
