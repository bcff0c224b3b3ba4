"""The order `[slots | padding | soft prompt | text]`."""

from __future__ import annotations

import torch
from families import WIDTH, language_model

from epalm.models.anatomy import study
from epalm.models.layout import lay_out, to_left_padding

MASK = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]])
TEXT = torch.arange(1.0, 13).view(3, 4, 1).expand(-1, -1, WIDTH)
PROMPT = torch.tensor([[-1.0], [-2.0]]).expand(-1, WIDTH)


def test_soft_prompt_stands_right_before_the_first_real_token() -> None:
    layout = lay_out(study(language_model("llama", "eager")), TEXT, MASK, PROMPT, slots=1)
    assert layout.embeddings[..., 0].tolist() == [
        [0, 1, 2, -1, -2, 3, 4],
        [0, -1, -2, 5, 6, 7, 8],
        [0, -1, -2, 9, 10, 11, 12],
    ]
    assert layout.mask.tolist() == [[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 1, 1, 1]]
    assert layout.positions[0, 3:].tolist() == [0, 1, 2, 3]
    assert layout.positions[2].tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert layout.silent is None


def test_learned_positions_pass_over_the_soft_prompt() -> None:
    layout = lay_out(study(language_model("gpt2", "eager")), TEXT, MASK, PROMPT, slots=2)
    assert layout.positions[0, -2:].tolist() == [0, 1]
    assert layout.positions[2].tolist() == [0, 0, 0, 0, 0, 1, 2, 3]
    assert layout.silent is not None
    assert layout.silent[0].tolist() == [False] * 4 + [True] * 2 + [False] * 2
    assert layout.silent[1].tolist() == [False] * 2 + [True] * 2 + [False] * 4


def test_without_a_prompt_the_text_stays_as_it_is() -> None:
    layout = lay_out(study(language_model("llama", "eager")), TEXT, MASK, None, slots=1)
    assert torch.equal(layout.embeddings[:, 1:], TEXT)
    assert torch.equal(layout.mask[:, 1:], MASK)


def test_left_padding_keeps_the_order_of_the_tokens() -> None:
    ids = torch.tensor([[5, 6, 1, 1], [1, 7, 1, 8], [2, 3, 4, 5]])
    mask = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]])
    moved, moved_mask = to_left_padding(ids, mask)
    assert moved.tolist() == [[1, 1, 5, 6], [1, 1, 7, 8], [2, 3, 4, 5]]
    assert moved_mask.tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 1]]
