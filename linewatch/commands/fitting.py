"""The command `fit`: from good images to a model, and the options that other commands about models share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from linewatch import telemetry
from linewatch.commands.promises import read_asked, refuse_smoothing, require_rate, stored_calibration, tell
from linewatch.commands.settings import settings_of_one
from linewatch.datafolder import make

if TYPE_CHECKING:
    from inference.detectors.trained import Training
    from ingest.preprocess import Preprocessing

app = typer.Typer()

BundleRef = Annotated[str, typer.Argument(metavar="BUNDLE", help="MODELS/NAME or MODELS/NAME@3", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1")]
FalseAlarms = Annotated[str, typer.Option(help="How many are accepted: 5%, 1 in 1000, 10ppm, 1 per 8h.")]
Fps = Annotated[
    float | None,
    typer.Option(help="Frames a second, for false alarms per time; default: what the video says.", min=0.001),
]
Every = Annotated[int, typer.Option(help="Of a video or camera, take each so many-th frame.", min=1)]
Smooth = Annotated[
    int | None,
    typer.Option("--smooth", metavar="N", help="Of a video, average maps over N frames before they are scored.", min=1),
]
Limit = Annotated[int, typer.Option(help="Of a video or camera, take at most so many frames.", min=2)]


@app.command()
def fit(
    *,
    detector: Annotated[str, typer.Option(help="Name of the detector.")] = "padim",
    data: Annotated[str, typer.Option(metavar="DIR", help="DIR/train/good, a folder of good images, or a video.")],
    out: Annotated[Path, typer.Option(metavar="MODELS/NAME", help="A new version of this model is written.")],
    backbone: Annotated[
        str | None, typer.Option(help="Network the features come from; default: the profile's.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE|random|NAME", help="Backbone weights; default: the local store.")
    ] = None,
    profile: Annotated[
        Literal["quick", "paper"] | None,
        typer.Option(
            help="Settings to start from: what two cores finish in minutes, or as published; "
            "default: quick on a CPU, paper on CUDA.",
            show_default=False,
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(metavar="N|WxH", help="Size of the model's input in pixels; default: the profile's."),
    ] = None,
    resample: Annotated[Literal["area", "linear", "cubic"], typer.Option(help="How pictures are resized.")] = "area",
    roi: Annotated[
        str | None, typer.Option(metavar="x0,y0,x1,y1", help="Region of interest in pixels of the picture.")
    ] = None,
    mask: Annotated[
        str | None, typer.Option(metavar="x,y,x,y,x,y…", help="Polygon in pixels; what lies outside is not judged.")
    ] = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(help="Everything random derives from it.", min=0)] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="key=value", help="A setting of the detector; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training of this model that was cut off.")] = (
        False
    ),
    minutes: Annotated[
        float | None,
        typer.Option(metavar="N", help="Time a training may take: fewer epochs are made if need be.", min=0.001),
    ] = None,
    features_gb: Annotated[
        float, typer.Option(metavar="N", help="GiB that features kept for later epochs may take; 0: none.", min=0)
    ] = 10,
    checkpoint_s: Annotated[float, typer.Option(help="Seconds between checkpoints.", min=0, hidden=True)] = 60,
    every: Every = 1,
    limit: Limit = 2000,
    false_alarms: FalseAlarms = "5%",
    fps: Fps = None,
    smooth: Smooth = None,
) -> None:
    """Learn what normal looks like from good images, and calibrate."""
    telemetry.configure("fit")
    from inference.detectors import DETECTORS  # noqa: PLC0415 - not needed for --help
    from inference.training.fit import fit_model  # noqa: PLC0415 - brings torch
    from inference.training.recipe import recipe, usual_size  # noqa: PLC0415 - brings torch
    from linewatch.commands.progress import progress_bar  # noqa: PLC0415 - brings rich
    from storage.models import Registry  # noqa: PLC0415 - not needed for --help

    asked = read_asked(false_alarms)
    if detector not in DETECTORS:
        raise typer.BadParameter(f"no detector {detector!r}: choose one of {', '.join(DETECTORS)}")
    options = settings_of_one(settings or [])
    if backbone is not None:
        options["backbone"] = backbone
    size = usual_size(detector, device=device, profile=profile) if image_size is None else _size(image_size)
    try:
        made = recipe(
            detector,
            options,
            preprocessing=_preprocessing(size, resample, roi, mask),
            weights=_weights(weights),
            seed=seed,
            device=device,
            profile=profile,
            training=_training(detector, minutes, features_gb, checkpoint_s),
        )
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    require_rate(asked, data, fps)
    refuse_smoothing(smooth, data)
    if not out.parent.parent.exists():
        make(out.parent.parent)  # most likely the data folder, which nobody else is to look into
    with progress_bar() as report, _saying_how_to_go_on(out, detector):
        bundle = fit_model(
            made, data, out, every=every, limit=limit, fps=fps, smoothing=smooth or 1, resume=resume, report=report
        )
    typer.echo(f"{bundle.ref}: {detector} fitted on {bundle.manifest.n_train} good images")
    tell(stored_calibration(bundle.calibration()), asked, fps)
    promoted = Registry(out.parent).current(out.name)
    if promoted == bundle.manifest.version:
        typer.echo(f"next: linewatch evaluate {out} --data DIR, or linewatch score {out} PATH...")
    else:
        typer.echo(f"next: linewatch models promote {out.parent / bundle.ref} (promoted now: version {promoted})")


def _training(detector: str, minutes: float | None, features_gb: float, checkpoint_s: float) -> "Training":
    """How a detector that trains is to be trained."""
    from inference.detectors import DETECTORS, detector_class  # noqa: PLC0415 - not needed for --help
    from inference.detectors.trained import TrainedDetector, Training  # noqa: PLC0415 - brings torch
    from inference.training.keeping import features_folder  # noqa: PLC0415 - brings torch

    if minutes is not None and not issubclass(detector_class(detector), TrainedDetector):
        trained = ", ".join(name for name in DETECTORS if issubclass(detector_class(name), TrainedDetector))
        raise typer.BadParameter(f"--minutes: {detector} takes what it takes, only {trained} train in epochs")
    return Training(
        every_s=checkpoint_s,
        minutes=minutes,
        features=features_folder() if features_gb else None,
        features_bytes=int(features_gb * 2**30),
    )


@contextmanager
def _saying_how_to_go_on(out: Path, detector: str) -> Iterator[None]:
    """Tell whoever presses Ctrl-C that the work is not lost."""
    from inference.training.keeping import checkpoint_file  # noqa: PLC0415 - brings torch

    try:
        yield
    except KeyboardInterrupt:
        if checkpoint_file(out, detector).is_file():
            typer.echo("linewatch: interrupted; the same command with --resume goes on", err=True)
        raise


def _size(image_size: str) -> tuple[int, int]:
    sides = _whole_numbers(image_size.lower().replace("x", ","), "--image-size", "256 or 320x256")
    if len(sides) > 2:
        raise typer.BadParameter(f"--image-size {image_size!r} is not understood: write one number or WxH")
    return sides[0], sides[-1]


def _preprocessing(
    size: tuple[int, int], resample: Literal["area", "linear", "cubic"], roi: str | None, mask: str | None
) -> "Preprocessing":
    from pydantic import ValidationError  # noqa: PLC0415 - not needed for --help

    from ingest.preprocess import Preprocessing  # noqa: PLC0415 - brings OpenCV

    corners = None if roi is None else _whole_numbers(roi, "--roi", "100,40,900,640")
    if corners is not None and len(corners) != 4:
        raise typer.BadParameter(f"--roi {roi!r} is not understood: write four numbers x0,y0,x1,y1")
    numbers = [] if mask is None else _whole_numbers(mask, "--mask", "10,10,300,10,300,200")
    if len(numbers) % 2:
        raise typer.BadParameter(f"--mask has {len(numbers)} numbers: it is pairs x,y,x,y,x,y…")
    polygon = None if mask is None else list(zip(numbers[::2], numbers[1::2], strict=True))
    regions = {"roi": corners, "mask": polygon}
    try:
        return Preprocessing.model_validate({"size": size, "resample": resample, **regions})
    except ValidationError as exc:
        first = exc.errors()[0]
        said = first["msg"].removeprefix("Value error, ")
        option = "--image-size" if "size" in first["loc"] else "--mask" if "mask" in said else "--roi"
        raise typer.BadParameter(f"{option}: {said}") from exc


def _whole_numbers(text: str, option: str, example: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as exc:
        raise typer.BadParameter(f"{option} {text!r} is not understood: write for example {example}") from exc


def _weights(weights: str | None) -> str | None:
    """A file, `random`, or the name under which the store keeps a backbone's weights."""
    from inference.detectors.backbones import BACKBONES  # noqa: PLC0415 - brings torch
    from inference.weights import store_path  # noqa: PLC0415 - brings torch

    if weights in BACKBONES and not Path(weights).exists():
        return str(store_path() / f"{weights}.safetensors")
    return weights
