from __future__ import annotations

from pathlib import Path

import pytest
import tiny_encoders
import torch
from transformers.utils import logging


@pytest.fixture(autouse=True, scope="session")
def _no_progress_bars():
    logging.disable_progress_bar()


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One checkpoint directory per family."""
    return {name: tiny_encoders.save(name, tmp_path_factory.mktemp(name)) for name in tiny_encoders.FAMILIES}


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(4, 3, tiny_encoders.SIZE, tiny_encoders.SIZE, generator=torch.Generator().manual_seed(1))
