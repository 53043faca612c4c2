"""The load: three belts that together give more frames than this machine can judge, and the model that judges them."""

from pathlib import Path

from inference.training.calibrate import calibrate
from inference.training.fit import fit_model
from inference.training.recipe import recipe
from ingest.preprocess import Preprocessing

LINES = ("every", "patient", "freshest")
_SIZE = "160x120"
_GOOD, _CALIBRATION = 120, 300


def source(seed: int, *, fps: float, frames: int = 0, defect_every: int = 0, rate: str = "own") -> str:
    """Address of one belt."""
    return (
        f"synthetic:belt?fps={fps:g}&size={_SIZE}&seed={seed}&defect_every={defect_every}&frames={frames}&rate={rate}"
    )


def learn(out: Path) -> None:
    """Fit and calibrate a small PaDiM with random weights on good frames."""
    made = recipe(
        "padim", {"dimensions": 20}, preprocessing=Preprocessing(size=(64, 64)), weights="random", device="cpu"
    )
    bundle = fit_model(made, source(1, fps=10, frames=_GOOD, rate="max"), out)
    calibrate(bundle, source(2, fps=10, frames=_CALIBRATION, rate="max"), device="cpu")


def write_config(folder: Path, *, fps: float, evidence_mb: float, hook: str) -> Path:
    """Write linewatch.yaml: one line for each way in which frames are lost to a load, all of them seeing defects.

    Args:
        folder: where; its `data` holds everything.
        fps: of each line's camera.
        evidence_mb: bound on the evidence, so low that retention works all the time.
        hook: `HOST:PORT` of the webhook.
    """
    belt = [source(seed, fps=fps, defect_every=8) for seed in (7, 8, 9)]
    path = folder / "linewatch.yaml"
    path.write_text(
        f"""site: soak
data: data
retention: {{max_gb: {evidence_mb / 1000:g}, min_free_gb: 0.2}}
workers: [{{name: w0, device: cpu, max_batch: 8}}]
lines:
  # Its buffer overflows before its frames are late.
  - {{id: every, source: "{belt[0]}", model: belt, false_alarms: 1%, deadline_ms: 10000, buffer_mb: 16,
     alert: {{raise: 1 of 1, clear_after: 200ms}}}}
  # Its frames are late before its buffer overflows.
  - {{id: patient, source: "{belt[1]}", model: belt, false_alarms: 1%, deadline_ms: 1000, buffer_mb: 64,
     alert: {{raise: 2 of 3, clear_after: 1s}}}}
  # Its frames are skipped.
  - {{id: freshest, source: "{belt[2]}", model: belt, false_alarms: 1%, policy: latest,
     alert: {{raise: 1 of 1, clear_after: 500ms}}}}
alerts:
  page: {{bind: "127.0.0.1:0"}}
  sinks:
    - {{url: "json://{hook}/hook", on: [raised, cleared, acknowledged]}}
    - {{url: "log:"}}
""",
        encoding="utf-8",
    )
    return path
