"""The pictures of alerts that people said were normal, as the model of their line sees them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from inference.training.images import PreparedImages
from ingest.errors import ImageError
from ingest.pictures import read_picture
from ingest.preprocess import RGB, Preprocessing, prepare
from storage.evidence import FRAME
from storage.records import Alert, Label

NORMAL = (Label.FALSE_ALARM, Label.KNOWN_VARIATION)
"""What may be learned from; a true defect never is."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of an alert; `picture` is None where it cannot be learned from, for the reason given."""

    alert: str
    evidence: str
    """Its folder, relative to the evidence."""
    picture: RGB | None
    reason: str = ""


def confirmed_frames(alerts: Iterable[Alert], evidence: Path, preprocessing: Preprocessing) -> list[Frame]:
    """Read what was shown of alerts: the worst frame of each, and the one it was raised by; nothing that nobody saw.

    A picture is the camera's own if it has the size of its line's latest one; capture may not have been able to send
    it, then it is what the model saw. Any other size is neither.

    Args:
        alerts: labelled, by line and time.
        evidence: folder of the pictures.
        preprocessing: of the model, with the region and mask of the line.

    Raises:
        ValueError: an alert is not labelled normal.
    """
    frames: dict[str, Frame] = {}
    for alert in alerts:
        if alert.label not in NORMAL:
            raise ValueError(f"alert {alert.id} is labelled {alert.label}: only what is normal may be learned")
        camera = _size(evidence / "latest" / f"{alert.line}.jpg")
        for folder in (alert.worst_evidence, alert.evidence):
            if folder is not None and folder not in frames:
                frames[folder] = _frame(alert.id, folder, evidence, preprocessing, camera)
    return list(frames.values())


def pictures(frames: Iterable[Frame]) -> PreparedImages:
    """Those that can be learned from, in their order."""
    return PreparedImages([frame.picture for frame in frames if frame.picture is not None])


def _frame(
    alert: str, folder: str, evidence: Path, preprocessing: Preprocessing, camera: tuple[int, int] | None
) -> Frame:
    try:
        picture = read_picture(evidence / folder / FRAME)
        size = (picture.shape[1], picture.shape[0])
        cut = preprocessing.roi is not None or preprocessing.mask is not None
        if size == preprocessing.size and size == camera and cut:
            return Frame(alert, folder, None, "the camera's size is the model's: whether it was cut is not known")
        if size == preprocessing.size:
            preprocessing = preprocessing.model_copy(update={"roi": None, "mask": None})
        elif camera not in (None, size):
            said = f"{size[0]}x{size[1]} is neither the camera's size nor the model's"
            return Frame(alert, folder, None, said)
        return Frame(alert, folder, prepare(picture, preprocessing))
    except ImageError as error:
        return Frame(alert, folder, None, str(error))


def _size(latest: Path) -> tuple[int, int] | None:
    """Width and height of a line's latest picture; None: there is none."""
    try:
        height, width = read_picture(latest).shape[:2]
    except ImageError:
        return None
    return width, height
