"""The small parts: block adapters, prompts, fingerprints, parameter counts."""

from __future__ import annotations

import pytest
import torch
from families import FAMILIES, E, augmented, features, language_model, new_language_model, text
from torch import nn
from transformers import AutoModelForCausalLM, MixtralConfig, OPTConfig, ViTConfig, ViTModel

from epalm.encoders import load_encoder
from epalm.errors import UnsupportedModelError
from epalm.models import PerceptualLM
from epalm.models.anatomy import study
from epalm.models.block_adapters import BlockAdapters, Bottleneck
from epalm.runtime.fingerprint import fingerprint
from epalm.settings import AdapterConfig

OPT_SHAPES = {
    "125m": {"hidden_size": 768, "ffn_dim": 3072, "num_hidden_layers": 12, "word_embed_proj_dim": 768},
    "2.7b": {"hidden_size": 2560, "ffn_dim": 10240, "num_hidden_layers": 32, "word_embed_proj_dim": 2560},
    "6.7b": {"hidden_size": 4096, "ffn_dim": 16384, "num_hidden_layers": 32, "word_embed_proj_dim": 4096},
}
VIT_SHAPES = {
    "B": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12},
    "L": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
}


def on_paper(lm: str, vit: str, preset: str) -> PerceptualLM:
    """The published sizes, on the meta device."""
    with torch.device("meta"):
        language = AutoModelForCausalLM.from_config(
            OPTConfig(**OPT_SHAPES[lm], num_attention_heads=32 if lm != "125m" else 12)
        )
        encoder = ViTModel(ViTConfig(**VIT_SHAPES[vit]), add_pooling_layer=False)
    return PerceptualLM.build(language, encoder, config=preset)


@pytest.mark.parametrize(
    ("lm", "vit", "preset", "trained"),
    [
        ("2.7b", "B", "epalm", {"connector": 11_811_840, "prompt": 13_137_920}),
        ("6.7b", "L", "epalm_pt_L", {"connector": 4_198_400, "prompt": 40_960}),
        ("125m", "B", "epalm_lin", {"connector": 590_592}),
        ("125m", "B", "epalm_pt", {"connector": 590_592, "prompt": 768}),
        ("125m", "B", "text_only", {"prompt": 768}),
        (
            "125m",
            "B",
            "epalm_ada",
            {"connector": 590_592, "prompt": 768, "block_adapters": 24 * (2 * 768 * 96 + 96 + 768)},
        ),
    ],
)
def test_published_parameter_counts(lm: str, vit: str, preset: str, trained: dict[str, int]) -> None:
    summary = on_paper(lm, vit, preset).summary()
    assert {part.name: part.trained for part in summary.parts if part.trained} == trained
    assert summary.trained == sum(trained.values())


def test_share_of_the_published_large_model() -> None:
    summary = on_paper("6.7b", "L", "epalm_pt_L").summary()
    assert summary.trained == 4_239_360
    assert f"{summary.share:.2%}" == "0.06%"
    assert sum(part.frozen for part in summary.parts) == summary.frozen
    table = str(summary)
    for word in ("language model", "image encoder", "connector", "prompt", "4,239,360", "total"):
        assert word in table


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_block_adapters_sit_behind_both_halves_of_every_block(family: str) -> None:
    lm = language_model(family, "eager")
    model = augmented(lm, block_adapters="both", bottleneck=4)
    plain = augmented(lm)(text(), features=features(3)).logits
    near = model(text(), features=features(3)).logits
    torch.testing.assert_close(near, plain, rtol=0, atol=1e-2)  # small weights: the blocks start almost unchanged
    assert not torch.equal(near, plain)
    assert len(model.block_adapters) == 5
    for places in model.block_adapters:
        for adapter in places.values():
            kept = adapter.up.bias.clone()
            adapter.up.bias.normal_()  # a constant would vanish in the next layer norm
            assert (model(text(), features=features(3)).logits - near).abs().max() > 1e-3
            adapter.up.bias.copy_(kept)
    assert torch.equal(augmented(lm)(text(), features=features(3)).logits, plain)


@torch.no_grad()
def test_block_adapters_work_while_generating() -> None:
    model = augmented(language_model("llama", "sdpa"), block_adapters="both", bottleneck=4)
    for adapter in model.block_adapters.modules():
        if isinstance(adapter, Bottleneck):
            adapter.up.weight.normal_(std=0.3)
            adapter.down.weight.normal_(std=0.3)
    new = model.generate(text(), features=features(3), max_new_tokens=5, eos_token_id=None)
    logits = model(torch.cat([text(), new], dim=1), features=features(3)).logits
    assert torch.equal(logits[:, 4 + 9 - 1 : -1].argmax(-1), new)
    alone = augmented(language_model("llama", "sdpa"), prompt="none", block_adapters="mlp")
    assert alone.generate(text(), max_new_tokens=3, eos_token_id=None).shape == (3, 3)


def test_bottlenecks_start_small_and_clipped() -> None:
    torch.manual_seed(0)
    bottleneck = Bottleneck(64, 4)
    for linear in (bottleneck.down, bottleneck.up):
        assert linear.weight.abs().max() <= 2e-3
        assert 0.7e-3 < linear.weight.std() < 1e-3
        assert not linear.bias.any()


def test_blocks_whose_halves_cannot_be_told_apart_are_refused() -> None:
    config = MixtralConfig(
        vocab_size=50, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, num_local_experts=2,
    )  # fmt: skip
    anatomy = study(new_language_model(config))
    BlockAdapters(anatomy, "attention", 4)
    with pytest.raises(UnsupportedModelError, match=r"one mlp output projection in each block .* found 0"):
        BlockAdapters(anatomy, "both", 4)


def test_prompts_start_at_the_mean_word() -> None:
    lm = language_model("opt", "eager")
    words = lm.get_input_embeddings().weight
    mean, spread = words.mean(0), words.std(0).mean()
    for kind in ("plain", "mlp"):
        torch.manual_seed(0)
        config = AdapterConfig(prompt=kind, prompt_tokens=64, connector="none")
        start = PerceptualLM.build(lm, config=config).prompt()
        assert (start - mean).abs().mean() < 0.3 * spread
        assert len(start.unique(dim=0)) == 64


def test_fingerprint_knows_weights_in_any_precision_and_tells_others_apart() -> None:
    lm = language_model("opt", "eager")
    print_ = fingerprint(lm)
    for dtype in (torch.float16, torch.bfloat16):
        other = new_language_model(FAMILIES["opt"]()).to(dtype)
        assert fingerprint(other) == print_
    assert fingerprint(new_language_model(FAMILIES["opt"](), seed=1)) != print_
    one = new_language_model(FAMILIES["opt"]())
    with torch.no_grad():
        one.model.decoder.layers[3].fc1.weight[0, 0] *= -1
    assert fingerprint(one) != print_
    assert fingerprint(nn.Linear(2, 2, device="meta")) is None


def test_fingerprint_looks_all_over_a_large_tensor() -> None:
    torch.manual_seed(0)
    large = nn.Linear(1000, 1000, bias=False)
    before = fingerprint(large)
    with torch.no_grad():
        large.weight[-20:] *= -1
    assert fingerprint(large) != before


def test_a_meta_encoder_can_stand_beside_a_live_model() -> None:
    with torch.device("meta"):
        encoder = ViTModel(ViTConfig(**VIT_SHAPES["B"]), add_pooling_layer=False)
    model = PerceptualLM.build(language_model("opt", "sdpa"), load_encoder(encoder))
    assert model.perception.widths == {"image": 768}
    assert E != 768
