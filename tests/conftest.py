"""What the tests of whole runs share: tiny backbones on disk, pictures, and the command line in this process."""

from __future__ import annotations

import os

# Before anything imports the hub's client and torch: no test may wait for a network, and threads that wait for each
# other gain nothing on models as small as these.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tiny
import yaml
from transformers.utils import logging


class Finished(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def _no_bars_of_others() -> None:
    logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the user's cache, or finds what another left."""
    monkeypatch.setenv("EPALM_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures that are shared have one as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EPALM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_java_unless_asked_for(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Java programs take seconds to start; only tests that are marked so start them."""
    if request.node.get_closest_marker("java") is None:
        monkeypatch.setattr("epalm.metrics.java.find_java", lambda: None)


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`opt`, `llama` and two encoders, `vit` and `other-vit`; never written to."""
    folder = tmp_path_factory.mktemp("backbones")
    tiny.save_language_model(folder / "opt", "opt")
    tiny.save_language_model(folder / "llama", "llama")
    tiny.save_encoder(folder / "vit")
    tiny.save_encoder(folder / "other-vit", seed=1, pooler=True)
    return folder


@pytest.fixture(scope="session")
def real_backbones() -> Path:
    """Really pretrained ones, as docs/real.md says; tests that take them are marked `real`."""
    folder = os.environ.get("EPALM_REAL_BACKBONES")
    if not folder:
        pytest.skip("EPALM_REAL_BACKBONES is not set: there are no pretrained backbones to test on")
    return Path(folder).absolute()


@pytest.fixture
def place(tmp_path: Path, backbones: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory one stands in: `pictures/`, manifests of colours, and `recipe.yaml` for a short run."""
    monkeypatch.chdir(tmp_path)
    tiny.save_pictures(tmp_path / "pictures")
    tiny.write_lines(tmp_path / "questions.jsonl", tiny.questions())
    tiny.write_lines(tmp_path / "captions.jsonl", tiny.captions())
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tiny.recipe_values(backbones)))
    return tmp_path


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were answered, time after time."""
    from epalm.evaluation import Answerer

    counts: list[int] = []
    answer = Answerer.answer

    def counted(self: Answerer, rows: Any, *arguments: Any) -> list[str]:
        counts.append(len(rows))
        return answer(self, rows, *arguments)

    monkeypatch.setattr(Answerer, "answer", counted)
    return counts


@pytest.fixture
def epalm(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Run a command as a user does; every argument as it would stand on the command line."""
    from epalm.cli import run

    def call(*arguments: object) -> Finished:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Finished(code, out, err)

    return call


@pytest.fixture
def refused(epalm: Callable[..., Finished]) -> Callable[..., str]:
    """Run a command that the user must mend: exit code 2, nothing printed but one line, which is given back."""

    def call(*arguments: object) -> str:
        code, out, err = epalm(*arguments)
        assert (code, out) == (2, ""), err
        assert err.startswith("epalm: ")
        assert err.count("\n") == 1
        return err

    return call
