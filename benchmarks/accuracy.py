"""How well a detector finds real defects, and whether its promise about false alarms is kept.

Fits, calibrates and evaluates on each set of a folder of sets in MVTec AD's layout, for several seeds, and prints the
table in Markdown: `python benchmarks/accuracy.py --root ../shared/data --weights FILE --seeds 3`.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import structlog

from inference.calibration import Calibration
from inference.detectors.trained import Training
from inference.errors import InferenceError
from inference.false_alarms import parse_false_alarms
from inference.training.evaluate import evaluate
from inference.training.fit import fit_model
from inference.training.recipe import recipe
from ingest.preprocess import Preprocessing

SETS = ("magnetic_tile", "kolektorsdd", "battery_weld", "dobot_cubes")
ASKED = parse_false_alarms("5%")


def measure(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Fit, calibrate and evaluate once."""
    preprocessing = Preprocessing(size=(options.image_size, options.image_size))
    data = options.root / name
    with tempfile.TemporaryDirectory() as folder:
        made = recipe(
            options.detector,
            dict(setting.split("=", 1) for setting in options.settings),
            preprocessing=preprocessing,
            weights=options.weights,
            seed=seed,
            device=options.device,
            training=Training(features=Path(folder)),
        )
        started = time.monotonic()
        bundle = fit_model(made, str(data), Path(folder) / name)
        seconds = time.monotonic() - started
        found = evaluate(bundle, data, asked=ASKED, device=options.device).summary
        calibration = Calibration.model_validate(bundle.calibration())
    limit = calibration.limit(ASKED)
    about = {"seed": seed, "fit_seconds": seconds, "method": calibration.method, "n_calibration": limit.n_good}
    return about | {"treatment": limit.treatment} | found.model_dump(mode="json")


def spread(runs: list[dict[str, Any]], key: str, form: str = ".3f") -> str:
    """Mean over seeds, with the standard deviation when there are several."""
    values = [run[key] for run in runs]
    if values[0] is None:
        return "-"
    text = format(mean(values), form)
    return text if len(values) == 1 else f"{text} ± {format(pstdev(values), form)}"


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Results as Markdown."""
    lines = [
        "| set | image AUROC | pixel AUROC | AUPRO | false alarms at 5 % asked | defects that escape | calibration |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        first = runs[0]
        treated = "" if first["treatment"] == "rank" else f" ({first['treatment']})"
        calibration = f"{first['method']}, {first['n_calibration']}{treated}"
        figures = [spread(runs, key) for key in ("image_auroc", "pixel_auroc", "aupro")]
        rates = [spread(runs, key, ".1%") for key in ("false_alarm_rate", "escape_rate")]
        lines.append(f"| {name} | {' | '.join([*figures, *rates])} | {calibration} |")
    for name, runs in results.items():
        if len(runs[0]["kinds"]) > 1:
            lines += ["", f"| kind of defect in {name} | images | image AUROC | escape |", "|---|---|---|---|"]
            for kind in runs[0]["kinds"]:
                of_kind = [run["kinds"][kind] for run in runs]
                auroc, escape = spread(of_kind, "image_auroc"), spread(of_kind, "escape_rate", ".1%")
                lines.append(f"| {kind} | {of_kind[0]['n']} | {auroc} | {escape} |")
    return "\n".join(lines)


def main() -> int:
    """Measure every set that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"))
    parser.add_argument("--weights", help="file, or `random`; default: the shared ResNet18 if present, else the store")
    parser.add_argument("--detector", default="padim")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="key=value")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--json", type=Path, default=Path("var/accuracy.json"))
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))
    beside = options.root.parent / "weights" / "resnet18-imagenet-layer1to3.safetensors"
    if options.weights is None and beside.is_file():
        options.weights = str(beside)
    results: dict[str, list[dict[str, Any]]] = {}
    for name in options.sets:
        if not (options.root / name).is_dir():
            print(f"{options.root / name} is absent: left out", file=sys.stderr)
            continue
        for seed in range(options.seeds):
            try:
                run = measure(options, name, seed)
            except InferenceError as exc:
                print(f"{name}: {exc}", file=sys.stderr)
                return 1
            results.setdefault(name, []).append(run)
            print(f"{name} seed {seed}: image AUROC {run['image_auroc']:.4f}", file=sys.stderr)
    print(table(results))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
