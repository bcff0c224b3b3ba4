"""Language models in GGUF files, written by the package gguf and read by transformers."""

from __future__ import annotations

import importlib.util
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from epalm.errors import ConfigError, EpalmError
from epalm.models import PerceptualLM
from epalm.models.adapter_io import read_adapter

MERGES = ["h e", "l l"]
IS_INSTALLED = importlib.util.find_spec("gguf") is not None
needs_gguf = pytest.mark.skipif(not IS_INSTALLED, reason="needs the package gguf")


def refusal(source: Path, **settings: Any) -> str:
    with pytest.raises(EpalmError) as caught:
        PerceptualLM.build(source, encoder_width=8, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaMA as a GGUF file, and beside it in `saved` as transformers saves it."""
    path = tmp_path_factory.mktemp("gguf") / "llama.gguf"
    tiny.save_language_model(path.parent / "saved", "llama", hidden_size=32, head_dim=16, intermediate_size=64)
    write_gguf(path, path.parent / "saved")
    return path


def write_gguf(path: Path, folder: Path) -> None:
    """A LLaMA in float32 with its vocabulary, whose last two tokens are `MERGES`."""
    import gguf

    model = AutoModelForCausalLM.from_pretrained(folder)
    config, writer = model.config, gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    tokens = [*sorted(vocabulary, key=vocabulary.__getitem__), *(merge.replace(" ", "") for merge in MERGES)]
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in ("<pad>", "</s>") else 1 for token in tokens])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_pad_token_id(config.pad_token_id)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers": "blk",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for name, tensor in model.state_dict().items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # its halves of a rotated pair lie side by side
            pairs = tensor.reshape(config.num_attention_heads, 2, -1, tensor.shape[1])
            tensor = pairs.transpose(1, 2).reshape(tensor.shape)
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        writer.add_tensor(name, tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@needs_gguf
def test_a_gguf_file_is_the_model_it_was_made_of(llama: Path, tmp_path: Path) -> None:
    expected = PerceptualLM.build(llama.parent / "saved", encoder_width=8)
    model = PerceptualLM.build(llama, encoder_width=8)
    ids, features = torch.arange(9)[None], torch.randn(1, 1, 8)
    assert torch.equal(model.language_model(ids).logits, expected.language_model(ids).logits)
    assert model.card().language_model.fingerprint == expected.card().language_model.fingerprint is not None
    tokens = model.tokenizer("hello")["input_ids"]
    assert (tokens[:2], model.tokenizer.decode(tokens)) == ([258, 259], "hello")
    assert (model.tokenizer.pad_token_id, model.tokenizer.eos_token_id) == (256, 257)
    model(ids, labels=ids, features=features).loss.backward()
    assert all(tensor.grad is not None for part in model.trained_parameters().values() for tensor in part)

    model.save_pretrained(tmp_path)
    assert read_adapter(tmp_path).card.language_model.source == str(llama)
    again = PerceptualLM.from_pretrained(tmp_path).eval()
    assert torch.equal(again(ids, features=features).logits, model.eval()(ids, features=features).logits)


@needs_gguf
def test_a_gguf_file_is_held_as_any_other(llama: Path) -> None:
    held = PerceptualLM.build(llama, encoder_width=8, torch_dtype="bfloat16", quantization="int8")
    assert held.language_model.dtype == torch.bfloat16
    assert held.card().language_model.quantization == "int8"
    assert "cannot be given 8bit" in refusal(llama, quantization="8bit")


@needs_gguf
def test_a_run_finds_a_gguf_file_from_where_it_stands(
    llama: Path, place: Path, epalm: Callable[..., Any], refused: Callable[..., str]
) -> None:
    os.link(llama, place / "llama.gguf")
    train = ("train", "recipe.yaml", "--data.train", "captions.jsonl", "--output", "out", "--training.steps", 1)
    assert "trained" in epalm("info", "recipe.yaml", "--model.language_model", "llama.gguf").out
    assert epalm(*train, "--model.language_model", "llama.gguf").code == 0
    assert read_adapter("out").card.language_model.source == str(place / "llama.gguf")
    assert epalm("caption", "out", "pictures/red.png").code == 0
    (place / "llama.gguf").unlink()
    assert f"was trained on {place / 'llama.gguf'}, which is not there" in refused("caption", "out", "pictures/red.png")


@needs_gguf
def test_a_tokenizer_that_lies_beside_a_gguf_file_is_taken(llama: Path, tmp_path: Path) -> None:
    os.link(llama, tmp_path / "llama.gguf")
    tiny.byte_tokenizer().save_pretrained(tmp_path)
    tokenizer = PerceptualLM.build(tmp_path / "llama.gguf", encoder_width=8).tokenizer
    assert (len(tokenizer), tokenizer.eos_token_id) == (258, 257)
    (tmp_path / "tokenizer.json").write_text("{")
    assert "its tokenizer cannot be loaded: tokenizer.json is not valid JSON" in refusal(tmp_path / "llama.gguf")


@needs_gguf
def test_half_a_gguf_file(llama: Path, tmp_path: Path) -> None:
    content = (llama).read_bytes()
    for name, size in (("half.gguf", len(content) // 2), ("little.gguf", 100)):
        (tmp_path / name).write_bytes(content[:size])
        assert name in refusal(tmp_path / name)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def test_what_gguf_files_are_not_read(tmp_path: Path) -> None:
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("general.architecture") + struct.pack("<I", 8)
    for name, content, reason in (
        ("pointer.gguf", b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
        ("old.gguf", b"GGUF\x01" + bytes(20), "is no GGUF file of version 2 or 3"),
        ("part-00001-of-00003.gguf", header + text("llama"), "is one of 3 parts; merge them"),
        ("odd.gguf", header + text("quux"), "quux" if IS_INSTALLED else "need the package gguf"),
    ):
        (tmp_path / name).write_bytes(content)
        message = refusal(tmp_path / name)
        assert message.startswith(f"language model {tmp_path / name}: ")
        assert reason in message
    with pytest.raises(ConfigError, match=r"holds GGUF files; name one of them: odd\.gguf, old\.gguf"):
        PerceptualLM.build(tmp_path, encoder_width=8)


@pytest.mark.skipif(IS_INSTALLED, reason="the package gguf is installed")
def test_the_package_that_reads_gguf_files_is_named(tmp_path: Path) -> None:
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("general.architecture") + struct.pack("<I", 8)
    (tmp_path / "model.gguf").write_bytes(header + text("llama"))
    message = refusal(tmp_path / "model.gguf")
    assert message.endswith(
        'GGUF files need the package gguf, which is not installed; install it (pip install "epalm[gguf]")'
    )
