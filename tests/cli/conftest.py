"""What the tests of several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def adapter(place: Path, backbones: Path, epalm: Callable[..., Any]) -> Path:
    """An adapter of a short run on questions."""
    assert epalm("train", "recipe.yaml", "--data.train", "questions.jsonl", "--output", "adapter").code == 0
    return place / "adapter"
