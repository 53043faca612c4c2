"""`python -m tests.fuzz`: hostile messages through `wire.unpack`, and over a socket into a real worker.

Each input is unpacked here, timed. What is refused goes to the worker as it is. What happens to be a valid message is
no malformed one: it is counted apart, addressed to a line that the worker does not serve, and sent too. So all that is
sent must be dropped, and not one may become a verdict. What is larger than the wire lets through is sent too, over a
connection of its own, which the worker must cut. At the end a good frame must still be judged.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ingest import wire
from ingest.errors import WireError
from tests.fuzz.inputs import Parts, inputs, too_large
from tests.fuzz.target import HungError, Target

MOST_GROWTH_MB = 64
"""A worker may grow by this much: queues of ZeroMQ, and what an allocator keeps."""
SLOWEST_MS = 1000
"""No message may keep the receiving thread longer."""
SILENCE_MS = 5000
"""And its grants never stay away longer; captures take a worker for lost after 3 s, which is no failure."""
_WARM_UP = 1000


@dataclass
class Report:
    """What happened."""

    seed: int
    inputs: int = 0
    crashes: int = 0
    """Anything but a message or a WireError, and whatever ended or hung the worker."""
    verdicts: int = 0
    slowest_ms: float = 0.0
    """Processor time of the slowest `unpack`: what else the machine does is not counted."""
    rss_growth_mb: float = 0.0
    refused: int = 0
    valid: int = 0
    sent: int = 0
    dropped: int = 0
    cut_off: int = 0
    """Messages that were too large: the worker closed the connection instead of taking them in."""
    longest_silence_ms: float = 0.0
    judges_still: bool = False
    seconds: float = 0.0
    examples: list[str] = field(default_factory=list)
    """The first inputs that crashed."""

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        bounded = self.rss_growth_mb <= MOST_GROWTH_MB and self.slowest_ms <= SLOWEST_MS
        heard = self.longest_silence_ms <= SILENCE_MS and self.judges_still and self.dropped == self.sent
        return not self.crashes and not self.verdicts and bounded and heard

    def crashed(self, why: str) -> None:
        """Note what should not have happened."""
        self.crashes += 1
        if len(self.examples) < 5:
            self.examples.append(why)


def examine(report: Report, parts: Parts) -> Parts:
    """Unpack one input; what to send to the worker for it."""
    began = time.thread_time()
    try:
        message, payload = wire.unpack(parts)
    except WireError:
        report.refused += 1
        return parts
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        report.crashed(f"{type(error).__name__}: {error}: {[part[:200] for part in parts]}")
        return parts
    finally:
        report.slowest_ms = max(report.slowest_ms, 1e3 * (time.thread_time() - began))
    report.valid += 1
    return [bytes(part) for part in wire.pack(message.model_copy(update={"line": "elsewhere"}), payload)]


def run(seed: int, count: int, folder: Path) -> Report:
    """Everything once."""
    report = Report(seed)
    with Target(folder) as target:
        began = time.monotonic()
        before = target.rss
        try:
            for parts in inputs(seed, count):
                report.inputs += 1
                message = examine(report, parts)
                if too_large(message):
                    report.cut_off += 1
                    if not target.cuts_off(message):
                        report.crashed(f"a message of {sum(map(len, message))} bytes was taken in")
                    continue
                target.send(message)
                report.sent += 1
                if report.sent == _WARM_UP:
                    target.settle(report.sent)
                    before = target.rss
                if report.sent % 200 == 0:
                    target.look()
            target.settle(report.sent)
            report.rss_growth_mb = round((target.rss - before) / 2**20, 1)
            report.verdicts, report.dropped = target.verdicts, target.dropped
            report.longest_silence_ms = round(1e3 * target.longest_silence)
            report.judges_still = target.judge_one() and target.verdicts == report.verdicts + 1
        except HungError as error:
            report.crashed(str(error))
        report.seconds = round(time.monotonic() - began, 1)
    report.slowest_ms = round(report.slowest_ms, 2)
    return report


def main() -> int:
    """Run, write the report, say it in a line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, default=Path("var/fuzz/report.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lw-") as folder:
        report = run(arguments.seed, arguments.inputs, Path(folder))
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")
    sys.stdout.write(
        f"fuzz: {'clean' if report.clean else 'NOT clean'}: {report.inputs} inputs ({report.valid} valid), "
        f"{report.crashes} crashes, {report.verdicts} verdicts, slowest {report.slowest_ms} ms, "
        f"worker grew by {report.rss_growth_mb} MB, {report.seconds} s; see {arguments.report}\n"
    )
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
