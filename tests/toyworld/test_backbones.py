"""The shipped backbones: small, loaded like any other, and good enough that learning on them means something."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from epalm.encoders import load_encoder
from epalm.sources import TOY_PREFIX, resolve_source
from epalm.toyworld.measure import encoder_sees, language_model_reads


@pytest.mark.parametrize("name", ["lm", "vit"])
def test_a_backbone_is_small_and_holds_safetensors_alone(name):
    folder = Path(resolve_source(TOY_PREFIX + name))
    weights = list(folder.glob("*.safetensors"))
    assert [path.name for path in weights] == ["model.safetensors"]
    assert weights[0].stat().st_size <= 8_000_000
    assert not list(folder.glob("*.bin"))
    assert not list(folder.glob("*.pt"))


def test_the_language_model_knows_any_text():
    tokenizer = AutoTokenizer.from_pretrained(resolve_source("toyworld/lm"))
    model = AutoModelForCausalLM.from_pretrained(resolve_source("toyworld/lm"), dtype=torch.float32)
    ids = tokenizer("Ein Zebra? 斑马 \U0001f993 <pad>", return_tensors="pt").input_ids
    assert ids[0, 0] == tokenizer.bos_token_id
    assert int(ids.max()) < model.config.vocab_size
    assert torch.isfinite(model(ids).logits).all()


def test_the_encoder_brings_its_own_statistics():
    encoder = load_encoder("toyworld/vit")
    assert (encoder.width, encoder.levels) == (192, 6)
    assert list(encoder.processor.image_mean) == [0.5, 0.5, 0.5]


@pytest.mark.slow
def test_the_language_model_reads():
    """What it has read decides its answers: openly, and through one token; without it, it can only guess."""
    reads = language_model_reads(pages=64)
    assert reads["open"] > 0.9
    assert reads["notes"] > 0.8
    assert reads["closed"] < 0.5


@pytest.mark.slow
def test_the_encoder_sees_combinations_it_never_saw():
    sees = encoder_sees(training=2000, held_out=400)
    assert min(sees["shape"], sees["size"]) > 0.9
    assert min(sees["color"], sees["texture"], sees["place"], sees["count"]) > 0.75
