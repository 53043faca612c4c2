"""The command `detectors`: which there are, and what each costs, counted rather than quoted."""

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from linewatch import telemetry
from linewatch.commands.settings import settings_of_each

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer()


@app.command("detectors")
def list_detectors(
    *,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="detector.key=value", help="A setting of one detector; repeatable."),
    ] = None,
    profile: Annotated[
        Literal["paper", "quick"], typer.Option(help="As published, or what two cores finish in minutes.")
    ] = "paper",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the detectors with their parameters and their multiply-accumulates for one image.

    What a detector remembers of its training images counts as of 242 of them, MVTec AD's mean.
    """
    telemetry.configure("detectors")
    from inference.detectors import DETECTORS  # noqa: PLC0415 - not needed for --help

    options = settings_of_each(settings or [], list(DETECTORS), shared=False)
    found = [_count(name, options[name], profile) for name in DETECTORS]
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        from linewatch.tables import wide_console  # noqa: PLC0415 - brings rich

        wide_console().print(_table(found))


def _count(name: str, options: dict[str, Any], profile: Literal["paper", "quick"]) -> dict[str, Any]:
    """Make a detector, empty, and count."""
    from pydantic import ValidationError  # noqa: PLC0415 - not needed for --help

    from inference.detectors import detector_class  # noqa: PLC0415 - brings torch
    from inference.detectors.backbones import Backbone  # noqa: PLC0415 - brings torch
    from inference.detectors.costs import count_costs  # noqa: PLC0415 - brings torch
    from inference.training.recipe import recipe  # noqa: PLC0415 - brings torch
    from ingest.preprocess import Preprocessing  # noqa: PLC0415 - brings OpenCV

    size = options.pop("image_size", None)
    try:
        preprocessing = None if size is None else Preprocessing.model_validate({"size": size})
        made = recipe(name, options, preprocessing=preprocessing, profile=profile, device="cpu")
    except ValidationError as exc:
        raise typer.BadParameter(f"--set {name}.image_size={size}: write [width, height], 16 to 4096 pixels") from exc
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc
    cls = detector_class(name)
    detector = cls(made.settings)
    costs = count_costs(detector)
    return {
        "name": name,
        "paper": cls.paper,
        "pixel_maps": cls.pixel_maps,
        "parameters": costs.parameters,
        "trainable_parameters": costs.trainable_parameters,
        "macs": costs.macs,
        "head_macs": costs.head_macs,
        "backbone": next((module.name for module in detector.modules() if isinstance(module, Backbone)), None),
        "image_size": list(made.settings.image_size),
    }


def _table(found: list[dict[str, Any]]) -> "Table":
    from rich.table import Table  # noqa: PLC0415 - not needed for --help

    table = Table(box=None, pad_edge=False)
    for heading in ("detector", "backbone", "pixels"):
        table.add_column(heading, no_wrap=True)
    # As MS-Flow's table 4 counts, without the network the features come from.
    for heading in ("input", "parameters", "trainable", "MACs", "MACs of the head\n(as MS-Flow's table 4)"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("paper", overflow="fold")
    for about in found:
        table.add_row(
            about["name"],
            about["backbone"] or "-",
            "map" if about["pixel_maps"] else "no map",
            "{}x{}".format(*about["image_size"]),
            f"{about['parameters'] / 1e6:,.2f} M",
            f"{about['trainable_parameters'] / 1e6:,.2f} M",
            f"{about['macs'] / 1e9:,.2f} G",
            f"{about['head_macs'] / 1e9:,.2f} G",
            about["paper"],
        )
    return table
