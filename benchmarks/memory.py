"""Whether fitting's memory grows with the number of images: peak resident memory, each fit in a process of its own.

`python benchmarks/memory.py` exits 1 when 400 images take more than 5 % above what 100 take.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

ALLOWED = 1.05
QUIET = {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
"""One heap and one thread of torch's: how threads share memory varies the peak by 5 % from run to run."""


def pictures(folder: Path, count: int) -> None:
    """Write random pictures: content does not matter to memory."""
    folder.mkdir(parents=True)
    for i in range(count):
        noise = np.random.default_rng(i).integers(0, 255, (300, 400, 3), np.uint8)
        cv2.imwrite(str(folder / f"{i:04}.png"), noise)


def fit_here(data: str, detector: str, size: int, out: Path) -> int:
    """Fit in this process; its peak resident memory in KiB."""
    from inference.training.fit import fit_model  # noqa: PLC0415 - only the child needs torch
    from inference.training.recipe import recipe  # noqa: PLC0415 - only the child needs torch
    from ingest.preprocess import Preprocessing  # noqa: PLC0415 - as above

    made = recipe(detector, {}, preprocessing=Preprocessing(size=(size, size)), weights="random", device="cpu")
    fit_model(made, data, out)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_of(command: list[str]) -> float:
    """Peak resident memory in MiB of a child that fits."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | QUIET)
    return int(done.stdout.split()[-1]) / 1024


def main() -> int:
    """Fit on 100 and on 400 images and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--detector", default="padim")
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--counts", type=int, nargs=2, default=(100, 400))
    parser.add_argument("--repeats", type=int, default=3, help="the lowest peak counts: chance only adds")
    parser.add_argument("--child", nargs=2, metavar=("DATA", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(fit_here(options.child[0], options.detector, options.image_size, Path(options.child[1])))
        return 0
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for count in options.counts:
            data = Path(folder) / str(count)
            pictures(data / "train/good", count)
            pictures(data / "calibration/good", 10)
            command = [sys.executable, __file__, "--detector", options.detector]
            command += ["--image-size", str(options.image_size), "--child", str(data), f"{folder}/models/m{count}"]
            peaks.append(min(peak_of(command) for _ in range(options.repeats)))
            print(f"{options.detector} on {count} images: peak {peaks[-1]:.0f} MiB")
    print(f"growth {peaks[1] / peaks[0] - 1:+.1%}, allowed {ALLOWED - 1:+.0%}")
    return int(peaks[1] > ALLOWED * peaks[0])


if __name__ == "__main__":
    sys.exit(main())
