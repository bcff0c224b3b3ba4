"""Where a backbone comes from: a hub id, a local directory, or one of the toy world's backbones that ship inside."""

from __future__ import annotations

from pathlib import Path

from epalm.errors import ConfigError

TOY_PREFIX = "toyworld/"
_TOY_ROOT = Path(__file__).parent / "toyworld" / "backbones"


def resolve_source(name: str | Path) -> str:
    """What to hand to `from_pretrained` for `name`.

    `toyworld/lm` and its like name the backbones inside this package; anything else is a local directory or a hub id
    (at most `owner/name`).

    Raises:
        ConfigError: no toy backbone has that name (those there are get listed), or it can be a directory only and there
            is none.
    """
    name = str(name)
    if not name.startswith(TOY_PREFIX):
        if (name.count("/") > 1 or name.startswith((".", "/", "~"))) and not Path(name).expanduser().is_dir():
            raise ConfigError(f"{name}: no such directory")
        return str(Path(name).expanduser()) if name.startswith("~") else name
    folder = _TOY_ROOT / name.removeprefix(TOY_PREFIX)
    if not (folder / "config.json").is_file():
        known = ", ".join(sorted(TOY_PREFIX + child.name for child in _TOY_ROOT.glob("*") if child.is_dir()))
        raise ConfigError(f"{name}: no such toy backbone; there are {known or 'none'}")
    return str(folder)
