"""Recommending: fair probes, an honest comparison, and every candidate in its row whatever happens to it."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from structlog.testing import capture_logs

from inference.detectors import DETECTORS
from inference.detectors.backbones import Backbone
from inference.detectors.padim import PadimSettings
from inference.errors import DataError, EngineError, FitError, InferenceError, WeightsError
from inference.training import candidates as candidates_module
from inference.training import trials
from inference.training.candidates import Candidate, candidates, judge_ms
from inference.training.probes import HELD_BACK, PROBES, impartial, probes
from inference.training.recommend import Outcome, recommend
from inference.training.recommendation import Recommendation, Trial, cautions, why, why_not
from inference.training.standing import Choice, Standing, choose
from inference.training.tradeoff import draw
from inference.training.trials import Terms
from inference.weights import add_weights, load_backbone_weights
from ingest.preprocess import Preprocessing
from storage.errors import StorageFull
from tests.inference.small_detectors import Template
from tests.plates import write_plates

SMALL = ("template", "blind", "fitless", "broken", "unlearned", "fussy", "shown")


@pytest.fixture(autouse=True)
def small_detectors() -> Iterator[None]:
    before = dict(DETECTORS)  # put back as a whole: one by one, they would come back in another order
    DETECTORS.clear()
    DETECTORS["padim"] = before["padim"]
    DETECTORS.update({name: f"tests.inference.small_detectors:{name.title()}" for name in SMALL})
    yield
    DETECTORS.clear()
    DETECTORS.update(before)


@pytest.fixture
def latencies(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """Milliseconds by name of the detector, one for each time it is measured; 5 where none are given."""
    given: dict[str, list[float]] = {}

    def judged(detector, device, *, threads):
        assert threads == 0
        judge_ms(detector, device, threads=1)  # as it would: what fails in it, fails
        return given.get(detector.name, [5.0]).pop(0) if given.get(detector.name) else 5.0

    monkeypatch.setattr(trials, "judge_ms", judged)
    monkeypatch.setattr(candidates_module, "_REPEATS", 1)
    return given


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_plates(tmp_path_factory.mktemp("plates") / "plates", 30))


TERMS = Terms(Preprocessing(size=(48, 32)), budget_ms=20, device="cpu")


def tried(data: str, *names: str, terms: Terms = TERMS) -> Recommendation:
    return outcome(data, *names, terms=terms).summary


def outcome(data: str, *names: str, terms: Terms = TERMS) -> Outcome:
    with capture_logs():
        return recommend(data, [Candidate(name, None) for name in names], terms)


def rows(found: Recommendation) -> dict[str, Trial]:
    return {trial.detector: trial for trial in found.trials}


# Probes


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(PROBES),
    shade=st.sampled_from([0, 1, 128, 255, None]),
    side=st.integers(24, 90),
)
def test_each_probe_changes_what_its_mask_says(seed: int, kind: str, shade: int | None, side: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (side, 40, 3), np.uint8)
    picture = noise if shade is None else np.full((side, 40, 3), shade, np.uint8)
    good, *spoilt = probes([picture], kinds=[kind], copies=2, seed=seed)
    assert (good.kind, good.mask.any(), good.picture is picture) == ("good", False, True)
    for probe in spoilt:
        assert probe.mask.any()
        np.testing.assert_array_equal(probe.mask, (probe.picture != picture).any(axis=2))
    assert (spoilt[0].picture != spoilt[1].picture).any()


def test_a_probe_follows_from_its_place_alone() -> None:
    pictures = [np.full((40, 40, 3), 100 + i, np.uint8) for i in range(3)]
    few = {(p.number, p.kind): p.picture for p in probes(pictures, kinds=["scar"], copies=1, seed=3)}
    many = list(probes(pictures, kinds=PROBES, copies=1, seed=3))
    assert len(many) == 3 * (1 + len(PROBES))
    for probe in many:
        if probe.kind == "scar":
            np.testing.assert_array_equal(probe.picture, few[probe.number, "scar"])


def test_no_detector_is_compared_on_what_it_or_a_rival_trained_with() -> None:
    assert impartial([]) == PROBES
    assert impartial(["confetti"]) == ("cutpaste", "scar", *HELD_BACK)
    assert impartial(["cutpaste"]) == impartial(["scar"]) == ("confetti", *HELD_BACK)
    assert impartial(["confetti", "cutpaste"]) == HELD_BACK


# Standing and choice


def standing(good: np.ndarray, defects: np.ndarray, *, aupro: float | None = 0.5) -> Standing:
    return Standing(good, {"dent": defects}, ("dent",), None if aupro is None else 0.5, aupro)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 20), m=st.integers(1, 5))
def test_the_auroc_is_the_usual_one_with_ties_also_in_each_draw(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    good, defects = rng.integers(0, 6, n).astype(float), rng.integers(0, 8, (n, m)).astype(float)
    found = standing(good, defects)
    labels, scores = [False] * n + [True] * n * m, np.concatenate([good, defects.ravel()])
    assert found.auroc == pytest.approx(roc_auc_score(labels, scores))
    assert found.auroc_of("dent") == pytest.approx(found.auroc)
    taken = np.random.default_rng(7).multinomial(n, np.full(n, 1 / n), size=1000)[0]
    again = np.repeat(np.arange(n), taken)
    scores = np.concatenate([good[again], defects[again].ravel()])
    assert found.auroc_draws(7)[0] == pytest.approx(roc_auc_score(labels, scores))
    low, high = found.interval(7)
    assert 0 <= low <= high <= 1


def test_found_counts_above_what_one_good_image_in_twenty_exceeds() -> None:
    good = np.arange(100.0)
    assert standing(good, np.full((100, 1), 95.5)).found == 1.0
    assert standing(good, np.full((100, 1), 94.5)).found == 0.0


def scored(auroc: float, rng: np.random.Generator, *, aupro: float | None = 0.5) -> Standing:
    """Of sixty images, of whose defects about the share `2 * auroc - 1` is found."""
    defects = np.where(rng.random((60, 4)) < 2 * auroc - 1, 5.0, rng.random((60, 4)))
    return standing(rng.random(60), defects, aupro=aupro)


def test_the_best_is_surely_best_or_has_the_better_overlap_or_is_faster() -> None:
    rng = np.random.default_rng(0)
    poor, one, other = scored(0.7, rng), scored(0.95, rng, aupro=0.8), scored(0.95, rng, aupro=0.6)
    assert choose([(poor, 1.0), (one, 9.0)], 0) == Choice(1, (1,), "nothing")
    assert choose([(other, 1.0), (one, 9.0), (poor, 1.0)], 0) == Choice(1, (0, 1), "AUPRO")
    near = scored(0.95, rng, aupro=0.795)
    assert choose([(near, 1.0), (one, 9.0), (poor, 1.0)], 0) == Choice(0, (0, 1), "latency")
    mapless = scored(0.95, rng, aupro=None)
    assert choose([(mapless, 1.0), (other, 9.0)], 0).best == 1
    assert choose([(poor, 3.0)], 0) == Choice(0, (0,), "nothing")


def test_the_sentence_says_what_decided() -> None:
    first = Trial(detector="a", backbone="b", status="chosen", ms=9, image_auroc=0.95, aupro=0.8)
    second = Trial(detector="c", backbone=None, status="behind", ms=1, image_auroc=0.9, aupro=0.7)
    assert why([first], Choice(0, (0,), "nothing")) == "a on b is the only candidate that was fitted within the budget"
    assert "a on b has the highest image AUROC, 0.950: that of the next, c, is 0.900" in why(
        [second, first], Choice(1, (1,), "nothing")
    )
    assert "its AUPRO, 0.800, is the highest" in why([first, second], Choice(0, (0, 1), "AUPRO"))
    assert "it is the fastest" in why([first, second], Choice(1, (0, 1), "latency"))
    slow = Trial(detector="a", backbone="b", status="too slow", ms=31)
    assert "the fastest, a on b, judges an image in 31 ms, more than the 20 ms allowed" in why_not([slow], 20)
    failed = Trial(detector="a", backbone="b", status="failed", reason="broken")
    assert "see the reasons" in why_not([slow, failed], 20)


def test_what_makes_the_figures_unsure_is_said() -> None:
    whole = Trial(detector="a", backbone="b", status="chosen", learned=1)
    assert cautions([whole], 20, load=1, cores=2) == ()
    half = Trial(detector="c", backbone=None, status="behind", learned=0.5)
    said = cautions([whole, half], 19, load=1.1, cores=2)
    assert [words.partition(" ")[0] for words in said] == ["c", "19", "the"]


# Candidates


def test_candidates_are_what_has_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINEWATCH_WEIGHTS", str(tmp_path / "store"))
    with pytest.raises(WeightsError, match="no weights for resnet18 or resnet50: bring a file"):
        candidates(["padim"], ["resnet18", "resnet50"])
    assert candidates(["template", "padim"]) == [Candidate("template", None)]
    file = tmp_path / "mine.safetensors"
    backbone = Backbone("resnet18", PadimSettings().layers)
    with capture_logs():
        load_backbone_weights(backbone, "random")
        every = candidates(["padim"], ["resnet18", "resnet50"], "random")
    assert every == [Candidate("padim", "resnet18", "random"), Candidate("padim", "resnet50", "random")]
    _save(backbone, file)
    assert candidates(["padim", "template"], [], str(file)) == [
        Candidate("padim", "resnet18", str(file)),
        Candidate("template", None),
    ]
    with pytest.raises(WeightsError, match="holds weights of resnet18, not of resnet50"):
        candidates(["padim"], ["resnet50"], str(file))
    add_weights("resnet18", file)
    assert candidates(["padim"]) == [Candidate("padim", "resnet18")]
    assert candidates(["padim"], [], str(file)) == [Candidate("padim", "resnet18", str(file))]


def _save(backbone: Backbone, file: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: torch.ones(shape) for name, shape in backbone.expected().items()}, file)


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="no detector 'nonsense': choose one of padim"):
        candidates(["nonsense"])
    with pytest.raises(WeightsError, match="no backbone 'vgg': choose one of resnet18"):
        candidates([], ["vgg"])
    with pytest.raises(WeightsError, match="no weights file"):
        candidates([], [], str(tmp_path / "none.pth"))


def test_measuring_leaves_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    assert judge_ms(Template(TERMS_SETTINGS), torch.device("cpu"), threads=before + 1) > 0
    assert torch.get_num_threads() == before


TERMS_SETTINGS = Template.settings_class(image_size=(48, 32))


# The whole


def test_the_seeing_one_is_chosen_and_every_failure_has_its_row(data: str, latencies: dict[str, list[float]]) -> None:
    latencies["fitless"] = [30.0]
    names = ["broken", "blind", "unlearned", "template", "fussy", "fitless"]
    found = tried(data, *names)
    trial = rows(found)
    assert [t.detector for t in found.trials[:2]] == ["template", "blind"]
    assert [t.status for t in found.trials] == ["chosen", "behind", "too slow", "failed", "failed", "failed"]
    assert trial["template"].image_auroc == pytest.approx(1, abs=0.02)
    assert trial["template"].aupro is not None
    assert trial["template"].kinds is not None
    assert set(trial["template"].kinds) == set(PROBES) == set(found.compared_on)
    assert trial["blind"].aupro is None
    assert trial["broken"].reason == "ValueError: a hammer fell on it"
    assert trial["fussy"].reason == "these images do not please"
    assert trial["unlearned"].reason == "unlearned gives scores or maps that are not finite"
    assert trial["fitless"].reason == "judges an image in 30.0 ms, the budget is 20 ms"
    assert trial["fitless"].fit_seconds is None
    assert (found.n_fitted, found.n_held_out) == (24, 6)
    assert "template has the highest image AUROC" in found.why
    assert found.command is not None
    words = shlex.split(found.command)
    assert words[:6] == ["linewatch", "fit", "--detector", "template", "--image-size", "48x32"]
    assert words[-4:] == ["--data", data, "--out", "models/plates"]


def test_the_same_seed_recommends_the_same(data: str, latencies: dict[str, list[float]]) -> None:
    del latencies
    one, other = (tried(data, "template", "blind", "shown") for _ in range(2))
    for a, b in zip(one.trials, other.trials, strict=True):
        assert a.model_copy(update={"fit_seconds": 0}) == b.model_copy(update={"fit_seconds": 0})


def test_a_detector_is_not_judged_by_what_it_was_shown_nor_is_a_rival(
    data: str, latencies: dict[str, list[float]]
) -> None:
    del latencies
    found = tried(data, "template", "shown")
    assert found.compared_on == HELD_BACK
    assert rows(found)["shown"].trained_with == ("confetti", "cutpaste")
    assert set(rows(found)["template"].kinds or {}) == set(PROBES)  # told, but it does not count
    assert tried(data, "template").compared_on == PROBES


def test_who_is_too_slow_does_not_decide_what_counts(data: str, latencies: dict[str, list[float]]) -> None:
    latencies["shown"] = [21.0]
    assert tried(data, "template", "shown").compared_on == PROBES


def test_a_gallery_is_measured_again_when_it_is_full(data: str, latencies: dict[str, list[float]]) -> None:
    latencies["fitless"] = [5.0, 25.0]
    found = tried(data, "fitless")
    assert (found.trials[0].status, found.trials[0].ms) == ("too slow", 25.0)
    assert found.command is None
    assert "the fastest, fitless, judges an image in 25 ms" in found.why


def test_when_time_is_up_the_rest_are_not_tried_and_it_is_said(data: str, latencies: dict[str, list[float]]) -> None:
    del latencies
    found = tried(data, "shown", "template", terms=Terms(TERMS.preprocessing, 20, minutes=0, device="cpu"))
    assert {trial.status for trial in found.trials} == {"out of time"}
    assert "give more with --minutes" in found.trials[0].reason
    hurried = tried(data, "shown", terms=Terms(TERMS.preprocessing, 20, minutes=1e-9, device="cpu"))
    assert hurried.trials[0].learned is not None
    assert hurried.trials[0].learned < 1
    assert "shown had no time for all epochs" in hurried.cautions[0]
    assert tried(data, "shown").trials[0].learned == 1


def test_a_backbone_without_layers_is_a_row_too(data: str, latencies: dict[str, list[float]]) -> None:
    del latencies
    with capture_logs():
        found = recommend(data, [Candidate("padim", "vgg", "random"), Candidate("template", None)], TERMS).summary
    assert [trial.status for trial in found.trials] == ["chosen", "failed"]
    assert "vgg" in found.trials[1].reason


def test_too_few_images_and_no_such_device_are_said(tmp_path: Path, data: str) -> None:
    few = write_plates(tmp_path / "few", 5)
    with pytest.raises(FitError, match="5 good images are too few to compare detectors on"):
        tried(str(few), "template")
    with pytest.raises(EngineError, match="no device"):
        tried(data, "template", terms=Terms(TERMS.preprocessing, 20, device="abacus"))
    with pytest.raises(DataError):
        tried(str(tmp_path / "empty.mp4"), "template")


def test_the_drawings_show_all_candidates_and_the_defects(
    data: str, latencies: dict[str, list[float]], tmp_path: Path
) -> None:
    latencies["fitless"] = [30.0]
    found = outcome(data, "template", "blind", "fitless", "shown")
    written = draw(found.summary, found.held_out, tmp_path / "plots")
    assert [path.name for path in written] == ["tradeoff.png", "made_up_defects.png"]
    nothing = outcome(data, "broken")
    assert len(draw(nothing.summary, nothing.held_out, tmp_path / "plots")) == 2
    (tmp_path / "file").touch()
    with pytest.raises(StorageFull):
        draw(found.summary, found.held_out, tmp_path / "file" / "plots")
