"""Language models from files: what is damaged, of another model, or no model at all, said in one line."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from epalm.errors import ConfigError, EpalmError
from epalm.models import PerceptualLM
from epalm.models.language_model_files import LanguageModelFiles

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
E = 8


@pytest.fixture
def opt(backbones: Path, tmp_path: Path) -> Path:
    """One of one's own, to do damage to."""
    return Path(shutil.copytree(backbones / "opt", tmp_path / "opt"))


def refusal(source: Any, **settings: Any) -> str:
    with pytest.raises(EpalmError) as caught:
        PerceptualLM.build(source, encoder_width=E, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"language model {source}: ")
    return message.removeprefix(f"language model {source}: ")


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def shard(folder: Path) -> None:
    """Save its weights in several files anew."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")


def pickle(folder: Path) -> Path:
    """Save its weights as torch does."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pointer": (lambda d: (d / "model.safetensors").write_text(POINTER), "model.safetensors is a Git LFS pointer"),
    "half": (lambda d: halve(d / "model.safetensors"), "model.safetensors is cut off after"),
    "none": (lambda d: (d / "model.safetensors").unlink(), "holds no weights"),
    "half a pickle": (lambda d: halve(pickle(d)), "pytorch_model.bin is cut off"),
    "code": (lambda d: torch.save(shutil.copy, pickle(d)), "code in a checkpoint is never run"),
    "half a shard": (
        lambda d: (shard(d), halve(next(d.glob("model-00002-*")))),
        "model-00002-of-00004.safetensors is cut off",
    ),
    "no shard": (
        lambda d: (shard(d), next(d.glob("model-00002-*")).unlink()),
        "names 4 files of weights, and 1 of them is not there, first model-00002-of-00004.safetensors",
    ),
    "generation settings": (lambda d: halve(d / "generation_config.json"), "generation_config.json is not valid JSON"),
    "fewer layers": (lambda d: change_config(d, num_hidden_layers=2), "has 2 layers, its weights have more ('model.d"),
    "more layers": (lambda d: change_config(d, num_hidden_layers=4), "lacks 16 weights, first 'model.decoder.layers.3"),
    "another width": (lambda d: change_config(d, ffn_dim=16), "has shape [32] in its weights and [16] by its config"),
    "dtype": (lambda d: change_config(d, dtype="float99"), "float99"),
    "unknown": (lambda d: change_config(d, model_type="quux"), "has no models of type 'quux'; a newer version may"),
    "own code": (
        lambda d: change_config(d, model_type="quux", auto_map={"AutoConfig": "code.Config"}),
        "needs code of its own (auto_map), which is never run",
    ),
    "unknown quantisation": (
        lambda d: change_config(d, quantization_config={"quant_method": "quux"}),
        "quantised by 'quux', which transformers",
    ),
    "quantisation's package": (
        lambda d: change_config(d, quantization_config={"quant_method": "vptq"}),
        "requires VPTQ",
    ),
    "tokenizer's pointer": (
        lambda d: (d / "tokenizer.json").write_text(POINTER),
        "its tokenizer cannot be loaded: tokenizer.json is a Git LFS pointer",
    ),
    "half a tokenizer": (
        lambda d: halve(d / "tokenizer.json"),
        "its tokenizer cannot be loaded: tokenizer.json is not valid JSON",
    ),
    "no vocabulary": (
        lambda d: (d / "tokenizer.json").unlink(),
        "its tokenizer cannot be loaded: tokenizer_config.json is there, its vocabulary is not",
    ),
    "a vocabulary that transformers makes up": (
        lambda d: (
            (d / "tokenizer.json").unlink(),
            (d / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}'),
        ),
        "its tokenizer cannot be loaded: tokenizer_config.json is there, its vocabulary is not",
    ),
    "merges": (
        lambda d: (
            (d / "tokenizer.json").rename(d / "vocab.json"),
            (d / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}'),
        ),
        "its tokenizer cannot be loaded: ",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_with_the_file_and_the_reason(opt: Path, kind: str) -> None:
    do, reason = DAMAGE[kind]
    do(opt)
    assert reason in refusal(opt)


def test_whole_checkpoints_of_every_kind_are_loaded(opt: Path, backbones: Path) -> None:
    ids = torch.arange(5)[None]
    expected = PerceptualLM.build(backbones / "opt", encoder_width=E, config="text_only").language_model(ids).logits
    pickle(opt)
    assert torch.equal(PerceptualLM.build(opt, encoder_width=E).language_model(ids).logits, expected)
    shutil.copy(backbones / "opt" / "model.safetensors", opt)
    shard(opt)
    assert torch.equal(PerceptualLM.build(opt, encoder_width=E).language_model(ids).logits, expected)


def test_layers_that_predict_ahead_are_no_sign_of_another_model(opt: Path) -> None:
    """Such as DeepSeek V3 and GLM-4.5 have behind their last one; transformers leaves them out."""
    weights = load_file(opt / "model.safetensors")
    ahead = {key.replace("layers.2", "layers.3"): each.clone() for key, each in weights.items() if "layers.2." in key}
    save_file(weights | ahead, opt / "model.safetensors", {"format": "pt"})
    assert "has 3 layers, its weights have more" in refusal(opt)
    change_config(opt, num_nextn_predict_layers=1)
    assert len(PerceptualLM.build(opt, encoder_width=E).anatomy.layers) == 3


def test_what_merging_an_adapter_left_behind_is_no_adapter(
    opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (opt / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "a/b"}')
    if find_spec("peft") is None:
        assert PerceptualLM.build(opt, encoder_width=E).tokenizer is not None
    (tmp_path / "peft").mkdir()
    (tmp_path / "peft" / "__init__.py").touch()
    with monkeypatch.context() as changes:
        changes.syspath_prepend(tmp_path)  # with that package transformers looks for the adapter
        assert "holds adapter_config.json, but no PEFT adapter; where it is merged, delete that" in refusal(opt)
    save_file({"lora_A": torch.ones(1)}, opt / "adapter_model.safetensors")
    assert "holds a PEFT adapter (LORA), which is not read; merge it into a/b" in refusal(opt)


def test_weights_that_are_not_read_need_not_be_there(
    opt: Path, place: Path, epalm: Callable[..., Any], refused: Callable[..., str]
) -> None:
    (opt / "model.safetensors").write_text(POINTER)
    assert epalm("info", "recipe.yaml", "--model.language_model", opt).code == 0
    train = ("train", "recipe.yaml", "--data.train", "captions.jsonl", "--output", "out")
    assert "model.safetensors is a Git LFS pointer" in refused(*train, "--model.language_model", opt)
    assert not Path("out").exists()


def test_a_model_without_a_tokenizer_has_none(opt: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (opt / name).unlink()
    assert PerceptualLM.build(opt, encoder_width=E).tokenizer is None


def test_a_tokenizer_of_ones_own_takes_the_place_of_a_damaged_one(opt: Path) -> None:
    (opt / "tokenizer.json").write_text(POINTER)
    own = tiny.byte_tokenizer()
    assert PerceptualLM.build(opt, encoder_width=E, tokenizer=own).tokenizer is own


@pytest.mark.parametrize(
    ("content", "package"),
    [
        (b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02" + bytes(64), "sentencepiece"),
        (b"IQ== 0\nIg== 1\n", "tiktoken"),
    ],
)
def test_a_package_that_a_tokenizer_needs_is_named(
    opt: Path, content: bytes, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (opt / "tokenizer.json").unlink()
    (opt / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')
    (opt / "tokenizer.model").write_bytes(content)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    assert f"it needs the package {package}, which is not installed; install it (pip install" in refusal(opt)


def test_the_tokenizer_of_mistral_common_is_taken_where_that_is_installed(opt: Path) -> None:
    """Models of Mistral's own come with `tekken.json` and no other tokenizer."""
    data = Path(pytest.importorskip("mistral_common").__file__).parent / "data"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (opt / name).unlink()
    change_config(opt, model_type="mistral")
    shutil.copy(next(data.glob("tekken*.json")), opt / "tekken.json")
    tokenizer = LanguageModelFiles.find(opt).tokenizer()
    assert tokenizer.decode(tokenizer("a dog", add_special_tokens=False)["input_ids"]) == "a dog"


@pytest.mark.parametrize("files", [["adapter_config.json", "adapter_model.safetensors"], []])
def test_an_adapter_is_no_language_model(backbones: Path, tmp_path: Path, files: list[str]) -> None:
    PerceptualLM.build(backbones / "opt", encoder_width=E).save_pretrained(tmp_path)
    for path in tmp_path.iterdir():
        if path.name not in files:
            path.unlink()
    assert ("holds an adapter of epalm" if files else "is an empty directory") in refusal(tmp_path)


def test_what_was_fetched_in_part_is_named(opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    snapshot = cache / "models--me--opt" / "snapshots" / "0123"
    shutil.copytree(opt, snapshot)
    (cache / "models--me--opt" / "refs").mkdir()
    (cache / "models--me--opt" / "refs" / "main").write_text("0123")
    halve(snapshot / "model.safetensors")
    said = refusal("me/opt")
    assert "model.safetensors is cut off after" in said
    assert f"delete {snapshot / 'model.safetensors'}, and it is fetched again" in said
    shutil.copy(opt / "model.safetensors", snapshot)
    shard(snapshot)
    next(snapshot.glob("model-00002-*")).unlink()
    assert "first model-00002-of-00004.safetensors; unset HF_HUB_OFFLINE, and they are fetched" in refusal("me/opt")
    assert refusal("me/otp").endswith("not fetched before, and HF_HUB_OFFLINE is set; did you mean 'me/opt'?")
    assert "no id on the Hub" in refusal("me/opt@main")


def test_other_files_are_no_language_models(backbones: Path, tmp_path: Path) -> None:
    assert "is a file; name the directory that it lies in" in refusal(backbones / "opt" / "model.safetensors")
    with pytest.raises(ConfigError, match="no such directory"):
        PerceptualLM.build(tmp_path / "nowhere.gguf", encoder_width=E)
