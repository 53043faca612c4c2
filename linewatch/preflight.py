"""`linewatch check`: whether what a configuration names is there and fits together, before anything runs."""

from collections.abc import Iterator

from alerts.errors import AlertError
from alerts.sinks import open_sink
from inference.broken_promises import broken_promises
from inference.calibration import Calibration
from inference.config import JudgeConfig
from inference.errors import InferenceError
from ingest.errors import IngestError
from ingest.preprocess import Preprocessing
from linewatch.config import Config, LineConfig
from linewatch.datafolder import claim
from linewatch.errors import AlreadyRunning, ConfigError
from linewatch.exposure import exposed_page
from linewatch.findings import Finding, Grade, bad, good, note
from linewatch.firstpicture import first_picture
from linewatch.freeport import port_finding
from storage.errors import StorageError
from storage.golden import GoldenSamples
from storage.models import Registry
from storage.server import connect
from storage.unavailable import mapped


def examine(config: Config, *, cameras: bool = True) -> Iterator[Finding]:
    """Look at everything the configuration names.

    Args:
        config: a valid configuration.
        cameras: also open each source and take one picture.
    """
    yield from _data(config)
    yield from _redis(config)
    yield from _sinks(config)
    registry = Registry(config.storage.models)
    for line, judge in zip(config.lines, config.judges(), strict=True):
        yield from _model(registry, line, judge)
        yield from _golden(config, line)
        if cameras:
            yield from _camera(line)


def _data(config: Config) -> Iterator[Finding]:
    """The data folder, and the addresses that must be free unless a running `up` has them."""
    try:
        with claim(config.data):
            yield good("data", f"{config.data} is writable")
            yield from _ports(config)
    except AlreadyRunning:
        yield good("data", f"{config.data} is in use by a running `linewatch up`: its ports are not looked at")
        return
    except ConfigError as error:
        yield bad("data", str(error).removeprefix("data: "), "create it, or set another `data:`")
        return
    mode = config.data.stat().st_mode & 0o777
    if mode & 0o077:
        mend = f"chmod 700 {config.data}"
        yield note("data", f"{config.data} has mode {mode:o}: other users of this machine can look into it", mend)


def taken_ports(config: Config) -> list[Finding]:
    """Addresses the configuration wants to serve at and cannot: something else holds them, or anybody would get in."""
    return [finding for finding in _ports(config) if finding.grade is Grade.BAD]


def _ports(config: Config) -> Iterator[Finding]:
    if config.alerts.page is not None:
        yield port_finding("alerts.page.bind", config.alerts.page.bind)
        yield from exposed_page(config)
    for number, worker in enumerate(config.workers):
        bind = config.bind(worker.name)
        if bind.startswith("tcp://"):
            yield port_finding(f"workers[{number}].bind", bind.removeprefix("tcp://"))


def _redis(config: Config) -> Iterator[Finding]:
    if config.redis == "embedded":
        return  # a private server, started by `up`; `linewatch doctor` looks for its program
    try:
        client = connect(config.storage)
        with mapped(client):
            client.ping()
    except StorageError as error:
        yield bad("redis", str(error), "start it, or correct `redis:`")
    else:
        yield good("redis", "answers")


def _sinks(config: Config) -> Iterator[Finding]:
    for number, sink in enumerate(config.alerts.sinks):
        try:
            open_sink(sink)
        except AlertError as error:
            yield bad(f"alerts.sinks[{number}]", str(error))


def _model(registry: Registry, line: LineConfig, judge: JudgeConfig) -> Iterator[Finding]:
    subject = f"line {line.id}: model {line.model}"
    try:
        bundle = registry.resolve(line.model)
        bundle.verify()
        calibration = bundle.calibration()
    except StorageError as error:
        yield bad(subject, str(error))
        return
    try:
        fitted = Preprocessing.recorded(bundle.manifest.preprocessing, ref=bundle.ref)
        promised = None if calibration is None else Calibration.recorded(calibration, ref=bundle.ref)
    except (IngestError, InferenceError) as error:
        yield bad(subject, str(error), "fit it again, or promote another version")
        return
    yield good(subject, f"{bundle.ref} is complete")
    yield from _regions(subject, fitted, line)
    if promised is None:
        mend = f"linewatch calibrate {bundle.path.parent.parent / bundle.ref} --data DIR"
        yield bad(subject, "is not calibrated, so it has no threshold", mend)
        return
    yield from _promise(subject, promised, line, judge)


def _promise(subject: str, calibration: Calibration, line: LineConfig, judge: JudgeConfig) -> Iterator[Finding]:
    """What the line's threshold is worth, and whether the model was calibrated for the way the line judges."""
    try:
        limit = calibration.limit(judge.false_alarms, fps=judge.fps, slack=judge.slack)
    except ValueError as error:
        yield bad(subject, str(error), f"set `fps:` or another `false_alarms:` for line {line.id}")
        return
    if not limit.extrapolated:
        yield good(subject, limit.statement())
    for broken in broken_promises(calibration, limit, judge):
        yield note(subject, broken.why, broken.mend)


def _regions(subject: str, fitted: Preprocessing, line: LineConfig) -> Iterator[Finding]:
    """A model sees what it was fitted on only if the line cuts the picture the same way."""
    for name, of_model, of_line in (("roi", fitted.roi, line.roi), ("mask", fitted.mask, line.mask)):
        cropped_before = name == "roi" and of_model is None  # fitted on pictures of the region itself
        if of_model != of_line and not cropped_before:
            yield bad(
                subject,
                f"was fitted with {name} {_plain(of_model)}, the line has {_plain(of_line)}",
                f"set `{name}:` of line {line.id} to the model's, or fit again with the line's",
            )


def _golden(config: Config, line: LineConfig) -> Iterator[Finding]:
    """Whether the line's golden samples are what was recorded; whether they pass, `linewatch golden` finds out."""
    subject, samples = f"line {line.id}: golden samples", GoldenSamples(config.storage.golden)
    try:
        listed = samples.of(line.id)
        for sample in listed:
            samples.picture(line.id, sample)
    except StorageError as error:
        yield bad(subject, str(error))
        return
    if listed:
        yield good(subject, f"{len(listed)} as recorded")
    elif line.golden.block:
        mend = f"linewatch golden CONFIG {line.id} --record PATH..., or `golden: {{block: false}}`"
        yield bad(subject, "there are none, and `golden.block` makes all its frames unknown until there are some", mend)


def _plain(region: object) -> str:
    return "none" if region is None else str(region).replace("(", "[").replace(")", "]")


def _camera(line: LineConfig) -> Iterator[Finding]:
    subject = f"line {line.id}: source"
    taken = first_picture(line.source)
    if isinstance(taken, str):
        yield bad(subject, taken, "correct `source:`, or skip with --no-cameras")
        return
    height, width = taken.shape[:2]
    if line.roi is not None and (line.roi[2] > width or line.roi[3] > height):
        size = f"{width}x{height}"
        yield bad(subject, f"roi {_plain(line.roi)} reaches outside the {size} picture", "correct `roi:`")
        return
    yield good(subject, f"delivers {width}x{height} pictures")
