"""What may be learned, and whether what has learned may serve: history, evidence and golden samples for a candidate."""

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from linewatch.config import Config, LineConfig
from linewatch.errors import ConfigError
from linewatch.golden import judge_of
from storage.audits import Audits
from storage.bundle import Bundle
from storage.golden import GoldenSamples
from storage.history import History
from storage.labels import Labels
from storage.records import Label

if TYPE_CHECKING:
    from inference.config import JudgeConfig
    from inference.engine import Engine
    from inference.training.confirmed import Frame
    from inference.training.learn import Finding


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What operators said was normal.

    Attributes:
        frames: pictures of alerts, oldest first, those that cannot be used among them.
        remarks: what cannot be learned and why, one line each.
    """

    frames: "list[Frame]"
    remarks: list[str]


def confirmed(config: Config, line: LineConfig, bundle: Bundle, history: History) -> Confirmed:
    """Find frames of alerts that were said to be normal and that a model has not learned from.

    Raises:
        ConfigError: there are none, or the line looks at another region than its model.
        StorageError: the history cannot be read.
    """
    from inference.training.confirmed import NORMAL, confirmed_frames  # noqa: PLC0415 - brings torch
    from inference.training.update import learned_alerts, learning_since  # noqa: PLC0415 - as above
    from ingest.errors import IngestError  # noqa: PLC0415 - as below
    from ingest.preprocess import Preprocessing  # noqa: PLC0415 - brings OpenCV
    from ingest.workerlink import View  # noqa: PLC0415 - brings ZeroMQ

    since_ns = round(datetime.fromisoformat(learning_since(bundle)).timestamp() * 1e9)
    known, name = set(learned_alerts(bundle)), bundle.manifest.name
    defects = Labels(history).defects(line.id, since_ns=since_ns)
    alerts = [
        alert
        for alert in defects
        if alert.label in NORMAL and alert.id not in known and (alert.model or "").partition("@")[0] == name
    ]
    if not alerts:
        raise ConfigError(
            f"line {line.id} has no alert labelled false alarm or known variation that {bundle.ref} has not learned "
            "from: label some with `linewatch alerts label`, or on the page"
        )
    try:
        wanted = Preprocessing.recorded(bundle.manifest.preprocessing, ref=bundle.ref)
        preprocessing = View(roi=line.roi, mask=line.mask).apply(wanted)
    except IngestError as error:
        raise ConfigError(f"line {line.id}: {error}") from error
    frames = confirmed_frames(alerts, config.storage.evidence, preprocessing)
    pictured = {frame.alert for frame in frames}
    return Confirmed(
        frames,
        [
            *(
                f"{bundle.ref} has learned from {alert.id}, now labelled a true defect: what is learned stays learned, "
                "roll back or fit anew"
                for alert in defects
                if alert.id in known and alert.label is Label.TRUE_DEFECT
            ),
            *(f"left out: {frame.evidence}: {frame.reason}" for frame in frames if frame.picture is None),
            *(f"left out: {alert.id}: no picture of it was kept" for alert in alerts if alert.id not in pictured),
        ],
    )


def golden_findings(
    config: Config, line: LineConfig, engine: "Engine", history: History, *, without: bool
) -> "list[Finding]":
    """Show a candidate the golden samples of every line that it would judge; what it says is kept for audits.

    Args:
        config: of the site.
        line: whose alerts it has learned from.
        engine: the candidate.
        history: where results are kept.
        without: whether a line may go without samples.

    Raises:
        InferenceError: a line cannot be judged by the candidate.
        StorageError: the history cannot be written.
    """
    from inference.challenge import challenge_model  # noqa: PLC0415 - brings torch
    from inference.occasions import LEARN  # noqa: PLC0415 - not needed for --help
    from inference.serving import standard_of  # noqa: PLC0415 - brings torch
    from inference.training.learn import Finding  # noqa: PLC0415 - brings torch

    found = []
    for judge in _judges(config, line):
        results = challenge_model(
            engine,
            standard_of(engine, judge),
            GoldenSamples(config.storage.golden),
            judge,
            worker=LEARN,
            occasion=LEARN,
            now_ns=time.time_ns(),
        )
        Audits(history.database).keep(results)
        missed = [result.image for result in results if result.missed]
        said = f"line {judge.line}: {len(results) - len(missed)} of {len(results)} golden samples judged as expected"
        if missed:
            said += f", missed: {', '.join(missed)}"
        if not results:
            said = f"line {judge.line} has no golden samples"
            said += "" if without else ": record some with `linewatch golden`, or promote with --without-golden"
        found.append(Finding("golden", not missed and (bool(results) or without), said))
    return found


def _judges(config: Config, line: LineConfig) -> "list[JudgeConfig]":
    """The line itself, and all others that a promotion of its model would change."""
    name = line.model.partition("@")[0]
    return [judge_of(config, other.id) for other in config.lines if other.id == line.id or other.model == name]
