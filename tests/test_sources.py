"""Names of backbones: what they stand for, and what is refused."""

from pathlib import Path

import pytest

from epalm.errors import ConfigError
from epalm.sources import resolve_source


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
