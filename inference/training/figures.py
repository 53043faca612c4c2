"""How all figures look, and how they are written."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from storage.errors import StorageFull


def plain(axes: Axes) -> Axes:
    """Give axes a pale grid behind what they show, and two spines."""
    axes.grid(visible=True, color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def save(figures: Mapping[str, Figure], folder: Path) -> list[Path]:
    """Write figures as PNG files by their names, into a folder that is created; the files.

    Raises:
        StorageFull: the folder cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=140, bbox_inches="tight", facecolor="white")
            written.append(path)
    except OSError as exc:
        raise StorageFull(f"plots cannot be written to {folder}: {exc.strerror}; name another --plots folder") from exc
    return written
