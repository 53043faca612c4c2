"""Weights: read whole and of the right network, or not at all."""

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from structlog.testing import capture_logs
from torch import Tensor

from inference import weights
from inference.detectors.backbones import BACKBONES, Backbone
from inference.errors import WeightsError
from inference.weights import add_weights, download_weights, list_weights, load_backbone_weights

NODES = ("layer1", "layer2")


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "store"
    monkeypatch.setenv("LINEWATCH_WEIGHTS", str(folder))
    return folder


def tensors_of(name: str = "resnet18", nodes: tuple[str, ...] = NODES) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = Backbone(name, nodes).expected()
    return {key: torch.rand(shape, generator=generator) * 0.1 + 0.01 for key, shape in shapes.items()}


def state(backbone: Backbone) -> list[Tensor]:
    return list(backbone.network.state_dict().values())


def test_safetensors_and_pth_load_alike_and_are_named_by_their_hash(tmp_path: Path) -> None:
    tensors = tensors_of()
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "b.pth")
    torch.save({"state_dict": {f"module.{key}": t for key, t in tensors.items()}}, tmp_path / "c.pt")
    loaded = []
    for file in sorted(tmp_path.glob("*.*t*")):
        backbone = Backbone("resnet18", NODES)
        assert load_backbone_weights(backbone, file) == hashlib.sha256(file.read_bytes()).hexdigest()
        assert backbone.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        loaded.append(state(backbone))
    assert len(loaded) == 3
    torch.testing.assert_close(loaded[1:], [loaded[0]] * 2, rtol=0, atol=0)


def test_counters_and_later_layers_do_not_matter(tmp_path: Path) -> None:
    tensors = tensors_of(nodes=("layer3",)) | {"bn1.num_batches_tracked": torch.tensor(7)}
    save_file(tensors, tmp_path / "more.safetensors")
    backbone = Backbone("resnet18", NODES)
    load_backbone_weights(backbone, tmp_path / "more.safetensors")
    backbone.require_weights()


def test_missing_tensors_are_named_and_counted(tmp_path: Path) -> None:
    save_file(tensors_of(), tmp_path / "part.safetensors")
    with pytest.raises(WeightsError, match=r"lacks 25 of the 75 .* resnet18 needs: layer3\.0\.conv1\.weight, .*, …$"):
        load_backbone_weights(Backbone("resnet18", ["layer3"]), tmp_path / "part.safetensors")


def test_a_wrong_shape_is_named(tmp_path: Path) -> None:
    tensors = tensors_of() | {"conv1.weight": torch.zeros(64, 1, 7, 7)}
    save_file(tensors, tmp_path / "grey.safetensors")
    with pytest.raises(WeightsError, match=r"conv1\.weight is \[64, 1, 7, 7\], should be \[64, 3, 7, 7\]"):
        load_backbone_weights(Backbone("resnet18", NODES), tmp_path / "grey.safetensors")


@pytest.mark.parametrize("name", ["resnet50", "wide_resnet50_2", "efficientnet_b5", "efficientnet_b7", "swin_b"])
def test_another_networks_file_is_recognised(name: str, tmp_path: Path) -> None:
    nodes = NODES if "resnet" in name else ("features.3",)
    save_file(tensors_of(name, nodes), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=f"holds weights of {name}, not of resnet18"):
        load_backbone_weights(Backbone("resnet18", NODES), tmp_path / "other.safetensors")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_damaged_values_are_refused(value: float, tmp_path: Path) -> None:
    tensors = tensors_of()
    tensors["bn1.bias"][3] = value
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(WeightsError, match=r"values in bn1\.bias that are no finite floats"):
        load_backbone_weights(Backbone("resnet18", NODES), tmp_path / "bad.safetensors")


class Hostile:
    """Pickled, it would run code when read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("executed"),))  # type: ignore[return-value]  # pickle's protocol


def test_a_file_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Hostile()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="is no plain state dict"):
        load_backbone_weights(Backbone("resnet18", NODES), tmp_path / "evil.pth")
    assert not Path("executed").exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.safetensors", b"", "cannot read weights file"),
        ("noise.safetensors", b"\x00" * 100, "cannot read weights file"),
        ("empty.pth", b"", "is no plain state dict"),
        ("noise.pth", b"hello, world", "is no plain state dict"),
        ("model.onnx", b"x", r"ends in \.onnx"),
    ],
)
def test_broken_files_cost_one_line(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=says) as caught:
        load_backbone_weights(Backbone("resnet18", NODES), tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_an_empty_store_name_the_mend(tmp_path: Path) -> None:
    backbone = Backbone("resnet18", NODES)
    with pytest.raises(WeightsError, match=r"no weights file .*gone\.pth"):
        load_backbone_weights(backbone, tmp_path / "gone.pth")
    with pytest.raises(WeightsError, match="weights download resnet18"):
        load_backbone_weights(backbone)


def test_random_weights_follow_the_seed_and_say_what_they_cost() -> None:
    with capture_logs() as logs:
        backbones = [Backbone("resnet18", NODES) for _ in range(3)]
        hashes = [load_backbone_weights(b, "random", seed=s) for b, s in zip(backbones, (1, 1, 2), strict=True)]
    assert hashes[0] == hashes[1] != hashes[2]
    torch.testing.assert_close(state(backbones[0]), state(backbones[1]), rtol=0, atol=0)
    assert {entry["log_level"] for entry in logs} == {"warning"}
    features = backbones[0](torch.rand(1, 3, 64, 64))
    assert all(bool(f.isfinite().all()) and float(f.std()) > 0.01 for f in features)


def test_the_store_keeps_what_was_added(tmp_path: Path, store: Path) -> None:
    assert list_weights() == []
    torch.save(tensors_of(), tmp_path / "mine.pth")
    added = add_weights("resnet18", tmp_path / "mine.pth")
    assert list_weights() == [added]
    assert added.path == store / "resnet18.safetensors"
    assert added.size == added.path.stat().st_size
    assert [file.name for file in store.iterdir()] == ["resnet18.safetensors"]
    backbone = Backbone("resnet18", NODES)
    assert load_backbone_weights(backbone) == added.sha256
    direct = Backbone("resnet18", NODES)
    load_backbone_weights(direct, tmp_path / "mine.pth")
    torch.testing.assert_close(state(backbone), state(direct), rtol=0, atol=0)


def test_a_file_of_another_network_does_not_enter_the_store(tmp_path: Path) -> None:
    save_file(tensors_of("resnet50"), tmp_path / "r50.safetensors")
    with pytest.raises(WeightsError, match="holds weights of resnet50"):
        add_weights("resnet18", tmp_path / "r50.safetensors")
    with pytest.raises(WeightsError, match="no backbone 'vgg'"):
        add_weights("vgg", tmp_path / "r50.safetensors")
    assert list_weights() == []


def served(folder: Path, monkeypatch: pytest.MonkeyPatch, *, promised: str | None = None) -> None:
    """Offer a file as torchvision's own would be: its name ends in the first digits of its hash."""
    file = folder / "published.pth"
    torch.save(tensors_of(), file)
    digest = promised or hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    url = file.rename(folder / f"resnet18-{digest}.pth").as_uri()
    monkeypatch.setattr(weights, "_url", lambda _name: url)


def test_a_download_is_verified_and_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served(tmp_path, monkeypatch)
    stored = download_weights("resnet18")
    load_backbone_weights(backbone := Backbone("resnet18", NODES))
    assert backbone.sha256 == stored.sha256


def test_a_download_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served(tmp_path, monkeypatch, promised="00000000")
    with pytest.raises(WeightsError, match="cannot download resnet18"):
        download_weights("resnet18")
    assert list_weights() == []


def test_out_of_reach_names_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = (tmp_path / "nowhere-00000000.pth").as_uri()
    monkeypatch.setattr(weights, "_url", lambda _name: url)
    with pytest.raises(WeightsError, match="or bring a file: weights add resnet18 FILE"):
        download_weights("resnet18")


@pytest.mark.parametrize("name", BACKBONES)
def test_downloads_are_torchvisions_of_the_papers_age(name: str) -> None:
    url = weights._url(name)
    assert url.startswith("https://download.pytorch.org/models/")
    assert len(url.removesuffix(".pth").rpartition("-")[2]) == 8


@pytest.mark.shared
def test_a_real_partial_file_serves_layer3_and_no_further(shared: Path) -> None:
    file = shared / "weights" / "resnet18-imagenet-layer1to3.safetensors"
    backbone = Backbone("resnet18", ["layer3"])
    load_backbone_weights(backbone, file)
    backbone.require_weights()
    with pytest.raises(WeightsError, match=r"needs: layer4\.0\.conv1\.weight"):
        load_backbone_weights(Backbone("resnet18", ["layer4"]), file)
