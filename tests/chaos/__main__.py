"""`python -m tests.chaos`: hurt a running plant in every way known, then see whether a promise was broken."""

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read by torch when it is loaded: the plant needs the cores

from tests.chaos.campaign import campaign
from tests.chaos.report import print_table


def main() -> int:
    """Run a campaign and write its report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=(), help="names of faults, or beginnings of them")
    parser.add_argument("--out", type=Path, default=Path("var/chaos"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    began, stop = time.monotonic(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # ends after the fault at hand, and judges what there is
        signal.signal(number, lambda *_: stop.set())
    with tempfile.TemporaryDirectory(prefix="lw-", dir="/tmp") as folder:
        report = campaign(
            Path(folder) / "plant",
            faults=options.faults,
            seed=options.seed,
            only=tuple(options.only),
            log=options.out / "plant.log",
            stop=stop,
        )
    report["minutes"] = round((time.monotonic() - began) / 60, 1)
    (options.out / "report.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    print_table(report)
    return 0 if report["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
