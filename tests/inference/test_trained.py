"""Training by gradients: killed and resumed, cut to a budget, cached, and refused in one line."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from structlog.testing import capture_logs
from torch import Tensor

from inference.detectors.backbones import Backbone
from inference.detectors.checkpoints import Checkpoint, Reached, discard
from inference.detectors.trained import Training
from inference.errors import FitError, WeightsError
from inference.weights import load_backbone_weights
from tests.inference import small_trained
from tests.inference.small_trained import IMAGES, Small, pictures, small
from tests.inference.tensors import Tensors

ROOT = Path(__file__).parents[2]
STEPS = IMAGES // 4  # of an epoch


def ignore(_done: int, _total: int, _note: str = "", /) -> None:
    """Nobody watches the progress."""


def trained(training: Training | None = None, images: Tensors | None = None, **given: Any) -> Small:
    with capture_logs():
        detector = small(**given)
        detector.fit(images or pictures(), ignore, training=training)
    return detector


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


class Stop(Exception):  # noqa: N818 - no error
    """Raised by a progress callback, as an interrupt would be."""


def interrupted(path: Path, step: int, **given: Any) -> None:
    """Train up to a step and leave the checkpoint of the step before."""
    with capture_logs():
        detector = small(**given)

        def stop(done: int, _total: int, note: str = "", /) -> None:
            if note.startswith("epoch") and done == step * detector.settings.batch:
                raise Stop

        with pytest.raises(Stop):
            detector.fit(pictures(), stop, training=Training(checkpoint=path, every_s=0))
    assert path.is_file()


# Killed


@pytest.fixture
def one_thread() -> Iterator[None]:
    """More would round differently; `train` wants one."""
    before = torch.get_num_threads()
    with capture_logs():
        yield
    torch.set_num_threads(before)


@contextmanager
def training_process(optimizer: str, folder: Path, *, pause: int = 0, slow: float = 0) -> Iterator[IO[str]]:
    """A process that trains and says its steps; killed at the end of the block."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, small_trained.__file__, optimizer, str(folder), str(pause), str(slow)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.usefixtures("one_thread")
def test_killed_in_mid_epoch_and_resumed_it_ends_bit_for_bit_the_same(optimizer: str, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    pause = STEPS + 3  # of four epochs, in the middle of the second
    with training_process(optimizer, broken, pause=pause) as steps:
        while int(steps.readline()) < pause:
            pass
    assert (broken / "run.checkpoint").is_file()
    assert not (broken / "model.safetensors").exists()
    assert small_trained.train(optimizer, broken) == list(range(pause, 4 * STEPS + 1))  # it was of the step before
    assert small_trained.train(optimizer, whole) == list(range(1, 4 * STEPS + 1))
    assert same(load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors"))
    assert sorted(file.name for file in broken.iterdir()) == ["features", "model.safetensors"]


@pytest.mark.usefixtures("one_thread")
def test_killed_twice_at_any_moment_it_ends_the_same(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    draw = random.Random(time.time_ns())
    for wanted in (2, 4):
        with training_process("adam", broken, slow=0.02) as steps:
            for _ in range(wanted):
                assert steps.readline()
            time.sleep(draw.uniform(0, 0.05))  # in a step, between two, or while the checkpoint is written
    assert small_trained.train("adam", broken)[0] > 2
    small_trained.train("adam", whole)
    assert same(load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors"))
    assert not list(broken.glob("run.checkpoint*"))


# Checkpoints


def test_an_interrupt_leaves_a_checkpoint_that_stays_until_it_is_discarded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    interrupted(path, 7)
    (path.parent / "run.writing").write_bytes(b"half of what a killed process wrote")
    with capture_logs() as logs:
        detector = small()
        detector.fit(pictures(), ignore, training=Training(checkpoint=path))
    assert any("goes on" in entry["event"] for entry in logs)
    assert same(detector.state_dict(), trained().state_dict())
    assert discard(path)
    assert list(path.parent.iterdir()) == []
    assert not discard(path)


def test_a_finished_training_whose_model_was_lost_makes_no_step_more(tmp_path: Path) -> None:
    training = Training(checkpoint=tmp_path / "run")
    once = trained(training)
    again = trained(training)
    assert len(once.rates) == 4 * STEPS
    assert again.rates == []
    assert same(once.state_dict(), again.state_dict())


@pytest.mark.parametrize(
    "other",
    [{"learning_rate": 2e-2}, {"seed": 1}, {"epochs": 5}, {"optimizer": "sgd"}, {"batch": 5}, {"clip": None}],
    ids=str,
)
def test_a_checkpoint_of_other_settings_is_refused(other: dict[str, Any], tmp_path: Path) -> None:
    interrupted(tmp_path / "run", 3)
    refused(tmp_path / "run", "is of another training", **other)


def test_a_checkpoint_of_other_images_or_weights_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path / "run", 3)
    training = Training(checkpoint=tmp_path / "run")
    others = Tensors(pictures().images, fingerprint="others")
    with pytest.raises(FitError, match="is of another training"):
        trained(training, others)
    fewer = Tensors(pictures().images[:-1], fingerprint="pictures")
    with pytest.raises(FitError, match="is of another training"):
        trained(training, fewer)
    with capture_logs():
        detector = small()
        load_backbone_weights(detector.backbone, "random", seed=1)
    with pytest.raises(FitError, match="is of another training"):
        detector.fit(pictures(), ignore, training=training)


def refused(path: Path, says: str, **given: Any) -> None:
    with pytest.raises(FitError, match=says) as caught:
        trained(Training(checkpoint=path), **given)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert path.is_file()  # whoever wants it gone removes it


def test_a_torn_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    interrupted(path, 3)
    whole = path.read_bytes()
    for length in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(path, "cannot be read .*: remove it and train anew")
    path.write_bytes(whole + b"\x00")
    refused(path, "cannot be read .*: remove it and train anew")


def test_a_checkpoint_with_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    interrupted(path, 3)
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    step = whole.index(b'\\"step\\": ') + len(b'\\"step\\": ')
    for place in (step, 8 + header + 5, (8 + header + len(whole)) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(path, "cannot be read|is damaged, or none")


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    save_file({"conv1.weight": torch.zeros(3)}, path)
    refused(path, "is damaged, or none: remove it and train anew")


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    interrupted(path, 3)
    before = Small.__init__

    def wider(detector: Small, *arguments: Any) -> None:
        before(detector, *arguments)
        detector.head.append(torch.nn.Conv2d(1, 1, 1))

    monkeypatch.setattr(Small, "__init__", wider)
    refused(path, "is of another version of this detector")


def test_a_checkpoint_that_cannot_be_written_stops_the_training_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "run", tmp_path / "file" / "deep" / "run"):
        with pytest.raises(FitError, match=r"cannot be written: .*; make room or train elsewhere") as caught:
            trained(Training(checkpoint=path, every_s=0))
        assert "\n" not in str(caught.value)
    (tmp_path / "taken").mkdir()
    with pytest.raises(FitError, match="cannot be written"):
        trained(Training(checkpoint=tmp_path / "taken", every_s=0))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "taken"]


@pytest.fixture(scope="module")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a module, because hypothesis shares it between its examples."""
    return tmp_path_factory.mktemp("checkpoints") / "run"


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 3), max_size=3),
            st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 2**40),
    st.integers(1, 2**30),
    st.floats(0, 1e9),
)
def test_what_a_checkpoint_holds_comes_back(
    checkpoint_file: Path, buffers: list[tuple[list[int], torch.dtype]], step: int, epochs: int, seconds: float
) -> None:
    def module(value: int) -> torch.nn.Module:
        made = torch.nn.Linear(3, 2)
        for number, (shape, dtype) in enumerate(buffers):
            made.register_buffer(f"b{number}", torch.full(shape, value, dtype=dtype))
        return made

    saved, loaded = module(1), module(0)
    optimizers = [torch.optim.Adam(one.parameters()) for one in (saved, loaded)]
    saved(torch.ones(1, 3)).sum().backward()
    optimizers[0].step()
    Checkpoint(checkpoint_file, "this").save(saved, optimizers[0], Reached(step, epochs, seconds))
    assert Checkpoint(checkpoint_file, "this").load(loaded, optimizers[1]) == Reached(step, epochs, seconds)
    assert same(dict(saved.state_dict()), dict(loaded.state_dict()))
    states = [optimizer.state_dict()["state"] for optimizer in optimizers]
    assert all(same(states[0][number], states[1][number]) for number in states[0])


# The loop


def test_an_epoch_shows_every_sample_once_and_each_epoch_in_another_order() -> None:
    detector = trained()
    shown: dict[int, list[int]] = {}
    for epoch, numbers in detector.order[: 4 * STEPS]:  # one more is prepared in vain
        assert len(numbers) == 4
        shown.setdefault(epoch, []).extend(numbers)
    assert sorted(shown) == [0, 1, 2, 3]
    assert all(len(set(numbers)) == len(numbers) == 4 * STEPS for numbers in shown.values())
    assert len({tuple(numbers) for numbers in shown.values()}) == 4
    assert detector.rates == [step / (4 * STEPS) for step in range(4 * STEPS)]
    assert not detector.training


def test_chance_follows_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = trained().state_dict()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    assert same(one, trained().state_dict())
    assert torch.equal(before, torch.random.get_rng_state())
    assert not same(one, trained(seed=1).state_dict())


def test_a_batch_may_be_larger_than_the_set() -> None:
    detector = trained(batch=1000, epochs=2)
    assert [len(numbers) for _, numbers in detector.order[:2]] == [IMAGES, IMAGES]


def slowly(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let each look at the clock find it so much later, and each step look once."""
    now = iter(range(10**9))
    monkeypatch.setattr("inference.detectors.trained.time.monotonic", lambda: next(now) * seconds)


def test_a_budget_of_minutes_plans_fewer_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch, 3.0)
    with capture_logs() as logs:
        detector = small(epochs=1000)
        detector.fit(pictures(), ignore, training=Training(minutes=1.0))  # 20 steps: 4 epochs
    assert [entry["event"] for entry in logs if "budget" in entry["event"]] == ["the budget holds fewer epochs"]
    assert len(detector.rates) == 4 * STEPS
    assert detector.rates[-1] == pytest.approx(1 - 1 / (4 * STEPS))  # the schedule came to its end
    assert not detector.training


def test_a_budget_that_suffices_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained().state_dict()
    slowly(monkeypatch, 3.0)
    assert same(whole, trained(Training(minutes=1.0)).state_dict())


def test_a_budget_shorter_than_an_epoch_breaks_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch, 30.0)
    with capture_logs() as logs:
        detector = small()
        detector.fit(pictures(), ignore, training=Training(minutes=1.0))
    assert [entry["log_level"] for entry in logs if "budget" in entry["event"]] == ["warning"]
    assert len(detector.rates) == 3


def test_a_plan_survives_the_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run"
    slowly(monkeypatch, 3.0)
    training = Training(checkpoint=path, every_s=0, minutes=1.0)
    with capture_logs():
        detector = small(epochs=1000)

        def stop(done: int, _total: int, note: str = "", /) -> None:
            if note.startswith("epoch") and done == 4 * (STEPS + 2):
                raise Stop

        with pytest.raises(Stop):
            detector.fit(pictures(), stop, training=training)
    resumed = trained(Training(checkpoint=path), epochs=1000)
    assert resumed.rates[-1] == pytest.approx(1 - 1 / (4 * STEPS))


def test_a_plan_is_made_after_a_kill_in_the_first_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(tmp_path / "run", 3, epochs=1000)  # two steps are done
    slowly(monkeypatch, 3.0)
    detector = trained(Training(checkpoint=tmp_path / "run", minutes=1.0), epochs=1000)
    assert len(detector.rates) == 4 * STEPS - 2


def test_the_time_before_a_kill_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slowly(monkeypatch, 3.0)
    training = Training(checkpoint=tmp_path / "run", every_s=0, minutes=1.0)

    def stop(_done: int, _total: int, note: str = "", /) -> None:
        if note.startswith("epoch 3"):
            raise Stop

    with capture_logs():
        detector = small(epochs=1000)
        with pytest.raises(Stop):
            detector.fit(pictures(), stop, training=training)
    slowly(monkeypatch, 9.0)  # three times as slow as the plan thought: of 60 s half are left
    resumed = trained(training, epochs=1000)
    assert len(resumed.rates) == 4
    assert trained(training, epochs=1000).rates == []  # broken off; what is left is to calibrate


@pytest.mark.parametrize("epochs", [1, 1000])
def test_a_kill_between_the_first_epoch_and_its_plan(epochs: int, tmp_path: Path) -> None:
    interrupted(tmp_path / "run", STEPS + 1, epochs=1000)
    detector = trained(Training(checkpoint=tmp_path / "run", minutes=1e-9 if epochs == 1 else 60), epochs=1000)
    assert (detector.rates == []) == (epochs == 1)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_names_the_step_and_the_mend(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Small.loss

    def burst(detector: Small, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        loss = before(detector, batch, generator)
        return loss * value if len(detector.rates) == 7 else loss

    monkeypatch.setattr(Small, "loss", burst)
    with pytest.raises(
        FitError, match=r"^the loss of small became (nan|inf) in step 7: lower learning_rate \(0\.01\)$"
    ):
        trained()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_is_not_finite_after_the_last_step_is_no_model(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Small.loss

    def burst(detector: Small, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        loss = before(detector, batch, generator)
        if len(detector.rates) == 4 * STEPS:
            detector.get_buffer("head.1.running_var").data.fill_(value)  # behind autograd's back
        return loss

    monkeypatch.setattr(Small, "loss", burst)
    with pytest.raises(
        FitError, match=r"^head.1.running_var of small is not finite after step 20: lower learning_rate \(0\.01\)$"
    ):
        trained(Training(checkpoint=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_trained_is_refused_before_the_work() -> None:
    with pytest.raises(WeightsError, match="resnet18 has no weights yet"):
        Small().fit(pictures(), ignore)
    with pytest.raises(FitError, match="small needs at least 2 good images, got 1: add images"):
        trained(images=Tensors(pictures().images[:1]))


def test_an_error_of_the_samples_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise Stop

    monkeypatch.setattr(small_trained._Noisy, "take", fail)
    with pytest.raises(Stop):
        trained()


def test_the_cache_changes_nothing_of_what_is_learned(tmp_path: Path) -> None:
    plain = trained().state_dict()
    computed = trained(Training(features=tmp_path)).state_dict()
    cached = trained(Training(features=tmp_path)).state_dict()
    too_small = trained(Training(features=tmp_path, features_bytes=1000)).state_dict()
    assert same(plain, computed)
    assert same(plain, cached)
    assert same(plain, too_small)


def test_the_checkpoint_is_plain_tensors(tmp_path: Path) -> None:
    interrupted(tmp_path / "run", 3)
    with safe_open(tmp_path / "run", framework="pt") as file:
        names = set(file.keys())
    assert {"module.head.0.weight", "module.head.1.running_mean", "optimizer.0.exp_avg", "optimizer.0.step"} < names
    assert Backbone("resnet18", ["layer1"]).network.state_dict().keys() <= {
        name.removeprefix("module.backbone.network.") for name in names
    }
