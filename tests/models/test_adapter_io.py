"""Saving and loading: exactly the trained tensors, onto the right backbones, or one line that says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from families import E, augmented, features, language_model, new_language_model, text
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, OPTConfig, ViTConfig, ViTModel

from epalm.errors import AdapterError, ConfigError
from epalm.models import PerceptualLM, perceptual_lm
from epalm.settings import AdapterConfig

FILES = {"adapter_config.json", "adapter_model.safetensors", "README.md"}
SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "vocab_size": 50}


def opt(**changes: Any) -> Any:
    return new_language_model(
        OPTConfig(**SMALL | {"ffn_dim": 24, "word_embed_proj_dim": 16, "max_position_embeddings": 32} | changes)
    )


def vit(seed: int = 0, **changes: Any) -> ViTModel:
    torch.manual_seed(seed)
    given = {"hidden_size": E, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    model = ViTModel(ViTConfig(**given | changes, image_size=8, patch_size=4), add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    augmented(language_model("opt", "eager"), connector="per_level", prompt="mlp").save_pretrained(tmp_path / "a")
    return tmp_path / "a"


def load(directory: Path) -> PerceptualLM:
    return PerceptualLM.from_pretrained(directory, language_model=language_model("opt", "eager"))


def refusal(action: Callable[[], Any]) -> str:
    with pytest.raises(AdapterError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_three_files_and_the_trained_tensors_alone(saved: Path) -> None:
    assert {path.name for path in saved.iterdir()} == FILES
    assert len({path.stat().st_mode for path in saved.iterdir()}) == 1  # whoever may read one may read all
    tensors = load_file(saved / "adapter_model.safetensors")
    assert set(tensors) == {
        *(f"connector.image.{level}.{kind}" for level in (0, 1) for kind in ("weight", "bias")),
        "prompt.embedding.weight",
        *(f"prompt.{layer}.{kind}" for layer in ("inner", "outer") for kind in ("weight", "bias")),
    }
    model = load(saved)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in model.trained_state_dict().items())


@torch.no_grad()
def test_backbones_are_found_where_the_adapter_says(tmp_path: Path) -> None:
    opt().save_pretrained(tmp_path / "lm")
    vit().save_pretrained(tmp_path / "vit")
    (tmp_path / "vit" / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}})
    )
    model = PerceptualLM.build(tmp_path / "lm", tmp_path / "vit", config="epalm_ada").eval()
    model.save_pretrained(tmp_path / "adapter", metadata={"task": "captioning"})
    card = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert card["language_model"]["source"] == str(tmp_path / "lm")
    assert card["encoders"]["image"]["source"] == str(tmp_path / "vit")
    assert card["trained_parameters"] == model.summary().trained
    again = PerceptualLM.from_pretrained(tmp_path / "adapter")
    assert again.metadata == {"task": "captioning"}
    assert again.config == model.config
    assert not again.training
    pixels = torch.randn(2, 3, 8, 8)
    ids = text(rows=2) % 50
    assert torch.equal(again(ids, pixel_values=pixels).logits, model(ids, pixel_values=pixels).logits)
    half = PerceptualLM.from_pretrained(tmp_path / "adapter", torch_dtype=torch.float16)
    assert half.language_model.dtype == torch.float16  # the fingerprint knows the weights in any precision


def test_saving_again_replaces_the_adapter_and_leaves_other_files(saved: Path) -> None:
    (saved / "notes.txt").write_text("mine")
    other = augmented(language_model("opt", "eager"), prompt="none")
    other.save_pretrained(saved)
    assert {path.name for path in saved.iterdir()} == FILES | {"notes.txt"}
    assert set(load_file(saved / "adapter_model.safetensors")) == set(other.trained_state_dict())


def test_a_save_that_dies_leaves_no_adapter_that_looks_whole(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = augmented(language_model("opt", "eager"), prompt="none")
    old = (saved / "adapter_model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")))
        assert "disk full" in refusal(lambda: model.save_pretrained(saved))
    assert (saved / "adapter_model.safetensors").read_bytes() == old
    load(saved)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("gone")))
        refusal(lambda: model.save_pretrained(saved))
    assert "adapter_config.json is missing" in refusal(lambda: load(saved))
    assert {path.name for path in saved.iterdir()} <= FILES


def test_a_diverged_adapter_is_not_saved(tmp_path: Path) -> None:
    model = augmented(language_model("opt", "eager"))
    with torch.no_grad():
        model.prompt.weight[0, 0] = float("nan")
    assert "tensor 'prompt.weight' holds values that are not finite" in refusal(lambda: model.save_pretrained(tmp_path))
    assert not list(tmp_path.iterdir())


def test_metadata_that_json_cannot_hold_is_refused_and_forgotten(tmp_path: Path) -> None:
    model = augmented(language_model("opt", "eager"))
    with pytest.raises(ConfigError, match="metadata: JSON cannot hold it"):
        model.save_pretrained(tmp_path, {"x": object()})
    assert not list(tmp_path.iterdir())
    model.save_pretrained(tmp_path, {"y": 1})
    assert model.metadata == {"y": 1}


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def change_card(directory: Path, **changes: Any) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(directory: Path, change: Callable[[dict], None]) -> None:
    tensors = load_file(directory / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, directory / "adapter_model.safetensors")


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "adapter_config.json").unlink(), "adapter_config.json is missing"),
        (lambda d: (d / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is missing"),
        (lambda d: (d / "adapter_config.json").write_text("{not json"), "adapter_config.json is not valid JSON"),
        (lambda d: (d / "adapter_config.json").write_text("[]"), "adapter_config.json holds no JSON object"),
        (lambda d: (d / "adapter_config.json").write_bytes(b"\xff\xfe"), "adapter_config.json is not valid JSON"),
        (lambda d: change_card(d, format=99), "has format 99, this version of epalm reads 1"),
        (lambda d: change_card(d, surprise=1), "unknown setting 'surprise'"),
        (lambda d: change_card(d, adapter={"prompt": "long"}), "adapter.prompt"),
        (lambda d: cut(d / "adapter_model.safetensors", 300), "adapter_model.safetensors is cut off after 300 of"),
        (lambda d: cut(d / "adapter_model.safetensors", -4), "adapter_model.safetensors is cut off after"),
        (lambda d: (d / "adapter_model.safetensors").write_bytes(b""), "adapter_model.safetensors is empty"),
        (
            lambda d: (d / "adapter_model.safetensors").write_text(POINTER),
            "adapter_model.safetensors is a Git LFS pointer",
        ),
        (lambda d: (d / "adapter_config.json").write_text(POINTER), "adapter_config.json is a Git LFS pointer"),
        (lambda d: (d / "adapter_config.json").write_text('{"peft_type": "LORA"}'), "is a PEFT adapter (LORA)"),
        (lambda d: change_tensors(d, lambda t: t.pop("prompt.inner.bias")), "'prompt.inner.bias' is missing"),
        (lambda d: change_tensors(d, lambda t: t.update(extra=torch.ones(1))), "'extra' does not belong"),
        (
            lambda d: change_tensors(d, lambda t: t.update({"prompt.inner.bias": torch.ones(3)})),
            r"'prompt.inner.bias' has shape [3], expected [32]",
        ),
        (
            lambda d: change_tensors(d, lambda t: t["prompt.inner.bias"].fill_(float("inf"))),
            "'prompt.inner.bias' holds values that are not finite",
        ),
    ],
)
def test_damage_is_said_in_one_line(saved: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(saved)
    line = refusal(lambda: load(saved))
    assert message in line
    assert str(saved) in line


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: new_language_model(LlamaConfig(**SMALL, intermediate_size=24)), "family is llama"),
        (lambda: opt(num_hidden_layers=4), "layers is 4, the adapter was trained on 3"),
        (lambda: opt(hidden_size=32, word_embed_proj_dim=32), "width is 32, the adapter was trained on 16"),
        (lambda: opt(vocab_size=60), "vocabulary is 60, the adapter was trained on 50"),
        (lambda: new_language_model(opt().config, seed=9), "language model with other weights"),
    ],
)
def test_a_language_model_that_does_not_fit_is_told(tmp_path: Path, other: Callable[[], Any], message: str) -> None:
    PerceptualLM.build(opt(), config="text_only").save_pretrained(tmp_path)
    assert message in refusal(lambda: PerceptualLM.from_pretrained(tmp_path, language_model=other()))
    PerceptualLM.from_pretrained(tmp_path, language_model=opt())


def test_an_encoder_that_does_not_fit_is_told(tmp_path: Path) -> None:
    lm = opt()
    PerceptualLM.build(lm, vit()).save_pretrained(tmp_path)

    def onto(encoder: Any) -> Callable[[], Any]:
        return lambda: PerceptualLM.from_pretrained(tmp_path, language_model=lm, encoders=encoder)

    assert "image encoder: width is 16, the adapter was trained on 12" in refusal(onto(vit(hidden_size=16)))
    assert "image encoder with other weights" in refusal(onto(vit(seed=1)))
    assert "trained on a live image encoder" in refusal(onto(None))
    onto(vit())()


def test_a_live_language_model_must_be_given_again(tmp_path: Path) -> None:
    PerceptualLM.build(opt(), config="text_only").save_pretrained(tmp_path)
    assert "give language_model" in refusal(lambda: PerceptualLM.from_pretrained(tmp_path))
    again = PerceptualLM.from_pretrained(tmp_path, language_model=opt(), encoders=vit())
    assert len(again.encoders) == 0  # an adapter of text alone has no use for one


def test_an_encoder_of_another_modality_is_told(tmp_path: Path) -> None:
    lm = language_model("llama", "sdpa")
    augmented(lm, widths={"audio": 5}).save_pretrained(tmp_path)
    line = refusal(lambda: PerceptualLM.from_pretrained(tmp_path, language_model=lm, encoders=vit()))
    assert "trained without an encoder for image" in line


def test_what_is_nowhere_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "no such directory, and not found on the Hub" in refusal(lambda: load(tmp_path / "nowhere"))


def test_model_card_has_front_matter_the_hub_reads(saved: Path) -> None:
    lines = (saved / "README.md").read_text().splitlines()
    front = lines[1 : lines.index("---", 1)]
    assert lines[0] == "---"
    assert "library_name: epalm" in front
    assert "- image" in front
    assert not any(line.startswith("base_model") for line in front)


def test_pushing_uploads_the_three_files(monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: dict[str, Any] = {}

    class Hub:
        def __init__(self, token: str | None) -> None:
            uploaded["token"] = token

        def create_repo(self, repo_id: str, **given: Any) -> str:
            uploaded.update(given)
            return f"https://hub/{repo_id}"

        def upload_folder(self, repo_id: str, folder_path: str, commit_message: str) -> None:
            uploaded["files"] = {path.name for path in Path(folder_path).iterdir()}

    monkeypatch.setattr(perceptual_lm, "HfApi", Hub)
    model = augmented(language_model("opt", "eager"))
    assert model.push_to_hub("me/adapter", private=True, token="t") == "https://hub/me/adapter"
    assert uploaded == {"token": "t", "private": True, "exist_ok": True, "files": FILES}


@torch.no_grad()
def test_several_modalities_come_back(tmp_path: Path) -> None:
    lm = language_model("llama", "sdpa")
    model = augmented(lm, widths={"image": E, "audio": 5})
    model.save_pretrained(tmp_path)
    again = PerceptualLM.from_pretrained(tmp_path, language_model=lm)
    given = {"image": features(3), "audio": features(3, width=5)}
    assert torch.equal(again(text(), features=given).logits, model(text(), features=given).logits)


def test_settings_are_written_out(saved: Path) -> None:
    adapter = AdapterConfig(**json.loads((saved / "adapter_config.json").read_text())["adapter"])
    assert (adapter.start, adapter.end, adapter.levels) == (1, 3, 2)
