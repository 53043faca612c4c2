"""What a detector remembers of its training images, when how much that is becomes known only after fitting."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from inference.errors import FitError

Storage = Literal["float32", "float16"]
"""How a gallery is kept. float16 halves it, at a rounding of 0.05 % of each value; searches are made in float32."""


class Gallery(nn.Module):
    """Rows of one shape in a buffer that takes the length of what it is given, also from `load_state_dict`.

    Values are rounded to `storage` before anything is compared with them, so that a model judges after a round trip
    through a bundle as it did before. Until it is filled it holds one row that is not a number.

    Args:
        shape: of a row.
        storage: type the rows are kept in.
    """

    rows: Tensor

    def __init__(self, *shape: int, storage: Storage = "float32") -> None:
        super().__init__()
        dtype: torch.dtype = getattr(torch, storage)
        self.register_buffer("rows", torch.full((1, *shape), torch.nan, dtype=dtype))
        self.register_load_state_dict_pre_hook(_take_length)  # type: ignore[no-untyped-call]  # torch's own

    def __len__(self) -> int:
        """Rows there are."""
        return len(self.rows)

    def begin(self, count: int) -> None:
        """Make room for `count` rows, without letting go of the device; what was there is forgotten."""
        self.rows = self.rows.new_full((count, *self.rows.shape[1:]), torch.nan)

    def put(self, first: int, rows: Tensor) -> None:
        """Write rows from number `first` on.

        Raises:
            FitError: there is no room for them, or float16 cannot hold their values.
        """
        if first + len(rows) > len(self):
            raise FitError(
                f"a gallery for {len(self)} images was given {first + len(rows)}: fit again, images were added"
            )
        kept = self.rows[first : first + len(rows)]
        kept.copy_(rows)
        if bool(kept.isinf().any()) and not bool(rows.isinf().any()):
            raise FitError(f"features up to {float(rows.abs().max()):.3g} do not fit in float16: set storage=float32")

    def end(self, count: int) -> None:
        """Keep the first `count` rows."""
        if count < len(self):
            self.rows = self.rows[:count].clone()


def _take_length(module: nn.Module, state: Mapping[str, Tensor], prefix: str, *_: object) -> None:
    """Let the buffer have as many rows as are about to be loaded; all else must fit as usual."""
    rows = state.get(f"{prefix}rows")
    if isinstance(module, Gallery) and rows is not None and rows.ndim > 0:
        module.begin(len(rows))
