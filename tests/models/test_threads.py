"""Several threads on one language model: each gets what it would get alone."""

from __future__ import annotations

import copy
import os
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

import pytest
import torch
from families import augmented, features, language_model, new_language_model, text
from torch import Tensor
from transformers import LlamaConfig, ViTConfig, ViTModel

from epalm.models import PerceptualLM
from epalm.runtime.locks import lock_of

THREADS = 4
SECONDS = 60
"""Far more than anything here takes: what waits longer waits for ever."""


@pytest.fixture(autouse=True)
def _threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def fresh() -> PerceptualLM:
    sizes = {"vocab_size": 97, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    lm = new_language_model(LlamaConfig(**sizes, num_hidden_layers=5, max_position_embeddings=64))
    return augmented(lm)


def in_threads(calls: list[Callable[[], Any]]) -> list[Any]:
    """What the calls give, made by several threads at once."""
    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result(SECONDS) for future in [pool.submit(call) for call in calls]]


def calls_of(model: PerceptualLM, other: PerceptualLM) -> list[Callable[[], Any]]:
    """Generation, cached and not, ranking, logits, loss and gradients, by two models, each of other inputs."""

    def learned(each: PerceptualLM, ids: Tensor, given: Tensor, skip_logits: bool) -> list[Any]:
        with torch.enable_grad():
            loss = each(ids, labels=ids, features=given, skip_logits=skip_logits).loss
            return [loss.tolist(), torch.autograd.grad(loss, each.prompt.weight)[0].tolist()]

    calls: list[Callable[[], Any]] = []
    for seed in range(3):
        ids, given = text(2, seed=seed), features(2, seed)
        for each in (model, other):
            ways = {"features": given, "max_new_tokens": 4}
            calls += [
                lambda each=each, ids=ids, ways=ways: each.generate(ids, **ways).tolist(),
                lambda each=each, ids=ids, ways=ways: each.generate(ids, **ways, num_beams=3).tolist(),
                lambda each=each, ids=ids, ways=ways: each.generate(ids, **ways, use_cache=False).tolist(),
                lambda each=each, ids=ids, given=given: each.rank([[5, 2], [7, 8, 2]], ids, features=given),
                lambda each=each, ids=ids, given=given: each(ids, features=given).logits.tolist(),
                lambda each=each, ids=ids, given=given: learned(each, ids, given, skip_logits=False),
                lambda each=each, ids=ids, given=given: learned(each, ids, given, skip_logits=True),
            ]
    return calls


def test_threads_get_what_each_would_get_alone() -> None:
    """Two adapters on one language model; the second works inside the blocks as well."""
    model = augmented(language_model("llama", "sdpa"))
    other = augmented(model.language_model, start=0, block_adapters="both", bottleneck=4)
    for each in (model, other):
        each.train()
    calls = calls_of(model, other)
    alone = [call() for call in calls]
    assert in_threads(calls) == alone
    assert not model.language_model._forward_pre_hooks


def test_threads_share_an_encoder() -> None:
    torch.manual_seed(7)
    sizes = {"hidden_size": 12, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16}
    vision = ViTModel(ViTConfig(image_size=8, patch_size=4, **sizes), add_pooling_layer=False).eval()
    model = PerceptualLM.build(language_model("llama", "sdpa"), vision).eval()
    batches = [torch.randn(rows, 3, 8, 8) for rows in (1, 2, 3, 4) * 5]
    calls = [lambda batch=batch: model.encode(pixel_values=batch)["image"].tolist() for batch in batches]
    alone = [call() for call in calls]
    assert in_threads(calls) == alone


def test_layers_below_the_window_are_run_once_by_several_threads() -> None:
    model = augmented(language_model("llama", "sdpa"), prompt="none")
    lower = model.lower_layers()
    calls = [
        lambda seed=seed: model(
            text(2, seed=seed), labels=text(2, seed=seed), features=features(2, seed), lower_layers=lower
        ).loss.tolist()
        for seed in (0, 1, 2, 0, 1, 2)
    ]
    assert in_threads(calls) == [call() for call in calls]


class Streamer(Queue):
    """Hands every token on to another thread."""

    def put(self, value: Any, *args: Any, **kwargs: Any) -> None:
        super().put(value.flatten().tolist() if isinstance(value, Tensor) else value, *args, **kwargs)

    def end(self) -> None:
        super().put(None)


def test_generation_streams_to_another_thread() -> None:
    model = augmented(language_model("llama", "sdpa"))
    ways = {"features": features(1), "max_new_tokens": 6, "eos_token_id": None}
    alone = model.generate(text(1), **ways)[0].tolist()
    streamed = []
    for _ in range(THREADS):
        streamer = Streamer()
        threading.Thread(target=model.generate, args=(text(1),), kwargs=ways | {"streamer": streamer}).start()
        streamed.append(streamer)
    for streamer in streamed:
        tokens: list[int] = []
        while (token := streamer.get(timeout=SECONDS)) is not None:
            tokens += token
        assert tokens == alone


def test_others_wait_and_the_one_inside_does_not() -> None:
    model = augmented(language_model("llama", "sdpa"))
    waiting = threading.Thread(target=model.generate, args=(text(),), kwargs={"max_new_tokens": 1})
    with lock_of(model.language_model):
        waiting.start()
        assert model.generate(text(), max_new_tokens=1).shape == (3, 1)
        assert waiting.is_alive()
    waiting.join(SECONDS)
    assert not waiting.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_forked_process_does_not_wait_for_its_parents_threads() -> None:
    model, held, over = fresh(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock_of(model.language_model):
            held.set()
            over.wait(SECONDS)

    holding = threading.Thread(target=hold)
    holding.start()
    held.wait(SECONDS)
    child = os.fork()
    if child == 0:
        os._exit(0 if lock_of(model.language_model).acquire(timeout=1) else 1)
    assert os.waitpid(child, 0)[1] == 0
    over.set()
    holding.join(SECONDS)


def test_a_live_model_is_copied_and_pickled_with_a_lock_of_its_own() -> None:
    model = fresh()
    expected = model(text(), features=features(3)).logits  # its lock is there
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(text(), features=features(3)).logits, expected)
        assert lock_of(twin.language_model) is not lock_of(model.language_model)
        assert lock_of(twin.language_model) is lock_of(twin.language_model)
