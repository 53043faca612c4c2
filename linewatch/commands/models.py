"""Commands about what is kept: `models` (versions of bundles) and `weights` (of backbones)."""

import json
from pathlib import Path
from typing import Annotated

import typer

from linewatch import telemetry
from linewatch.commands.fitting import BundleRef

app = typer.Typer()
models = typer.Typer(no_args_is_help=True, help="Versions of models: list | show | verify | promote | rollback.")
weights = typer.Typer(no_args_is_help=True, help="Weights of backbones: list | add | download.")
app.add_typer(models, name="models")
app.add_typer(weights, name="weights")

ModelFolder = Annotated[Path, typer.Argument(metavar="MODELS/NAME", help="Folder of one model.", show_default=False)]
BackboneArgument = Annotated[str, typer.Argument(metavar="NAME", help="resnet18, wide_resnet50_2, …")]


@models.command("list")
def list_models(
    folder: Annotated[Path, typer.Argument(metavar="MODELS", help="Folder of models.")] = Path("models"),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> None:
    """List models and their versions; the promoted one is marked *."""
    telemetry.configure("models")
    from storage.models import Registry  # noqa: PLC0415 - not needed for --help

    registry = Registry(folder)
    for name in registry.names():
        current = registry.current(name)
        for version in registry.versions(name):
            manifest = registry.resolve(f"{name}@{version}").manifest
            if as_json:
                typer.echo(json.dumps({"promoted": version == current} | manifest.model_dump(mode="json")))
            else:
                mark = "*" if version == current else " "
                about = f"{manifest.detector}  {manifest.n_train} images  {manifest.created}"
                typer.echo(f"{mark} {name}@{version}  {about}")


@models.command()
def show(bundle: BundleRef) -> None:
    """Print a bundle's manifest as JSON."""
    telemetry.configure("models")
    from storage.models import open_bundle  # noqa: PLC0415 - not needed for --help

    typer.echo(open_bundle(bundle).manifest.model_dump_json(indent=2))


@models.command()
def verify(bundle: BundleRef) -> None:
    """Check every file of a bundle against its manifest."""
    telemetry.configure("models")
    from storage.models import open_bundle  # noqa: PLC0415 - not needed for --help

    opened = open_bundle(bundle)
    opened.verify()
    typer.echo(f"{opened.ref}: every file is what its manifest says")


@models.command()
def promote(
    bundle: Annotated[str, typer.Argument(metavar="MODELS/NAME@3", help="With its version.", show_default=False)],
) -> None:
    """Make a version the one that judges; running workers swap to it."""
    telemetry.configure("models")
    from storage.models import Registry  # noqa: PLC0415 - not needed for --help

    path, _, version = bundle.rpartition("@")
    if not path or not version.isdigit():
        raise typer.BadParameter(f"{bundle}: say which version, for example {path or bundle}@1")
    folder = Path(path)
    Registry(folder.parent).promote(folder.name, int(version))
    typer.echo(f"{folder.name}@{version}: promoted")


@models.command()
def rollback(model: ModelFolder) -> None:
    """Promote the version that was promoted before."""
    telemetry.configure("models")
    from storage.models import Registry  # noqa: PLC0415 - not needed for --help

    typer.echo(f"{model.name}@{Registry(model.parent).rollback(model.name)}: promoted")


@weights.command("list")
def list_weights(*, as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False) -> None:
    """List the weights in the local store."""
    telemetry.configure("weights")
    from inference import weights as store  # noqa: PLC0415 - brings torch

    for entry in store.list_weights():
        about = {"name": entry.name, "path": str(entry.path), "sha256": entry.sha256, "size": entry.size}
        text = f"{entry.name}  {entry.size / 2**20:.1f} MiB  sha256 {entry.sha256[:16]}…  {entry.path}"
        typer.echo(json.dumps(about) if as_json else text)


@weights.command()
def add(
    name: BackboneArgument, file: Annotated[Path, typer.Argument(metavar="FILE", help=".safetensors, .pth")]
) -> None:
    """Put a file of weights into the local store."""
    telemetry.configure("weights")
    from inference.weights import add_weights  # noqa: PLC0415 - brings torch

    entry = add_weights(name, file)
    typer.echo(f"{entry.name}: added, {entry.size / 2**20:.1f} MiB, {entry.path}")


@weights.command()
def download(name: BackboneArgument) -> None:
    """Fetch a backbone's ImageNet weights into the local store: the only command that uses the network."""
    telemetry.configure("weights")
    from inference.weights import download_weights  # noqa: PLC0415 - brings torch

    entry = download_weights(name)
    typer.echo(f"{entry.name}: downloaded, {entry.size / 2**20:.1f} MiB, {entry.path}")
