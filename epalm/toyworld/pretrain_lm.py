"""Pretrains the toy world's language model: a small OPT on text alone.

    python -m epalm.toyworld.pretrain_lm

No picture is involved. The text (`epalm.toyworld.pages`) states facts in several sentences and then asks about them, or
retells them as a caption. In the beginning every passage is read openly, half of the questions have two or three words,
and a few attention heads are shown where to look; by and by more passages are read by their closing token alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast
from transformers.modeling_outputs import CausalLMOutputWithPast

from epalm.toyworld.pages import (
    BOS,
    EOS,
    GUIDED_HEADS,
    MAX_POSITIONS,
    PAD,
    PageBatch,
    lay_out,
    train_tokenizer,
    write_page,
)  # fmt: skip
from epalm.toyworld.pretrain import options_parser, pretrain

HOME = Path(__file__).parent / "backbones" / "lm"
MANNERS = {"open": 5, "summary": 3, "notes": 11, "closed": 1}  # weights of the lot
_GUIDES = {  # which layout guides which layers, and the first of the heads
    "named": ((0, 1), 0),
    "described": ((0, 1), GUIDED_HEADS),
    "gathered": ((2,), 0),
    "sought": ((3,), 0),
    "checked": ((3,), GUIDED_HEADS),
}


class NoisySummary:
    """Adds noise to the summary tokens where they enter each decoder layer, so that an inexact summary is read, too."""

    def __init__(self, model: OPTForCausalLM, scale: float) -> None:
        self.scale = scale
        self.where: Tensor | None = None  # (B, T) bool
        for layer in model.model.decoder.layers:
            layer.register_forward_pre_hook(self._disturb, with_kwargs=True)

    def _disturb(
        self, layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[Tensor, ...], dict[str, object]] | None:
        if self.where is None or not layer.training:
            return None
        hidden = args[0]
        size = hidden.detach().pow(2).mean(-1, keepdim=True).sqrt() * self.scale
        noise = torch.randn_like(hidden) * size * torch.rand_like(size) * self.where[..., None]
        return (hidden + noise, *args[1:]), kwargs


def read(model: OPTForCausalLM, batch: PageBatch) -> CausalLMOutputWithPast:
    """Logits (B, T, V) and, of each layer, attention probabilities (B, heads, T, T)."""
    mask = torch.zeros(batch.visible.shape).masked_fill(~batch.visible, torch.finfo(torch.float32).min)
    return model(
        input_ids=batch.input_ids, attention_mask=mask, position_ids=batch.position_ids, use_cache=False,
        output_attentions=True,
    )  # fmt: skip


def look_aside(attentions: Sequence[Tensor], batch: PageBatch) -> Tensor:
    """How far guided heads look away from where they should: mean -log of the attention well spent, added up."""
    losses = []
    for name, (layers, first) in _GUIDES.items():
        targets = getattr(batch, name)
        told = targets.any(-1).expand(-1, GUIDED_HEADS, -1)  # (B, H, T)
        if told.any():
            heads = slice(first, first + GUIDED_HEADS)
            spent = [(attentions[layer][:, heads] * targets).sum(-1)[told] for layer in layers]
            losses.append(-(torch.cat(spent) + 1e-4).log().mean())
    return torch.stack(losses).sum()


def answers_right(model: OPTForCausalLM, tokenizer: PreTrainedTokenizerFast, manner: str, pages: int = 64) -> float:
    """Share of answers of which every token is the likeliest one, over fresh pages read in that manner."""
    rng = random.Random(f"lm check {manner}")
    right = total = 0
    for _ in range(pages // 16):
        batch = lay_out([write_page(rng) for _ in range(16)], [manner] * 16, tokenizer)
        hit = read(model, batch).logits[:, :-1].argmax(-1) == batch.input_ids[:, 1:]  # (B, T - 1)
        answer = batch.answers[:, 1:]
        first = answer & ~batch.answers[:, :-1]
        whole = torch.cumsum(first.flatten(), 0)[answer.flatten()]
        misses = torch.zeros(int(first.sum()) + 1).scatter_add(0, whole, (~hit[answer]).float())
        right += int((misses[1:] == 0).sum())
        total += int(first.sum())
    return right / total


@torch.no_grad()
def _start_alike(model: OPTForCausalLM) -> None:
    """Let words speak first, and let attention begin by finding and copying what is alike.

    Word embeddings are large and MLPs add little to them in the beginning; otherwise what tells one word from another
    of its kind drowns before any layer has learned to read it. Positions start as sinusoids. Values come out of
    attention in the basis they went in, and from the third layer on queries and keys are projected alike (mimetic
    initialization, Trockman & Kolter 2023, with another sign).
    """
    decoder = model.model.decoder
    nn.init.normal_(decoder.embed_tokens.weight, std=0.5)
    rows, width = decoder.embed_positions.weight.shape
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    angles = torch.arange(rows)[:, None] * rates  # (positions, W / 2)
    decoder.embed_positions.weight.copy_(0.35 * torch.cat([angles.sin(), angles.cos()], dim=1))
    heads = model.config.num_attention_heads
    for level, layer in enumerate(decoder.layers):
        nn.init.normal_(layer.fc2.weight, std=0.01)
        attention = layer.self_attn
        nn.init.orthogonal_(attention.v_proj.weight)
        attention.out_proj.weight.copy_(0.5 * attention.v_proj.weight.T)
        if level >= 2:
            alike = [nn.init.orthogonal_(torch.empty(width // heads, width)) for _ in range(heads)]
            attention.q_proj.weight.copy_(0.8 * torch.cat(alike))
            attention.k_proj.weight.copy_(attention.q_proj.weight)


def _between(done: float, start: tuple[float, float], end: tuple[float, float]) -> float:
    """Linear from one (share of the steps, value) to another, and level on either side."""
    share = min(1.0, max(0.0, (done - start[0]) / (end[0] - start[0])))
    return start[1] + share * (end[1] - start[1])


def main() -> None:
    """Pretrain, then write `backbones/lm` in half precision with its tokenizer."""
    parser = options_parser(__doc__, HOME, steps=4300, batch=16, rate=5e-4)
    parser.add_argument(
        "--noise", type=float, default=0.5, help="largest noise on the summary token, relative to its size"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = train_tokenizer(options.seed)
    config = OPTConfig(
        vocab_size=len(tokenizer), hidden_size=192, num_hidden_layers=6, num_attention_heads=6, ffn_dim=576,
        max_position_embeddings=MAX_POSITIONS, word_embed_proj_dim=192, dropout=0.0, attention_dropout=0.0,
        pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, init_std=0.07,
        tie_word_embeddings=False, attn_implementation="eager",
    )  # fmt: skip
    # Untied: tied embeddings of words of one kind fall together before there is a use for telling them apart, and then
    # nothing can be read any more.
    model = OPTForCausalLM(config)
    _start_alike(model)
    if options.start_from:
        model.load_state_dict(OPTForCausalLM.from_pretrained(options.start_from, dtype=torch.float32).state_dict())
    noise = NoisySummary(model, options.noise)

    def loss_at(step: int) -> Tensor:
        done = step / options.steps
        rng = random.Random(f"lm {options.seed} {step}")
        terse, supposing = _between(done, (0.5, 0.5), (0.7, 0.15)), _between(done, (0.6, 0.0), (0.7, 0.4))
        pages = [
            write_page(rng, groups=rng.choices((1, 2, 3), weights=(3, 6, 1))[0], terse=terse, supposing=supposing)
            for _ in range(options.batch)
        ]
        manners = ["open"] * len(pages)
        if done > 0.08:
            manners = rng.choices(tuple(MANNERS), weights=tuple(MANNERS.values()), k=len(pages))
        batch = lay_out(pages, manners, tokenizer)
        noise.where = batch.summary
        output = read(model, batch)
        noise.where = None
        weights = batch.weights[:, 1:]
        losses = F.cross_entropy(
            output.logits[:, :-1].flatten(0, 1), batch.input_ids[:, 1:].flatten(), reduction="none"
        )
        loss = (losses * weights.flatten()).sum() / weights.sum()
        guide = _between(done, (0.8, 1.0), (0.95, 0.0))
        return loss + guide * look_aside(output.attentions, batch) if guide else loss

    def report() -> str:
        return "  ".join(f"{manner} {answers_right(model, tokenizer, manner):.4f}" for manner in MANNERS)

    pretrain(
        model, loss_at, steps=options.steps, peak_rate=options.rate, state_file=options.state, report=report,
        warmup=100,
    )  # fmt: skip
    model.half().save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)


if __name__ == "__main__":
    main()
