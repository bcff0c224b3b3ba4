"""Checkpoints of the original code become adapters that give its numbers; anything else is refused in one line."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM, ViTConfig, ViTImageProcessorPil, ViTModel

from epalm.evaluation import Answerer
from epalm.models import PerceptualLM

RECORDED = Path(__file__).parents[1] / "parity" / "checkpoint_shared_plain.pth"
E, D = 16, 24
"""Of the tiny encoder and the tiny language model."""


def checkpoint(linears: int = 1, prompt: str = "plain", tokens: int = 3) -> dict[str, Any]:
    """A random one in the original layout."""
    torch.manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for i in range(linears):
        tensors |= {f"connector.{i}.weight": torch.randn(D, E), f"connector.{i}.bias": torch.randn(D)}
    if prompt != "none":
        tensors["prompt_module.prefix_embedding.0.weight"] = torch.randn(tokens, D)
    for layer in (1, 3) if prompt == "mlp" else ():
        tensors[f"prompt_module.prefix_embedding.{layer}.weight"] = torch.randn(D, D)
        tensors[f"prompt_module.prefix_embedding.{layer}.bias"] = torch.randn(D)
    config = {"start_layer_idx": 0, "end_layer_idx": 2, "injected_hidden_states": 2, "special_answer_token": "</a>"}
    return {"model": tensors, "optimizer": {"state": {}}, "config": config, "epoch": 7}


def backbones_of(backbones: Path) -> list[str]:
    return [
        "--model.language_model", str(backbones / "opt"), "--model.encoders.image", str(backbones / "vit"),
        "--model.device", "cpu",
    ]  # fmt: skip


def test_the_recorded_checkpoint_gives_its_numbers(tmp_path: Path, epalm: Callable[..., Any]) -> None:
    with safe_open(RECORDED.with_suffix(".safetensors"), "pt") as file:
        about = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    lm = OPTForCausalLM(OPTConfig(**json.loads(about["config"])))
    lm.load_state_dict({n.removeprefix("lm."): t for n, t in tensors.items() if n.startswith("lm.")}, strict=False)
    lm.tie_weights()
    lm.save_pretrained(tmp_path / "opt")
    tiny.byte_tokenizer().save_pretrained(tmp_path / "opt")
    width = tensors["in.features"].shape[-1]
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 24, "patch_size": 8}
    ViTModel(ViTConfig(hidden_size=width, image_size=tiny.SIDE, **sizes)).save_pretrained(tmp_path / "vit")
    ViTImageProcessorPil(size={"height": tiny.SIDE, "width": tiny.SIDE}).save_pretrained(tmp_path / "vit")
    done = epalm(
        "convert", RECORDED, "--output", tmp_path / "adapter", "--model.language_model", tmp_path / "opt",
        "--model.encoders.image", tmp_path / "vit",
    )  # fmt: skip
    assert done.code == 0, done.err
    model = PerceptualLM.from_pretrained(tmp_path / "adapter")
    with torch.no_grad():
        logits = model(tensors["in.input_ids"], tensors["in.attention_mask"], features=tensors["in.features"]).logits
    torch.testing.assert_close(logits, tensors["out.logits"], rtol=0, atol=1e-5)
    ids, features = tensors["in.input_ids"][:1, :5], tensors["in.features"][:1]
    new = model.generate(ids, features=features, num_beams=3, max_new_tokens=9)
    assert torch.equal(new, tensors["out.beam3"][:, 5:])


@pytest.mark.parametrize("prompt", ["none", "plain", "mlp"])
@pytest.mark.parametrize("linears", [1, 2])
def test_every_layout_becomes_an_adapter_with_the_legacy_settings(
    place: Path, backbones: Path, epalm: Callable[..., Any], linears: int, prompt: str
) -> None:
    saved = checkpoint(linears, prompt)
    torch.save(saved, "original.pth")
    done = epalm("convert", "original.pth", "--output", "adapter", *backbones_of(backbones))
    assert done.code == 0, done.err
    assert done.out.endswith("adapter written to adapter\n")
    asked = Answerer.load("adapter", {"model.device": "cpu"})
    model, tensors = asked.model, saved["model"]
    assert (model.config.mask, model.window.start, model.window.end) == ("legacy", 0, 2)
    assert model.levels == {"image": 2}
    features = torch.randn(3, 2, E)
    vectors = [
        features[:, k] @ tensors[f"connector.{k % linears}.weight"].T + tensors[f"connector.{k % linears}.bias"]
        for k in range(2)
    ]
    torch.testing.assert_close(model.perception(features)["image"], torch.stack(vectors, dim=1))
    if prompt == "none":
        assert model.prompt is None
    else:
        rows = {name.rpartition("embedding.")[2]: tensor for name, tensor in tensors.items() if "prompt" in name}
        vectors = rows["0.weight"]
        if prompt == "mlp":
            vectors = torch.tanh(vectors @ rows["1.weight"].T + rows["1.bias"]) @ rows["3.weight"].T + rows["3.bias"]
        torch.testing.assert_close(model.prompt(), vectors)
    assert list(model.encoders["image"].processor.image_mean) == [0.48145466, 0.4578275, 0.40821073]
    assert asked.tasks["question_answering"].prompt("which?") == "which??</a>"
    assert asked.ask("pictures/red.png", "which?") is not None


@torch.no_grad()
def forward_by_hand(
    lm: OPTForCausalLM, ids: Tensor, prompt: Tensor, slots: list[Tensor], start: int, end: int
) -> Tensor:
    """The original's forward, layer by layer: ids (B, T), prompt (P, W), slots (B, D) for each layer of the window."""
    decoder, batch = lm.model.decoder, len(ids)
    text = decoder.embed_tokens(ids) + decoder.embed_positions.weight[2 : 2 + ids.shape[1]]
    hidden = torch.cat([prompt.expand(batch, -1, -1), text], dim=1)  # (B, P + T, D)
    for number, layer in enumerate(decoder.layers):
        if start <= number < end:
            rest = hidden if number == start else hidden[:, 1:]
            hidden = torch.cat([slots[number - start].unsqueeze(1), rest], dim=1)
        seen = torch.ones(hidden.shape[1], hidden.shape[1]).tril()
        if number >= start:
            seen[0] = 1  # the slot's own row sees everything
        mask = torch.zeros_like(seen).masked_fill(seen == 0, torch.finfo(torch.float32).min)
        output = layer(hidden, attention_mask=mask.expand(batch, 1, -1, -1))
        hidden = output[0] if isinstance(output, tuple) else output
    return lm.lm_head(decoder.final_layer_norm(hidden))


@pytest.mark.parametrize("linears", [4, 1], ids=["per level", "shared"])
def test_levels_that_reach_no_layer_are_left_out(place: Path, epalm: Callable[..., Any], linears: int) -> None:
    """Level i - start for layer i, so that of four the two deepest are never used in a window of two layers."""
    lm = tiny.save_language_model(place / "opt", num_hidden_layers=4)
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 5, "num_attention_heads": 2, "intermediate_size": 24, "patch_size": 8}
    encoder = ViTModel(ViTConfig(hidden_size=E, image_size=tiny.SIDE, **sizes), add_pooling_layer=False)
    encoder.save_pretrained("vit")
    ViTImageProcessorPil(size={"height": tiny.SIDE, "width": tiny.SIDE}).save_pretrained("vit")
    saved = checkpoint(linears)
    saved["config"] |= {"start_layer_idx": 1, "end_layer_idx": 3, "injected_hidden_states": 4}
    torch.save(saved, "original.pth")
    done = epalm(
        "convert", "original.pth", "--output", "adapter", "--model.language_model", lm, "--model.encoders.image", "vit",
        "--model.device", "cpu",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert (
        "original.pth perceives 4 levels, and its window, layers 1 to 3, takes 2: as in the original the 2" in done.err
    )
    assert ("their linears are left out" in done.err) == (linears > 1)

    model = PerceptualLM.from_pretrained("adapter", attn_implementation="eager")
    assert model.levels == {"image": 4}
    assert len(model.trained_state_dict()) == 2 * min(linears, 2) + 1
    pixels, ids = torch.randn(2, 3, tiny.SIDE, tiny.SIDE), torch.randint(0, 250, (2, 6))
    with torch.no_grad():
        # The last four blocks of five; the first and the second of them are used.
        states = encoder.eval()(pixels, output_hidden_states=True).hidden_states[-4:]
        slots = [
            encoder.layernorm(states[k])[:, 0] @ saved["model"][f"connector.{k % linears}.weight"].T
            + saved["model"][f"connector.{k % linears}.bias"]
            for k in (0, 1)
        ]
        found = model(ids, pixel_values=pixels).logits
    prompt = saved["model"]["prompt_module.prefix_embedding.0.weight"]
    expected = forward_by_hand(
        OPTForCausalLM.from_pretrained(lm, attn_implementation="eager"), ids, prompt, slots, 1, 3
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_a_best_score_of_numpys_is_read(
    place: Path, backbones: Path, epalm: Callable[..., Any], refused: Callable[..., str], core: str
) -> None:
    """As both numpy 1 and 2 save it, and nothing else of numpy's."""
    ours = "numpy._core" if np.__version__ >= "2" else "numpy.core"

    def save(content: dict[str, Any]) -> None:
        torch.save(content, "original.pth", _use_new_zipfile_serialization=False)
        saved = Path("original.pth").read_bytes()
        assert f"c{ours}.multiarray\n".encode() in saved
        Path("original.pth").write_bytes(saved.replace(f"c{ours}.".encode(), f"c{core}.".encode()))

    save({**checkpoint(), "best_valid": np.float64(61.86), "best_epoch": 3})
    call = ("convert", "original.pth", "--output", "adapter", *backbones_of(backbones))
    done = epalm(*call)
    assert (done.code, done.err) == (0, "")
    save({**checkpoint(), "best_valid": np.ones(3)})
    assert "is no checkpoint of tensors and plain values alone" in refused(*call)


def test_a_window_that_is_assumed_is_told(place: Path, backbones: Path, epalm: Callable[..., Any]) -> None:
    content = checkpoint()
    del content["config"]
    torch.save(content, "original.pth")
    call = ("convert", "original.pth", "--output", "adapter", *backbones_of(backbones))
    done = epalm(*call)
    assert done.code == 0
    window = Answerer.load("adapter", {"model.device": "cpu"}).model.window
    assert done.err.startswith(
        f"epalm: original.pth does not tell its window; layers {window.start} to {window.end} of "
    )
    assert done.err.count("\n") == 1
    done = epalm(*call, "--adapter.start", 0, "--adapter.end", 2)
    assert (done.code, done.err) == (0, "")


def test_the_mark_is_the_token_behind_the_last() -> None:
    from epalm.tasks import Tasks, TextTemplate

    tokenizer = tiny.byte_tokenizer()
    template = TextTemplate(answer_mark="</a>", mark_is_token=True, double_question_mark=True)
    task = Tasks(tokenizer, template)["question_answering"]
    assert task.prompt_ids("a?") == [*tokenizer("a??")["input_ids"], len(tokenizer)]
    assert task.tokenizer.target_ids("b", task.prompt("a?")) == [*tokenizer("b")["input_ids"], tokenizer.eos_token_id]
    tokenizer.add_tokens(["</a>"])
    assert Tasks(tokenizer, template)["question_answering"].prompt_ids("a?") == tokenizer("a??</a>")["input_ids"]


class Code:
    """What must never be run by loading a checkpoint."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("run"),)


def without(name: str) -> dict[str, Any]:
    content = checkpoint(2, "mlp")
    del content["model"][name]
    return content


def changed(name: str, tensor: Tensor) -> dict[str, Any]:
    content = checkpoint(2, "mlp")
    content["model"][name] = tensor
    return content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([1, 2], "it has no 'model' with tensors"),
        ({"state_dict": {}}, "it has no 'model' with tensors"),
        ({"model": {"epoch": 3}}, "it has no 'model' with tensors"),
        ({"model": {"fc.weight": torch.ones(2, 2)}}, "it has no 'connector.0.weight'"),
        (without("connector.0.bias"), "'connector.0.bias' is missing"),
        (without("prompt_module.prefix_embedding.1.bias"), "'prompt_module.prefix_embedding.1.bias' is missing"),
        (changed("connector.1.weight", torch.ones(D, 3)), f"weight' has shape [{D}, 3], expected [{D}, {E}]"),
        (changed("model_text.adapter.weight", torch.ones(2)), "holds 'model_text.adapter.weight'; only linear"),
        (changed("connector.0.weight", torch.ones(D)), f"weight' has shape [{D}], expected two dimensions"),
        ({"model": checkpoint()["model"], "hook": Code()}, "is no checkpoint of tensors and plain values alone"),
        (b"PK\x03\x04 and then nothing", "is cut off; download it again"),
        (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer and not the file itself"),
        (checkpoint(3), "has 3 linears, but its configuration says 2 levels"),
    ],
)  # fmt: skip
def test_files_that_are_none(
    place: Path, backbones: Path, refused: Callable[..., str], content: Any, expected: str
) -> None:
    if isinstance(content, bytes):
        Path("wrong.pth").write_bytes(content)
    else:
        torch.save(content, "wrong.pth")
    message = refused("convert", "wrong.pth", "--output", "adapter", *backbones_of(backbones))
    assert expected in message
    assert "wrong.pth" in message
    assert not Path("adapter").exists()
    assert not Path("run").exists()


def test_a_damaged_or_plain_file(place: Path, backbones: Path, refused: Callable[..., str]) -> None:
    Path("text.pth").write_text("not a checkpoint")
    assert "text.pth: is no checkpoint" in refused("convert", "text.pth", "--output", "a", *backbones_of(backbones))
    Path("pickled.pth").write_bytes(pickle.dumps({"model": 1}))
    assert "pickled.pth: " in refused("convert", "pickled.pth", "--output", "a", *backbones_of(backbones))
    assert "none.pth: no such file" in refused("convert", "none.pth", "--output", "a", *backbones_of(backbones))
    torch.save(checkpoint(), "short.pth")
    Path("short.pth").write_bytes(Path("short.pth").read_bytes()[:-200])
    assert "short.pth: is cut off" in refused("convert", "short.pth", "--output", "a", *backbones_of(backbones))


def test_what_the_file_does_not_tell_must_be_said(place: Path, backbones: Path, refused: Callable[..., str]) -> None:
    torch.save(checkpoint(), "original.pth")
    language_model, encoder = backbones_of(backbones)[:2], backbones_of(backbones)[2:]
    call = ("convert", "original.pth", "--output", "a")
    assert "does not name its language model; give --model.language_model" in refused(*call, *encoder)
    assert "does not name its encoder" in refused(*call, *language_model)
    assert "output: nowhere to write" in refused("convert", "original.pth", *language_model, *encoder)
    assert "--adapter.mask: has no effect" in refused(*call, *language_model, *encoder, "--adapter.mask", "causal")


def test_backbones_of_other_sizes(place: Path, backbones: Path, refused: Callable[..., str]) -> None:
    content = checkpoint()
    content["model"] |= {"connector.0.weight": torch.ones(D, 7)}
    torch.save(content, "original.pth")
    call = ("convert", "original.pth", "--output", "a", *backbones_of(backbones))
    assert "was trained for width E 7" in refused(*call)
    content["model"] |= {"connector.0.weight": torch.ones(5, E), "connector.0.bias": torch.ones(5)}
    torch.save(content, "original.pth")
    assert "was trained for width D 5" in refused(*call)
    torch.save(checkpoint(2), "original.pth")
    assert "leave it out" in refused(*call, "--adapter.levels", 1)
