"""Names of backbones: what they stand for, and what is refused."""

import socket
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from epalm.errors import ConfigError
from epalm.runtime.sources import resolve_source


def test_a_hub_id_and_a_directory_pass_through(tmp_path):
    assert resolve_source("facebook/opt-350m") == "facebook/opt-350m"
    assert resolve_source("gpt2") == "gpt2"
    assert resolve_source(tmp_path) == str(tmp_path)


def test_a_toy_backbone_is_a_directory_of_the_package():
    assert (Path(resolve_source("toyworld/lm")) / "config.json").is_file()


@pytest.mark.parametrize("name", ["./nowhere", "../nowhere", "/no/where", "~/no/where", "one/two/three"])
def test_what_can_only_be_a_directory_must_be_there(name):
    with pytest.raises(ConfigError, match=f"^{name}: no such directory$"):
        resolve_source(name)


def test_an_unknown_toy_backbone_lists_those_there_are():
    with pytest.raises(ConfigError, match="toyworld/lm"):
        resolve_source("toyworld/nothing")


def test_a_hub_that_cannot_be_reached_is_told_at_once(tmp_path, monkeypatch, refused):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # a port that nobody listens to
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{nobody.getsockname()[1]}")
        monkeypatch.setattr("epalm.runtime.sources.getproxies", dict)
        started = time.monotonic()
        message = refused("info", "coco_base")
        assert time.monotonic() - started < 5
        assert "facebook/opt-2.7b: no such directory, not fetched before, and 127.0.0.1 cannot be reached" in message
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *names: str(tmp_path / "config.json"))
        assert resolve_source("facebook/opt-2.7b") == "facebook/opt-2.7b"
