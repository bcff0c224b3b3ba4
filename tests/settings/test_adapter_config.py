"""Typed settings: what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field

from epalm.errors import ConfigError
from epalm.settings import PRESETS, AdapterConfig, Settings, read_yaml
from epalm.settings.names import all_settings, describe_settings, find_setting, kinds


class Inner(Settings):
    size: int = 3
    """How large."""
    rate: float | None = None
    """How fast."""
    kind: Literal["one", "two"] = "one"
    """Which."""
    on: bool = False
    """Whether it is
    on."""


class Outer(Settings):
    inner: Inner = Inner()
    """A group."""
    table: dict[str, str] = Field(default_factory=lambda: {"a": "b"})
    """Named entries."""
    place: Path | None = None
    """Where."""


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        Outer.build(values, where="file.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"inner": {"siez": 1}}, "file.yaml: unknown setting 'inner.siez'; did you mean 'inner.size'?"),
        ({"inner": {"zzz": 1}}, "unknown setting 'inner.zzz'; choose from size, rate, kind, on"),
        ({"iner": {}}, "unknown setting 'iner'; did you mean 'inner'?"),
        ({"size": 1}, "unknown setting 'size'; did you mean 'inner.size'?"),
        ({"inner": {"place": 1}}, "unknown setting 'inner.place'; did you mean 'place'?"),
        ({1: 2}, "1: Keys should be strings"),
        ({"inner": {"size": True}}, "inner: size must be a number, not true or false"),
        ({"inner": {"size": 1.5}}, "inner.size: Input should be a valid integer"),
        ({"inner": {"rate": float("nan")}}, "inner.rate: Input should be a finite number"),
        ({"inner": {"kind": "three"}}, "inner.kind: Input should be 'one' or 'two', got 'three'"),
        ({"inner": [1]}, "inner: must be a group of 'name: value' settings, got [1]"),
        ({"table": 5}, "table: must be a group of 'name: value' settings, got 5"),
        ({"place": 5}, "place: Input is not a valid path"),
        ({"inner": {"size": "x" * 500}}, "..."),
    ],
)
def test_what_is_wrong_is_said_in_one_line(values: dict[str, Any], expected: str) -> None:
    message = refusal(values)
    assert expected in message
    assert len(message) < 250


def test_what_yaml_writes_in_its_own_way_is_taken() -> None:
    built = Outer.build({"inner": {"size": "7", "rate": "1e-3", "on": "false"}})
    assert (built.inner.size, built.inner.rate, built.inner.on) == (7, 1e-3, False)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Inner().size = 4  # type: ignore[misc]


def test_names_and_types() -> None:
    assert [name for name, _ in all_settings(Outer)] == [
        *("inner.size", "inner.rate", "inner.kind", "inner.on"),
        *("table", "place"),
    ]
    assert kinds(find_setting(Outer, "inner.rate")) == {float, type(None)}
    assert find_setting(Outer, "table.anything") is str
    for wrong in ("table.a.b", "inner", "inner.size.x", "nothing.at.all"):
        with pytest.raises(ConfigError, match="unknown setting"):
            find_setting(Outer, wrong)


def test_description() -> None:
    assert describe_settings(Outer).splitlines() == [
        *("--inner.size WHOLE_NUMBER  [3]", "    How large."),
        *("--inner.rate NUMBER  [unset]", "    How fast."),
        *("--inner.kind one|two  [one]", "    Which."),
        *("--inner.on true|false  [false]", "    Whether it is on."),
        *("--table.NAME TEXT  [a: b]", "    Named entries."),
        *("--place PATH  [unset]", "    Where."),
    ]


def test_presets_fill_in_what_is_not_said() -> None:
    for name, values in PRESETS.items():
        preset = AdapterConfig.from_preset(name)
        assert preset.preset == name
        assert {key: getattr(preset, key) for key in values} == values
    assert AdapterConfig.from_preset("epalm", prompt="plain").prompt == "plain"
    assert AdapterConfig.from_preset("epalm", prompt="plain").connector == "per_level"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"preset": "epalm_p"}, "unknown preset 'epalm_p'; did you mean 'epalm_pt'?"),
        ({"preset": ["epalm"]}, "unknown preset"),
        ({"preset": None}, "unknown preset"),
        ({"start": 3, "end": 3}, "end (3) must be greater than start (3)"),
        ({"conector": "shared"}, "unknown setting 'conector'; did you mean 'connector'?"),
    ],
)
def test_wrong_adapters(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AdapterConfig.build(values, where="adapter")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "found nothing"),
        (b"# only a word\n", "found nothing"),
        (b"just words\n", "found a str"),
        (b"a: [1, 2\n", "not valid YAML"),
        (b"a: \xff\xfe\n", "not valid YAML"),
        (b"a: 1\na: 2\n", "'a' is given twice"),
        (b"a: {b: 1, b: 2}\n", "'b' is given twice"),
        (b"a: 2001-02-30\n", "not valid YAML"),
        (b"{[a]: 1}\n", "not valid YAML"),
        (b"[" * 5000, "nested too deeply"),
        (b"a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_wrong_yaml(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_that_is_right(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfbase: &base {x: 1}\nother: {<<: *base, y: \xc3\xa9}\n")
    assert read_yaml(path) == {"base": {"x": 1}, "other": {"x": 1, "y": "é"}}


def test_yaml_that_cannot_be_read(tmp_path: Path) -> None:
    for path, expected in (
        (tmp_path, "is a directory; name a YAML file"),
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path / ("x" * 300), "no such file"),
        (Path("/proc/self/mem"), "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=expected):
            read_yaml(path)
