"""How much each mechanism trains, and how many positions it takes: the arithmetic of the papers' definitions."""

from __future__ import annotations

import pytest
import torch
from families import LAYERS, WIDTH, language_model
from mechanisms import RIVALS, TOKENS, mechanism_of, rival, seen

from epalm.models.mechanisms.deepstack import pool
from epalm.models.mechanisms.depalm_resampler import grouped

E, D, N = 12, WIDTH, TOKENS["image"]


def linear(width_in: int, width_out: int) -> int:
    return width_in * width_out + width_out


def mapper(width_in: int, width_out: int, hidden: int, layers: int) -> int:
    """Linear in and out, 32 queries, and layers of attention (4 linears), two more, and two norms."""
    layer = 4 * linear(hidden, hidden) + 2 * linear(hidden, hidden) + 2 * 2 * hidden
    return linear(width_in, hidden) + 32 * hidden + layers * layer + linear(hidden, width_out)


EXPECTED = {
    "promptfuse": 0,
    "limber_1": linear(E, D),
    "limber_all": linear(E, D),
    "mapl": mapper(E, D, 256, 4),
    "depalm_qp_l0": mapper(E, D, 1024, 2),
    "depalm_qp_inner": mapper(E, D, 1024, 2) + 2 * D * 2,  # 2 of 5 layers
    "depalm_r_avgpool": linear(E, D) + D + linear(D, D),
    "depalm_r_linear": linear(E, D) + linear(4 * D, D) + D + linear(D, D),
    "depalm_r_rand": E + linear(E, D),
    "cross_attention": linear(D, 1024) + 2 * linear(E, 1024) + linear(1024, D) + 1,
    "deepstack": 4 * linear(E, D),
    "llama_adapter": linear(E, D) + LAYERS * (10 * D + 4),
    "memvp": linear(E, D) + 2 * N * D,
}
PROMPTS = {"promptfuse": 10, "depalm_qp_inner": 16, "cross_attention": 16} | dict.fromkeys(
    ("depalm_qp_l0", "depalm_r_avgpool", "depalm_r_linear", "depalm_r_rand", "deepstack"), 1
)
POSITIONS = {
    "promptfuse": 1, "limber_1": 1, "limber_all": N, "mapl": 32, "depalm_qp_l0": 32, "depalm_r_avgpool": 3,
    "depalm_r_linear": 3, "depalm_r_rand": N, "deepstack": 16,
}  # fmt: skip
"""Tokens at the input: [CLS] and 2 x 3 patches, which make two groups."""


@pytest.mark.parametrize("preset", RIVALS)
@torch.no_grad()
def test_trained_parameters_and_positions(preset: str) -> None:
    model = rival(language_model("llama", "sdpa"), preset)
    trained = {name: sum(p.numel() for p in parameters) for name, parameters in model.trained_parameters().items()}
    assert trained.get("connector", 0) == EXPECTED[preset]
    assert trained.get("prompt", 0) == PROMPTS.get(preset, 0) * D
    perceived = model.perception(seen(model, 2))
    front = mechanism_of(model).front(perceived)
    assert (0 if front is None else front.mask.shape[1]) == POSITIONS.get(preset, 0)
    assert mechanism_of(model).most_positions == POSITIONS.get(preset, 0)


def test_of_257_tokens_65_are_left() -> None:
    patches = torch.arange(256.0).view(1, 256, 1)
    groups, there = grouped(patches, torch.ones(1, 256, dtype=torch.bool), (16, 16))
    assert groups.shape == (1, 64, 4, 1)
    assert there.all()
    assert groups[0, 0, :, 0].tolist() == [0, 1, 16, 17]
    assert groups[0, 9, :, 0].tolist() == [34, 35, 50, 51]


def test_groups_of_what_is_no_grid_follow_each_other_and_end_with_the_rest() -> None:
    frames = torch.arange(6.0).view(1, 6, 1)
    groups, there = grouped(frames, torch.ones(1, 6, dtype=torch.bool), None)
    assert groups[0, :, :, 0].tolist() == [[0, 1, 2, 3], [4, 5, 0, 0]]
    assert there[0].tolist() == [[True] * 4, [True, True, False, False]]
    odd, there = grouped(torch.arange(9.0).view(1, 9, 1), torch.ones(1, 9, dtype=torch.bool), (3, 3))
    assert odd[0, 1, :, 0].tolist() == [2, 0, 5, 0]
    assert there[0, 3].tolist() == [True, False, False, False]


def test_spans_and_fields_are_means_of_what_is_real() -> None:
    sound = torch.cat([torch.arange(32.0), torch.full((8,), 100.0)]).view(1, 1, 40, 1)
    mask = torch.arange(40)[None] < 32
    assert pool(sound, mask, None)[0, 0, :, 0].tolist() == [2 * i + 0.5 for i in range(16)]
    picture = torch.arange(64.0).view(1, 1, 64, 1)
    fields = pool(picture, torch.ones(1, 64, dtype=torch.bool), (8, 8))[0, 0, :, 0]
    assert fields[:2].tolist() == [(0 + 1 + 8 + 9) / 4, (2 + 3 + 10 + 11) / 4]
    assert fields[4] == (16 + 17 + 24 + 25) / 4
    short = torch.arange(3.0).view(1, 1, 3, 1)
    assert pool(short, torch.ones(1, 3, dtype=torch.bool), None)[0, 0, :, 0].tolist()[::5] == [0.0, 0.5, 1.5, 2.0]


@torch.no_grad()
def test_a_random_part_is_drawn_in_training_alone() -> None:
    model = rival(language_model("llama", "sdpa"), "depalm_r_rand", ("audio",))
    mechanism, features = mechanism_of(model), {"audio": seen(model, 64)["audio"]}
    every = mechanism(features)["audio mask"].sum(1)
    assert torch.equal(every, features["audio"].mask.sum(1))
    mechanism.train()
    torch.manual_seed(0)
    drawn = mechanism(features)["audio mask"].sum(1)
    assert (drawn >= 1).all()
    assert (drawn <= (every / 2).round()).all()
    assert drawn.unique().numel() > 2


@torch.no_grad()
def test_promptfuse_turns_a_vector_and_keeps_its_length() -> None:
    model = rival(language_model("llama", "sdpa"), "promptfuse")
    features = seen(model, 3)
    token = model.perception(features)["image"]
    torch.testing.assert_close(token.norm(dim=-1), features["image"][:, -1:].norm(dim=-1))
    assert torch.equal(token, rival(language_model("llama", "sdpa"), "promptfuse").perception(features)["image"])
