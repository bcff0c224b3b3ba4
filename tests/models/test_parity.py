"""The legacy mask gives the published model's numbers; the causal mask is ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM

from epalm.models import PerceptualLM
from epalm.settings import AdapterConfig

HERE = Path(__file__).resolve().parents[1] / "parity"
SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "parity"
WINDOW_TO_THE_END, ENDS_EARLY = "opt_prenorm_k6_p4", "opt_prenorm_k3_p10_tail1"

recordings = pytest.mark.parametrize("name", [WINDOW_TO_THE_END, ENDS_EARLY])
attentions = pytest.mark.parametrize("attention", ["eager", "sdpa"])


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def build(
    tensors: dict[str, Tensor], about: dict[str, str], width: int, mask: str = "legacy", attention: str = "eager"
) -> PerceptualLM:
    lm = OPTForCausalLM(OPTConfig(**json.loads(about["config"])))
    weights = {key.removeprefix("lm."): value for key, value in tensors.items() if key.startswith("lm.")}
    assert lm.load_state_dict(weights, strict=False).unexpected_keys == []
    lm.tie_weights()
    start, end, levels, tokens = (int(about[key]) for key in ("start", "end", "K", "P"))
    config = AdapterConfig(start=start, end=end, levels=levels, prompt_tokens=tokens, mask=mask)
    return PerceptualLM.build(lm, config=config, encoder_width=width, attn_implementation=attention).eval()


def recorded(name: str, mask: str = "legacy", attention: str = "eager") -> tuple[PerceptualLM, dict[str, Tensor]]:
    """The recorded model, its slot filled with what was recorded as already projected."""
    tensors, about = read(HERE / f"{name}.safetensors")
    width = tensors["in.visual"].shape[-1]
    model = build(tensors, about, width, mask, attention)
    model.load_trained_state_dict(
        {
            "connector.image.0.weight": torch.eye(width),
            "connector.image.0.bias": torch.zeros(width),
            "prompt.weight": tensors["in.prompt"][0],
        }
    )
    return model, tensors


@recordings
@attentions
@torch.no_grad()
def test_legacy_logits_and_losses(name: str, attention: str) -> None:
    model, tensors = recorded(name, attention=attention)
    ids, mask, visual = tensors["in.input_ids"], tensors["in.attention_mask"], tensors["in.visual"]
    logits = model(ids, mask, features=visual).logits
    torch.testing.assert_close(logits, tensors["out.logits"], rtol=0, atol=1e-5)
    labels = ids.masked_fill(mask == 0, -100)
    for row, expected in enumerate(tensors["out.loss"]):
        one = slice(row, row + 1)
        output = model(ids[one], mask[one], labels[one], features=visual[one], loss_scale="original")
        torch.testing.assert_close(output.loss / 0.1, expected, rtol=1e-6, atol=1e-5)
    whole = model(ids, mask, labels, features=visual, loss_scale="original").loss
    torch.testing.assert_close(whole, 0.1 * tensors["out.loss"].sum() / len(ids), rtol=1e-6, atol=1e-5)


@recordings
@attentions
@pytest.mark.parametrize(("way", "beams"), [("greedy", 1), ("beam3", 3)])
def test_legacy_generation(name: str, attention: str, way: str, beams: int) -> None:
    model, tensors = recorded(name, attention=attention)
    expected = tensors[f"out.{way}"][:, 5:]
    ids, visual = tensors["in.input_ids"][:1, :5], tensors["in.visual"][:1]
    new = model.generate(ids, features=visual, num_beams=beams, max_new_tokens=expected.shape[1])
    assert torch.equal(new, expected)


@torch.no_grad()
def test_masks_agree_but_for_the_slot_where_the_window_goes_to_the_end() -> None:
    model, tensors = recorded(WINDOW_TO_THE_END, mask="causal")
    ids, mask = tensors["in.input_ids"], tensors["in.attention_mask"]
    logits, expected = model(ids, mask, features=tensors["in.visual"]).logits, tensors["out.logits"]
    for row, length in enumerate(mask.sum(1).tolist()):
        real = slice(1, 1 + model.config.prompt_tokens + length)
        torch.testing.assert_close(logits[row, real], expected[row, real], rtol=0, atol=1e-5)
    assert (logits[:, 0] - expected[:, 0]).abs().max() > 1e-3


@torch.no_grad()
def test_legacy_mask_lets_the_future_through_and_ours_does_not() -> None:
    ids = torch.tensor([[2, 5, 6, 7, 8, 9]])
    changed = torch.tensor([[2, 5, 6, 7, 8, 10]])
    moved = {}
    for mask in ("causal", "legacy"):
        model, tensors = recorded(ENDS_EARLY, mask=mask)
        one, other = (model(each, features=tensors["in.visual"][:1]).logits[:, 1:-1] for each in (ids, changed))
        moved[mask] = (one - other).abs().max().item()
    assert moved["causal"] == 0
    assert moved["legacy"] > 1e-4


@torch.no_grad()
def test_published_layout_of_a_checkpoint() -> None:
    """One shared linear and a plain prompt, under the names that the original code gave them."""
    path = SHARED / "checkpoint_shared_plain.safetensors"
    if not path.is_file():
        pytest.skip("the recorded checkpoint is not on this machine")
    tensors, about = read(path)
    published = torch.load(path.with_suffix(".pth"), weights_only=True)["model"]
    model = build(tensors, about, tensors["in.features"].shape[-1])
    model.load_trained_state_dict(
        {
            "connector.image.0.weight": published["connector.0.weight"],
            "connector.image.0.bias": published["connector.0.bias"],
            "prompt.weight": published["prompt_module.prefix_embedding.0.weight"],
        }
    )
    logits = model(tensors["in.input_ids"], tensors["in.attention_mask"], features=tensors["in.features"]).logits
    torch.testing.assert_close(logits, tensors["out.logits"], rtol=0, atol=1e-5)
    expected = tensors["out.beam3"][:, 5:]
    new = model.generate(
        tensors["in.input_ids"][:1, :5], features=tensors["in.features"][:1], num_beams=3, max_new_tokens=9
    )
    assert torch.equal(new, expected)
