import importlib
import importlib.metadata
import os
import re
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ["linewatch", "ingest", "inference", "alerts", "storage"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_lies_beside_linewatch(name):
    home = Path(importlib.import_module("linewatch").__file__).parents[1]
    found = Path(importlib.import_module(name).__file__).parents[1]
    assert found == home, f"{name} is another distribution's: install linewatch in an environment of its own"


@pytest.mark.parametrize("folder", [path for name in PACKAGES for path in (ROOT / name).rglob("__init__.py")], ids=str)
def test_each_package_says_what_it_is(folder):
    assert folder.read_text(encoding="utf-8").startswith('"""'), "a docstring: what the folder is, what it may import"


def test_each_folder_of_modules_is_a_package():
    folders = {path.parent for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    missing = [folder for folder in folders if not (folder / "__init__.py").exists()]
    allowed = {ROOT / "storage" / "migrations", ROOT / "storage" / "migrations" / "versions"}  # alembic runs these
    assert set(missing) <= allowed


def test_the_version_is_told_once():
    assert importlib.metadata.version("linewatch") == PROJECT["project"]["version"]
    sources = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    assert not [path for path in sources if re.search(r"^__version__", path.read_text(encoding="utf-8"), re.MULTILINE)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel as pip would build it, from what git tracks or will."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", out, ROOT]
    subprocess.run(command, check=True, timeout=170, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"})
    (built,) = out.glob("linewatch-*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    inside = set(wheel.namelist())
    ours = [path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file()]
    wanted = {str(path.relative_to(ROOT)) for path in ours if "__pycache__" not in path.parts}
    assert {Path(name).suffix for name in wanted} >= {".py", ".lua"}
    assert any(name.startswith("storage/migrations/") for name in wanted)
    assert wanted - inside == set()


def test_the_wheel_holds_nothing_else(wheel):
    allowed = tuple(f"{name}/" for name in [*PACKAGES, f"linewatch-{PROJECT['project']['version']}.dist-info"])
    assert [name for name in wheel.namelist() if not name.startswith(allowed)] == []
    assert any(name.endswith("licenses/LICENSE") for name in wheel.namelist())


@pytest.mark.parametrize("group", sorted(PROJECT["dependency-groups"]))
def test_a_role_needs_no_more_than_the_whole(group):
    assert set(PROJECT["dependency-groups"][group]) <= set(PROJECT["project"]["dependencies"])


# Refuses to import whatever its arguments do not allow, then loads what a role loads.
ROLE = """
import importlib, importlib.abc, sys
class Gate(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ModuleNotFoundError(f"No module named {name!r}: not in this image", name=name)
refused = set(sys.argv[1].split(","))
sys.meta_path.insert(0, Gate())
for name in sys.argv[2:]:
    importlib.import_module(name)
from linewatch.cli import main
sys.exit(main(["--version"]))
"""
LOADS = {
    "alerts": [
        "alerts.service",
        "alerts.report.serving",
        "alerts.metrics.serving",
        "storage.server",
        "linewatch.health",
        "linewatch.doctor.diagnose",
        "httpx",
    ],
    "capture": [
        "ingest.service",
        "ingest.curve",
        "linewatch.health",
        "linewatch.doctor.diagnose",
        "linewatch.doctor.cameras",
    ],
}


def distribution(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0].lower().replace("_", "-")


def closure(names: set[str]) -> set[str]:
    """Distributions that come along with `names`, themselves included."""
    found: set[str] = set()
    rest = set(names)
    while rest:
        name = rest.pop()
        found.add(name)
        try:
            requires = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        rest |= {distribution(requirement) for requirement in requires if "extra ==" not in requirement} - found
    return found


@pytest.mark.parametrize("group", sorted(LOADS))
def test_a_role_needs_no_less_than_its_group(group):
    allowed = closure({distribution(requirement) for requirement in PROJECT["dependency-groups"][group]})
    everything = closure({distribution(requirement) for requirement in PROJECT["project"]["dependencies"]})
    owners = importlib.metadata.packages_distributions()
    refused = [
        module
        for module, names in owners.items()
        if all(distribution(name) in everything - allowed for name in names) and module not in sys.stdlib_module_names
    ]
    assert "torch" in refused
    assert ("cv2" in refused) == (group == "alerts")
    command = [sys.executable, "-P", "-c", ROLE, ",".join(refused), *LOADS[group]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd="/")
    assert (result.returncode, result.stderr) == (0, "")


def test_the_continuous_integration_script_runs():
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    subprocess.run(["bash", "-n", script], check=True)
    assert "set -euo pipefail" in script.read_text(encoding="utf-8")
