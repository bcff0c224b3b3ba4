"""End tokens: both the tokenizer's and the language model's end a text, and what is odd about them is told."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM

from epalm.models import PerceptualLM
from epalm.models.quantised import Int8Linear

END, OTHER, THIRD = 257, 65, 66
"""The tokenizer's end token, and two others (`b` and `c`)."""


def folder_with(folder: Path, family: str = "llama", file: str = "generation_config.json", **settings: Any) -> Path:
    """A tiny language model with these settings in one of its files."""
    tiny.save_language_model(folder, family)
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | settings))
    return folder


def built(source: Any, **options: Any) -> tuple[PerceptualLM, list[str]]:
    """A model, and what was told of it."""
    lines: list[str] = []
    torch.manual_seed(0)
    model = PerceptualLM.build(source, encoder_width=6, on_warning=lines.append, **options).eval()
    return model, lines


def says(model: PerceptualLM, token: int) -> None:
    """Make every answer begin with `token`."""
    weight = model.language_model.get_output_embeddings().weight
    original = weight.data.clone()
    hidden: list[torch.Tensor] = []
    hook = model.language_model.get_output_embeddings().register_forward_pre_hook(
        lambda head, args: hidden.append(args[0][0, -1])
    )
    model.generate(text(), features=perceived(), max_new_tokens=1)
    hook.remove()
    weight.data.copy_(original)
    weight.data[token] = 100 * hidden[0]


def text() -> torch.Tensor:
    return torch.tensor([[70, 71, 72]])


def perceived() -> torch.Tensor:
    return torch.randn(1, 1, 6, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("own", [OTHER, [OTHER, THIRD], [OTHER, 9999, -1]])
def test_generation_ends_at_either(tmp_path: Path, own: int | list[int]) -> None:
    for token in (END, OTHER):
        model, lines = built(folder_with(tmp_path / str(token), eos_token_id=own))
        assert set(model.special_tokens.end) == {END, *([own] if isinstance(own, int) else own)} - {9999, -1}
        assert model.special_tokens.taught == END
        says(model, token)
        for beams in (1, 3):
            assert model.generate(text(), features=perceived(), num_beams=beams)[0, 0] == token
        assert model.generate(text(), features=perceived()).shape == (1, 1)
        plain, _ = built(model, config="text_only")
        plain.prompt = None
        assert plain.special_tokens == model.special_tokens
        (line,) = lines
        assert "its tokenizer ends a text with token 257 ('</s>'), its generation settings with 65 ('b')" in line
        assert "generation_config.json" in line


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("generation_config.json", {}),
        ("generation_config.json", {"eos_token_id": [OTHER, END]}),
        ("generation_config.json", {"eos_token_id": None}),
        ("generation_config.json", {"eos_token_id": 50256, "pad_token_id": -1}),
    ],
)
def test_nothing_is_told_where_they_agree(tmp_path: Path, file: str, settings: dict[str, Any]) -> None:
    model, lines = built(folder_with(tmp_path / "lm", file=file, **settings))
    assert lines == []
    assert END in model.special_tokens.end
    assert model.special_tokens.padding in (256, *model.special_tokens.end)


def test_a_tokenizer_without_its_files_ends_nothing(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "lm", eos_token_id=OTHER)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    model, lines = built(folder)
    assert (model.tokenizer, model.special_tokens.end, lines) == (None, (OTHER,), [])


def test_python_is_told_by_its_own_warnings_and_once(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "lm", eos_token_id=OTHER)
    with pytest.warns(UserWarning, match="ends a text with token 257") as caught:
        model = PerceptualLM.build(folder, encoder_width=6)
    assert [warning.filename for warning in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PerceptualLM.build(model, encoder_width=6)  # shares the language model


@pytest.mark.parametrize("family", ["opt", "llama"])  # tied to the word embedding, and not
@pytest.mark.parametrize(
    ("row", "of_the_end_token", "message"),
    [
        (END, 0.0, "is all zero, as of a token that it never met"),
        (END, 0.01, "times the size of the others"),
        (END, 100.0, "times the size of the others"),
        (3, 1.0, "is the same as 1 other, as of"),
        (3, 1.001, "is the same as 1 other, as of"),
        (3, 1.1, None),
        (END, float("nan"), None),
    ],
)
def test_an_end_token_that_was_never_trained_is_told(
    tmp_path: Path, family: str, row: int, of_the_end_token: float, message: str | None
) -> None:
    folder = tiny.save_language_model(tmp_path / "lm", family)
    language_model = AutoModelForCausalLM.from_pretrained(folder)
    weight = language_model.get_output_embeddings().weight.data
    weight[row] = of_the_end_token * weight[END]
    language_model.save_pretrained(folder)
    _, lines = built(folder)
    assert len(lines) == (message is not None)
    for line in lines:
        assert message is not None
        assert "its output embedding for the end token 257 ('</s>')" in line
        assert message in line
        assert "choose an end token that it knows" in line


def test_a_head_of_mostly_empty_rows_is_left_alone(tmp_path: Path) -> None:
    language_model = AutoModelForCausalLM.from_pretrained(tiny.save_language_model(tmp_path / "lm", "llama"))
    language_model.get_output_embeddings().weight.data[: END - 5] = 0
    assert built(language_model, tokenizer=tiny.byte_tokenizer())[1] == []


def test_generation_without_text_begins_with_an_end_token_where_there_is_no_other(tmp_path: Path) -> None:
    model, _ = built(folder_with(tmp_path / "lm", bos_token_id=None, eos_token_id=None))
    assert model.special_tokens.begin == END
    expected = model.generate(torch.tensor([[END]]), features=perceived(), max_new_tokens=3)
    assert torch.equal(model.generate(features=perceived(), max_new_tokens=3), expected)


def test_heads_without_plain_values_are_left_alone(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "lm", eos_token_id=OTHER)
    language_model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = tiny.byte_tokenizer()
    language_model.lm_head = Int8Linear(language_model.lm_head)
    assert len(built(language_model, tokenizer=tokenizer)[1]) == 1
    assert len(built(language_model.to("meta"), tokenizer=tokenizer)[1]) == 1
