"""Write the software bill of materials of this environment, offline: `sbom.py OUT`.

CycloneDX 1.6 by cyclonedx-py, held against the schema and against what is installed. The generator's own validation
also parses every address by the grammar of RFC 3987, for half a minute: here addresses are text.
"""

import json
import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import jsonschema
from referencing import Registry, Resource

_SCHEMAS = ("bom-1.6.SNAPSHOT.schema.json", "spdx.SNAPSHOT.schema.json", "jsf-0.82.SNAPSHOT.schema.json")
_HOME = "http://cyclonedx.org/schema/"
_MAKE = "cyclonedx_py environment --pyproject pyproject.toml --output-reproducible --spec-version 1.6 --no-validate"


def validate(bom: object) -> None:
    """Raise jsonschema.ValidationError unless `bom` is CycloneDX 1.6."""
    folder = resources.files("cyclonedx.schema") / "_res"
    schemas = [json.loads((folder / name).read_text(encoding="utf-8")) for name in _SCHEMAS]
    registry: Registry[object] = Registry().with_resources(
        (f"{_HOME}{name}", Resource.from_contents(schema)) for name, schema in zip(_SCHEMAS, schemas, strict=True)
    )
    jsonschema.Draft7Validator(schemas[0], registry=registry).validate(bom)


def missing(bom: dict[str, list[dict[str, str]]]) -> set[str]:
    """Distributions that are installed and not in it."""
    listed = {_plain(component["name"]) for component in bom["components"]}
    return {_plain(found.name) for found in metadata.distributions()} - listed - {"linewatch"}


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def main(out: Path) -> int:
    """Make it, check it, say so."""
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", *_MAKE.split(), "--output-file", str(out), sys.executable]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        sys.stderr.write(f"sbom: cyclonedx-py failed: {made.stderr.strip()[-500:]}\n")
        return 1
    bom = json.loads(out.read_text(encoding="utf-8"))
    try:
        validate(bom)
    except jsonschema.ValidationError as error:
        sys.stderr.write(f"sbom: {out} is not CycloneDX 1.6: {error.json_path}: {error.message[:200]}\n")
        return 1
    if absent := missing(bom):
        sys.stderr.write(f"sbom: {out} lacks {', '.join(sorted(absent))}\n")
        return 1
    sys.stdout.write(f"sbom: {len(bom['components'])} components, CycloneDX {bom['specVersion']}: {out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
