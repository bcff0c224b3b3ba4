"""Several threads ask at once: one answerer, and two adapters on one language model."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from epalm.evaluation import Answerer
from epalm.models import PerceptualLM
from epalm.recipe import DataSettings, GenerationSettings


@pytest.mark.parametrize("stored", [False, True])
def test_every_thread_gets_its_own_answers(backbones: Path, place: Path, stored: bool) -> None:
    torch.manual_seed(0)
    first = PerceptualLM.build(backbones / "llama", backbones / "vit")
    second = PerceptualLM.build(first, first.encoders, "epalm_ada")
    for model in (first, second):
        with torch.no_grad():
            for parameter in model.perception.connector.parameters():
                parameter.mul_(5)  # so that perception surely matters
    data = DataSettings(store=place / "store" if stored else None)
    generation = GenerationSettings(num_beams=2, max_new_tokens=5)
    calls: list[Callable[[], Any]] = []
    for model in (first, second):
        answerer = Answerer(model, generation=generation, data=data)
        calls += [
            partial(answerer.ask, f"pictures/{name}.png", question)
            for name in tiny.COLOURS
            for question in ("which?", "what is it, then?")
        ]
        calls.append(partial(answerer.caption, [f"pictures/{name}.png" for name in tiny.COLOURS]))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            answers = [future.result(60) for future in [pool.submit(call) for call in calls]]
    finally:
        sys.setswitchinterval(before)
    assert answers == [call() for call in calls]
    assert len({str(answer) for answer in answers}) > 4
