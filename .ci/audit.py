"""Ask whether anything installed has a known vulnerability: `audit.py [IGNORED]`; by pip-audit.

Exit 1 on a finding that IGNORED does not name. Where the vulnerability service cannot be reached, one line says so and
the exit is 0: no network is no finding. Each line of IGNORED is `ID reason`, reviewed when it is added; one without a
reason, or one that is found no more, is refused too.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PATIENCE_S = 300
_ASK = "pip_audit --format json --progress-spinner off --skip-editable --timeout 10"


def read_ignored(text: str) -> dict[str, str]:
    """Id -> reason.

    Raises:
        ValueError: a line gives no reason.
    """
    ignored = {}
    for line in text.splitlines():
        name, _, reason = line.partition(" ")
        if not name or name.startswith("#"):
            continue
        if not reason.strip():
            raise ValueError(f"{name} is ignored without a reason: write it behind the id")
        ignored[name] = reason.strip()
    return ignored


def judge(report: dict[str, Any], ignored: dict[str, str]) -> tuple[int, list[str]]:
    """Exit code and what to say of pip-audit's report."""
    asked = [found for found in report["dependencies"] if "skip_reason" not in found]
    unasked = len(report["dependencies"]) - len(asked)
    if not asked:
        return 0, ["audit: the vulnerability service knows none of this or cannot be reached: nothing was audited"]
    found = {
        vulnerability["id"]: f"{package['name']} {package['version']}: {vulnerability['id']}, mended in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in asked
        for vulnerability in package["vulns"]
    }
    wrong = [text for name, text in found.items() if name not in ignored]
    wrong += [f"{name} is ignored but found no more: take it off the list" for name in ignored if name not in found]
    told = f"audit: {len(asked)} packages asked about, {unasked} unknown to the service, {len(found)} findings"
    return (1 if wrong else 0), [*wrong, f"{told}, {len(ignored)} ignored for a reason"]


def main(ignored: Path) -> int:
    """Ask and say."""
    try:
        known = read_ignored(ignored.read_text(encoding="utf-8"))
        asked = subprocess.run(
            [sys.executable, "-m", *_ASK.split()], capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        report = json.loads(asked.stdout)
    except ValueError as error:
        if not isinstance(error, json.JSONDecodeError):
            sys.stderr.write(f"audit: {ignored}: {error}\n")
            return 1
        why = (asked.stderr.strip().splitlines() or ["no answer"])[-1][:200]
        sys.stdout.write(f"audit: the vulnerability service cannot be reached, nothing was audited: {why}\n")
        return 0
    except subprocess.TimeoutExpired:
        sys.stdout.write(f"audit: no answer within {PATIENCE_S} s, nothing was audited\n")
        return 0
    code, lines = judge(report, known)
    sys.stdout.write("\n".join(lines) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("audit-ignored")))
