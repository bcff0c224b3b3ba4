"""A language model that learns to read pages: its shape and start, its losses, and how well it reads.

What both pretraining scripts of language models share. A few attention heads are shown where to look.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import OPTConfig, OPTForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from epalm.toyworld.pages import (
    BOS,
    EOS,
    GUIDED_HEADS,
    MAX_POSITIONS,
    PAD,
    Batch,
    Page,
    Vocabulary,
    lay_out,
    write_page,
)  # fmt: skip
from epalm.toyworld.pretrain import half_where_it_pays
from epalm.toyworld.wording import Statement

_GUIDES = {  # which layout guides which layers, and the first of the heads
    "named": ((0, 1), 0),
    "described": ((0, 1), GUIDED_HEADS),
    "sought": ((2, 3), 0),
    "checked": ((3,), GUIDED_HEADS),
}


def new_reader(words: int, start_from: Path | None = None) -> OPTForCausalLM:
    """A small OPT with `words` tokens that has learned nothing yet, or with the weights in the folder `start_from`."""
    config = OPTConfig(
        vocab_size=words, hidden_size=192, num_hidden_layers=6, num_attention_heads=6, ffn_dim=576,
        max_position_embeddings=MAX_POSITIONS, word_embed_proj_dim=192, dropout=0.0, attention_dropout=0.0,
        pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS, init_std=0.07,
        tie_word_embeddings=False, attn_implementation="eager",
    )  # fmt: skip
    # Untied: tied embeddings of words of one kind fall together before there is a use for telling them apart, and then
    # nothing can be read any more.
    model = OPTForCausalLM(config)
    _start_alike(model)
    if start_from:
        model.load_state_dict(OPTForCausalLM.from_pretrained(start_from, dtype=torch.float32).state_dict())
    return model


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


def read(model: OPTForCausalLM, batch: Batch) -> CausalLMOutputWithPast:
    """Logits (B, T, V) and, of each layer, attention probabilities (B, heads, T, T)."""
    mask = torch.zeros(batch.visible.shape).masked_fill(~batch.visible, torch.finfo(torch.float32).min)
    with half_where_it_pays():
        return model(
            input_ids=batch.input_ids, attention_mask=mask, position_ids=batch.position_ids, use_cache=False,
            output_attentions=True,
        )  # fmt: skip


def target_loss(output: CausalLMOutputWithPast, batch: Batch) -> Tensor:
    """Cross-entropy of the targets, weighed."""
    weights = batch.weights[:, 1:]
    weighted = weights > 0
    losses = F.cross_entropy(
        output.logits[:, :-1][weighted].float(), batch.input_ids[:, 1:][weighted], reduction="none"
    )
    return (losses * weights[weighted]).sum() / weights.sum()


def look_aside(attentions: Sequence[Tensor], batch: Batch) -> Tensor:
    """How far guided heads look away from where they should: mean -log of the attention well spent, added up."""
    losses = []
    for name, (layers, first) in _GUIDES.items():
        targets = getattr(batch, name)
        guided = targets.any(-1).expand(-1, GUIDED_HEADS, -1)  # (B, H, T)
        if guided.any():
            heads = slice(first, first + GUIDED_HEADS)
            spent = [(attentions[layer][:, heads].float() * targets).sum(-1)[guided] for layer in layers]
            losses.append(-(torch.cat(spent) + 1e-3).log().mean())
    return torch.stack(losses).sum()


def reading_loss(output: CausalLMOutputWithPast, batch: Batch, guide: float) -> Tensor:
    """`target_loss`, and how far guided heads look aside, weighed by `guide`."""
    return target_loss(output, batch) + guide * look_aside(output.attentions, batch)


def answers_right(output: CausalLMOutputWithPast, batch: Batch) -> Iterator[tuple[int, bool]]:
    """Row of every answer, and whether each of its tokens is the likeliest one."""
    hit = output.logits[:, :-1].argmax(-1) == batch.input_ids[:, 1:]  # (B, T - 1)
    for row, (answer, right) in enumerate(zip(batch.answers[:, 1:].tolist(), hit.tolist(), strict=True)):
        run: list[bool] = []
        for at, inside in enumerate(answer):
            if inside:
                run.append(right[at])
            if run and (not inside or at + 1 == len(answer) or batch.input_ids[row, at + 1] == EOS):
                yield row, all(run)
                run = []


def without_passage(page: Page) -> Page:
    """The same questions and caption with nothing to read before, so that there is nowhere to look."""
    asked = [replace(asked, about=(), holds=None) for asked in page.asked]
    return Page([Statement("")], asked, page.caption)


@torch.no_grad()
def reads_openly(model: OPTForCausalLM, vocabulary: Vocabulary, pages: int = 64, *, closed: bool = False) -> float:
    """Share of answers over fresh pages that are right to the last token; `closed`: the passage is left out."""
    rng = random.Random("lm check")
    right = []
    for _ in range(pages // 8):
        written = [write_page(rng) for _ in range(8)]
        if closed:
            written = [without_passage(page) for page in written]
        batch = lay_out(written, vocabulary)
        right += [hit for _, hit in answers_right(read(model, batch), batch)]
    return sum(right) / len(right)


def between(done: float, start: tuple[float, float], end: tuple[float, float]) -> float:
    """Linear from one (share of the steps, value) to another, and level on either side."""
    share = min(1.0, max(0.0, (done - start[0]) / (end[0] - start[0])))
    return start[1] + share * (end[1] - start[1])
