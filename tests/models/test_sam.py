"""SAM on slices, with LoRA: the same as transformers' own, where that can be asked."""

from __future__ import annotations

import json
import socket
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from forked import forked
from tiny_random_sam import tiny_random_sam, write_tiny_random_sam

from minivess import provenance
from minivess.config.models import ModelConfig
from minivess.errors import MinivessError
from minivess.models import build_adapter, sam
from minivess.models.pretrained import weight_files, weights_sha256
from minivess.models.sam import SIZES, SamAdapter, check_size
from minivess.models.weights import weights_of
from minivess.seeding import torch_seeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SPACING = (1.0, 1.0, 5.0)


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_random_sam(tmp_path_factory.mktemp("weights") / "tiny_random_sam")


def adapter(folder: Path | None = None, **keys: Any) -> SamAdapter:
    values = {"architecture": "sam", "encoder": "tiny_random", **keys}
    if folder is not None:
        values["weights"] = str(folder)
    made = build_adapter(ModelConfig.model_validate(values), SPACING)
    assert isinstance(made, SamAdapter)
    return made


def network(folder: Path, **keys: Any) -> torch.nn.Module:
    made = adapter(folder, **keys)
    with torch_seeded(5, "test"):
        found = made.build().eval()
    made.start(found)
    return found


def volume(*shape: int) -> torch.Tensor:
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))


def seen_by_sam(image: torch.Tensor, plane: int) -> torch.Tensor:
    """A slice as a photograph: rows are y, three equal channels, SAM's mean and deviation."""
    from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    grey = image[0, 0, :, :, plane].T[None, None].repeat(1, 3, 1, 1)
    large = torch.nn.functional.interpolate(grey, scale_factor=4.0, mode="bilinear")
    mean, deviation = torch.tensor(IMAGENET_DEFAULT_MEAN), torch.tensor(IMAGENET_DEFAULT_STD)
    return (large - mean[:, None, None]) / deviation[:, None, None]


def test_each_slice_is_what_transformers_own_sam_gives(folder: Path) -> None:
    """At the size that SAM was trained on, before any training: LoRA begins at zero."""
    image = volume(32, 32, 2)
    theirs = tiny_random_sam()
    with torch.no_grad():
        logits = network(folder)(image)
        for plane in range(2):
            masks = theirs(seen_by_sam(image, plane), multimask_output=False).pred_masks[0, 0, 0]
            torch.testing.assert_close(logits[0, 1, :, :, plane].T, masks, atol=1e-5, rtol=1e-4)
    assert float(logits[:, 1].std()) > 0.01
    assert not logits[:, 0].any()


def test_lora_adds_its_product_times_alpha_over_rank(folder: Path) -> None:
    ours, theirs, image = (
        network(folder, lora_rank=2, lora_alpha=6),
        tiny_random_sam(),
        volume(32, 32, 1),
    )
    own = dict(ours.get_submodule("network").named_parameters())
    before = ours(image).detach()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        merged = dict(theirs.named_parameters())
        for name in merged:
            base = name.removesuffix(".weight")
            if (b := own.get(f"{base}.lora_B.default.weight")) is not None:
                assert b.shape[1] == 2
                assert not b.any()
                b.normal_(generator=generator)
                merged[name] += 6 / 2 * b @ own[f"{base}.lora_A.default.weight"]
        masks = theirs(seen_by_sam(image, 0), multimask_output=False).pred_masks[0, 0, 0]
        after = ours(image)
    torch.testing.assert_close(after[0, 1, :, :, 0].T, masks, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(after, before, atol=1e-3)


def test_lora_and_the_decoder_are_trained_and_nothing_else(folder: Path) -> None:
    made, ours = adapter(folder), network(folder)
    trained = {name for name, p in ours.named_parameters() if p.requires_grad}
    lora = {name for name in trained if ".lora_" in name}
    assert len(lora) == 2 * 2 * SIZES["tiny_random"].layers
    assert all(name.startswith("network.mask_decoder.") for name in trained - lora)
    before = weights_of(ours)
    optimizer = torch.optim.AdamW(ours.parameters(), lr=1e-2, fused=True)
    for _ in range(2):  # the first step leaves LoRA's first matrix, whose gradient is still zero
        made.heads(ours.train()(volume(8, 8, 2)))[0][:, 1].square().mean().backward()
        optimizer.step()
    after = weights_of(ours)
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert changed <= trained
    assert lora <= changed
    assert len(changed) > 0.9 * len(trained)
    text = made.describe()
    assert "rank 4 and alpha 4" in text["arch_trained"]
    assert "encoder's own weights" in text["arch_frozen"]


def test_slices_know_nothing_of_each_other(folder: Path) -> None:
    ours, image = network(folder), volume(16, 8, 3)
    other = image.clone()
    other[..., 1] = 0.5
    with torch.no_grad():
        one, two = ours(image), ours(other)
    assert one.shape == (1, 2, 16, 8, 3)
    assert torch.equal(one[..., [0, 2]], two[..., [0, 2]])
    assert not torch.allclose(one[..., 1], two[..., 1])


@pytest.mark.parametrize(("upscale", "side"), [(1, 16), (2, 8), (4, 4)])
def test_slices_are_of_whole_tokens_at_any_enlargement(
    folder: Path, upscale: int, side: int
) -> None:
    made, ours = adapter(folder, upscale=upscale), network(folder, upscale=upscale)
    assert made.patch_divisor() == (side, side, 1)
    assert ours(volume(2 * side, side, 1)).shape == (1, 2, 2 * side, side, 1)
    with pytest.raises(ValueError, match=f"not of tokens of {side} x {side}"):
        ours(volume(2 * side, side + side // 2, 1))


def test_positions_are_those_that_were_learned() -> None:
    from minivess.models.slice_wise import places, resized

    theirs = tiny_random_sam()
    features = places(theirs.shared_image_embedding.positional_embedding, 8, 8)
    torch.testing.assert_close(features, theirs.get_image_wide_positional_embeddings())
    learned = theirs.vision_encoder.pos_embed
    assert resized(learned, 8, 8) is learned
    # A ramp over the image stays one, whatever the number of tokens.
    ramp = ((torch.arange(8) + 0.5) / 8)[None, :, None, None].expand(1, 8, 8, 3)
    inner = resized(ramp, 32, 4)[0, 8:-8, 0, 0]
    torch.testing.assert_close(inner, ((torch.arange(32) + 0.5) / 32)[8:-8], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("encoder", "weights"),
    [("vit_b", 93_735_472), ("vit_l", 312_342_832), ("vit_h", 641_090_608)],
)
def test_the_sizes_are_the_published_ones(encoder: str, weights: int) -> None:
    """Numbers of weights of the original SAMs, which count the 256 fixed frequencies not."""
    made = adapter(encoder=encoder)
    with torch.device("meta"):
        built = made.build()
    count = sum(p.numel() for name, p in built.named_parameters() if ".lora_" not in name)
    assert count - 256 == weights
    assert made.parameters() == pytest.approx(sum(p.numel() for p in built.parameters()), rel=1e-4)


def test_an_exported_network_gives_the_same(folder: Path) -> None:
    import onnxruntime

    from minivess.deploy.onnx import export_network

    ours = network(folder)
    model = forked(export_network, ours, (16, 8, 3), False)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    images = volume(16, 8, 3).repeat(3, 1, 1, 1, 1)
    (found,) = session.run(["probability"], {"image": images.numpy()})
    with torch.no_grad():
        expected = ours(images).softmax(1)[:, 1:].numpy()
    assert float(np.ptp(expected)) > 0.001
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nothing_is_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError(f"connects to {arguments[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    network(folder)


def refused(folder: Path | None, **keys: Any) -> MinivessError:
    made = adapter(folder, **keys)
    built = made.build()
    with pytest.raises(MinivessError) as caught:
        made.start(built)
    return caught.value


def copied(folder: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A folder whose tensors are changed."""
    from safetensors.torch import load_file, save_file

    target.mkdir()
    (target / "config.json").write_bytes((folder / "config.json").read_bytes())
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target


BIAS = "vision_encoder.layers.0.attn.proj.bias"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop(BIAS), f"first {BIAS}"),
        (lambda tensors: tensors.update(surplus=tensors[BIAS].clone()), "first surplus"),
        (lambda tensors: tensors.update({BIAS: torch.zeros(3)}), ""),
    ],
)
def test_every_weight_must_fit(
    folder: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    error = refused(copied(folder, tmp_path / "other", change))
    assert error.code == "MV-MODEL-002"
    assert said in error.found
    assert "not the weights of SAM" in error.what


def test_a_damaged_file_and_a_pickle_are_not_weights(folder: Path, tmp_path: Path) -> None:
    broken = copied(folder, tmp_path / "broken", lambda tensors: None)
    content = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert refused(broken).code == "MV-MODEL-002"
    (broken / "model.safetensors").unlink()
    assert "no config.json in" in refused(tmp_path).found
    (broken / "pytorch_model.bin").write_bytes(b"what unpickling would run")
    error = refused(broken)
    assert error.code == "MV-MODEL-001"
    assert "pickles are not read" in error.found


@pytest.mark.parametrize(
    ("config", "fix"),
    [
        ('{"model_type": "sam", "vision_config": {"hidden_size": 1024, "num_hidden_layers": 24}}',
         "set models.a.encoder to vit_l"),
        ('{"model_type": "sam"}', "set models.a.encoder to vit_b"),
        ('{"model_type": "sam", "vision_config": {"hidden_size": 7}}', "name another folder"),
        ('{"model_type": "sam2"}', "facebook/sam-vit-base"),
        ("{}", "get the folder again"),
        ("[", "get the folder again"),
    ],
)  # fmt: skip
def test_a_folder_of_another_network_is_told_before_any_work(
    folder: Path, tmp_path: Path, config: str, fix: str
) -> None:
    other = copied(folder, tmp_path / "other", lambda tensors: None)
    (other / "config.json").write_text(config, encoding="utf-8")
    named = ModelConfig(architecture="sam", encoder="tiny_random", weights=str(other))
    with pytest.raises(MinivessError) as caught:
        SamAdapter.check(named, "models.a")
    assert caught.value.code == "MV-MODEL-002"
    assert fix in caught.value.fix


def test_the_published_folders_are_told_apart(folder: Path, tmp_path: Path) -> None:
    check_size(folder, "tiny_random", "models.a")
    for name in ("vit_b", "vit_l", "vit_h"):
        size = SIZES[name]
        numbers = {"hidden_size": size.hidden, "num_hidden_layers": size.layers}
        text = json.dumps({"model_type": "sam", "vision_config": numbers})
        (tmp_path / "config.json").write_text(text, encoding="utf-8")
        check_size(tmp_path, name, "models.a")


def test_an_adapter_beside_the_weights_is_refused(folder: Path, tmp_path: Path) -> None:
    """transformers would add it to them, without a word."""
    same = copied(folder, tmp_path / "same", lambda tensors: None)
    SamAdapter.check(adapter(same).config, "models.a")
    (same / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(MinivessError, match=r"adapter_config\.json") as caught:
        SamAdapter.check(adapter(same).config, "models.a")
    assert caught.value.code == "MV-MODEL-001"


def test_weights_in_parts_are_those_that_the_index_names(folder: Path, tmp_path: Path) -> None:
    parts = copied(folder, tmp_path / "parts", lambda tensors: None)
    (parts / "model.safetensors").rename(parts / "part-1.safetensors")
    (parts / "other.safetensors").write_bytes(b"")
    config = adapter(parts).config
    with pytest.raises(MinivessError, match="neither"):
        SamAdapter.check(config, "models.a")
    index = parts / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "part-1.safetensors"}}), encoding="utf-8")
    SamAdapter.check(config, "models.a")
    names = [file.name for file in weight_files(str(parts))]
    assert names == ["config.json", index.name, "part-1.safetensors"]
    index.write_text(json.dumps({"weight_map": {"a": "part-2.safetensors"}}), encoding="utf-8")
    with pytest.raises(MinivessError, match="part-2") as caught:
        SamAdapter.check(config, "models.a")
    assert caught.value.code == "MV-MODEL-001"
    index.write_text("[]", encoding="utf-8")
    with pytest.raises(MinivessError) as caught:
        SamAdapter.check(config, "models.a")
    assert caught.value.code == "MV-MODEL-002"


def test_the_libraries_behind_it_are_part_of_a_run() -> None:
    assert adapter().libraries == ("peft", "transformers")
    facts = provenance.system_facts(adapter().libraries)
    assert facts["sys_transformers"] == metadata.version("transformers")


def test_another_content_is_another_digest(folder: Path, tmp_path: Path) -> None:
    assert weights_sha256(None) is None
    assert weights_sha256(str(tmp_path / "none")) is None
    same = copied(folder, tmp_path / "same", lambda tensors: None)
    other = copied(folder, tmp_path / "other", lambda tensors: tensors[BIAS].add_(1))
    digests = [weights_sha256(str(place)) for place in (folder, same, other)]
    assert digests[0] == digests[1] != digests[2]
    (same / "README.md").write_text("of no account", encoding="utf-8")
    assert weights_sha256(str(same)) == digests[0]
    names = [file.name for file in weight_files(str(same))]
    assert names == ["config.json", "model.safetensors"]


def test_without_the_extra_the_error_says_how_to_get_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sam, "find_spec", lambda name: None if name == "peft" else name)
    made = adapter(folder)
    for attempt in (made.build, lambda: SamAdapter.check(made.config, "models.a")):
        with pytest.raises(MinivessError) as caught:
            attempt()
        assert caught.value.code == "MV-SYSTEM-004"
        assert "peft" in caught.value.what
        assert "uv sync --extra sam" in caught.value.fix
