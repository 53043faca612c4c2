"""The bill of materials and the audit, as CI runs them."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]


def script(name):
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_bill_of_materials_names_everything_installed_and_is_valid(tmp_path):
    out = tmp_path / "sbom.json"
    command = [sys.executable, ROOT / ".ci" / "sbom.py", out]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=170).stdout
    bom = json.loads(out.read_text(encoding="utf-8"))
    assert f"{len(bom['components'])} components, CycloneDX 1.6" in said
    assert {"torch", "pyzmq", "pydantic"} <= {component["name"] for component in bom["components"]}
    assert bom["metadata"]["component"]["name"] == "linewatch"
    made = script("sbom")
    assert made.missing({"components": bom["components"][1:]}) == {bom["components"][0]["name"].lower()}
    with pytest.raises(jsonschema.ValidationError):
        made.validate({**bom, "components": [{"name": "no type"}]})


def package(*found, **skipped):
    vulnerabilities = [{"id": name, "fix_versions": ["2.0"]} for name in found]
    return {"name": "lib", "version": "1.0", **(skipped or {"vulns": vulnerabilities})}


@pytest.mark.parametrize(
    ("packages", "ignored", "code", "says"),
    [
        ([package()], {}, 0, "1 packages asked about, 0 unknown to the service, 0 findings"),
        ([package("CVE-1")], {}, 1, "lib 1.0: CVE-1, mended in 2.0"),
        ([package("CVE-1")], {"CVE-1": "we do not call it"}, 0, "1 findings, 1 ignored"),
        ([package("CVE-1", "CVE-2")], {"CVE-1": "we do not call it"}, 1, "lib 1.0: CVE-2"),
        ([package()], {"CVE-1": "we do not call it"}, 1, "CVE-1 is ignored but found no more"),
        ([package(skip_reason="not found")], {}, 0, "nothing was audited"),
        ([package(skip_reason="not found"), package()], {}, 0, "1 packages asked about, 1 unknown"),
    ],
)
def test_a_finding_fails_unless_it_is_ignored_for_a_reason(packages, ignored, code, says):
    told = script("audit").judge({"dependencies": packages}, ignored)
    assert told[0] == code
    assert says in "\n".join(told[1])


def test_nothing_is_ignored_without_a_reason():
    read = script("audit").read_ignored
    assert read("# why\n\nCVE-1 we do not call it\n") == {"CVE-1": "we do not call it"}
    with pytest.raises(ValueError, match="CVE-2 is ignored without a reason"):
        read("CVE-2\n")
    assert read((ROOT / ".ci" / "audit-ignored").read_text(encoding="utf-8")) == {}


def test_without_a_network_the_audit_says_so_in_a_line(tmp_path):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, ROOT / ".ci" / "audit.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=170, env=environment, check=False)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert "nothing was audited" in done.stdout
