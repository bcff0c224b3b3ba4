"""The shipped backbones: small, loaded like any other, and good enough that learning on them means something."""

from pathlib import Path

import pytest
import torch
from transformers import ASTFeatureExtractor, AutoModelForCausalLM, AutoTokenizer

from epalm.encoders import load_encoder
from epalm.models import PerceptualLM
from epalm.runtime.sources import TOY_PREFIX, resolve_source
from epalm.toyworld.measure import ENCODERS, LANGUAGE_MODELS, encoder_sees, language_model_reads


@pytest.mark.parametrize("name", ["lm", "lm_text", "vit", "timesformer", "ast"])
def test_a_backbone_is_small_and_holds_safetensors_alone(name):
    folder = Path(resolve_source(TOY_PREFIX + name))
    weights = list(folder.glob("*.safetensors"))
    assert [path.name for path in weights] == ["model.safetensors"]
    assert weights[0].stat().st_size <= 8_000_000
    assert not list(folder.glob("*.bin"))
    assert not list(folder.glob("*.pt"))


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_language_model_knows_any_text(name):
    tokenizer = AutoTokenizer.from_pretrained(resolve_source(name))
    model = AutoModelForCausalLM.from_pretrained(resolve_source(name), dtype=torch.float32)
    ids = tokenizer("Ein Zebra? 斑马 \U0001f993 <pad>", return_tensors="pt").input_ids
    assert ids[0, 0] == tokenizer.bos_token_id
    assert int(ids.max()) < model.config.vocab_size
    assert torch.isfinite(model(ids).logits).all()


def test_the_language_models_differ_in_nothing_but_their_weights():
    lm, text = (Path(resolve_source(name)) for name in LANGUAGE_MODELS)
    assert (lm / "tokenizer.json").read_bytes() == (text / "tokenizer.json").read_bytes()
    models = [AutoModelForCausalLM.from_pretrained(folder) for folder in (lm, text)]
    shapes, others = ({name: tensor.shape for name, tensor in model.state_dict().items()} for model in models)
    assert shapes == others
    assert models[0].config.to_diff_dict() == models[1].config.to_diff_dict()


@pytest.mark.parametrize("kind", ["image", "video", "audio"])
def test_an_encoder_brings_its_own_statistics(kind):
    encoder = load_encoder(ENCODERS[kind])
    assert (encoder.modality, encoder.width, encoder.levels) == (kind, 192, 6)
    if kind == "audio":
        assert encoder.processor.mean != ASTFeatureExtractor().mean
    else:
        assert list(encoder.processor.image_mean) == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_language_model_reads(name):
    """What it has read decides its answers; without it, it can only guess."""
    reads = language_model_reads(name, pages=32)
    assert reads["open"] > 0.96  # of 230 answers
    assert reads["closed"] < 0.45


@pytest.mark.slow
@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_language_model_reads_97_answers_of_100_right(name):
    assert language_model_reads(name, pages=256)["open"] > 0.97


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_a_language_model_is_augmented_and_frozen(name):
    model = PerceptualLM.build(name, ENCODERS["image"])
    assert not any(each.requires_grad for part in model.frozen_parts().values() for each in part.parameters())
    assert model.summary().trained == 192 * 192 + 192 + 192  # one linear layer and one token


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "video", "audio"])
def test_an_encoder_perceives_combinations_it_never_met(kind):
    sees = encoder_sees(kind, training=400, held_out=150)
    assert min(sees.values()) > 0.8
