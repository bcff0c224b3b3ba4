"""Where a backbone comes from: a hub id, a local directory, or one of the toy world's backbones that ship inside."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

from epalm.errors import ConfigError
from epalm.runtime.checkpoint_files import is_gguf

TOY_PREFIX = "toyworld/"
_TOY_ROOT = Path(__file__).parents[1] / "toyworld" / "backbones"


def resolve_source(name: str | Path) -> str:
    """What to hand to `from_pretrained` for `name`.

    `toyworld/lm` and its like name the backbones inside this package; anything else is a local directory, a GGUF file
    or a hub id (at most `owner/name`).

    Raises:
        ConfigError: no toy backbone has that name (those there are get listed), it can be a directory only and there is
            none, it is another file, or it is on a hub that cannot be reached.
    """
    name = str(name)
    if not name.startswith(TOY_PREFIX):
        if os.path.isfile(file := os.path.expanduser(name)):  # noqa: PTH111, PTH113  Path.is_file raises on long names
            if is_gguf(Path(file)):
                return file
            raise ConfigError(f"{name}: is a file; name the directory that it lies in")
        if (name.count("/") > 1 or name.startswith((".", "/", "~"))) and not Path(name).expanduser().is_dir():
            raise ConfigError(f"{name}: no such directory")
        if not os.path.isdir(os.path.expanduser(name)):  # noqa: PTH111, PTH112  Path.is_dir raises on long names
            _require_hub(name)
        return str(Path(name).expanduser()) if name.startswith("~") else name
    folder = _TOY_ROOT / name.removeprefix(TOY_PREFIX)
    if not (folder / "config.json").is_file():
        names = ", ".join(sorted(TOY_PREFIX + child.name for child in _TOY_ROOT.glob("*") if child.is_dir()))
        raise ConfigError(f"{name}: no such toy backbone; there are {names or 'none'}")
    return str(folder)


def _require_hub(name: str) -> None:
    """See that a hub id was fetched before, or that its hub can be reached: its client would go on trying for long."""
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if constants.HF_HUB_OFFLINE or getproxies():  # it tries nothing, or by another way
        return
    try:
        if try_to_load_from_cache(name, "config.json") is not None:
            return
    except HFValidationError:  # which transformers explains
        return
    hub = urlsplit(constants.ENDPOINT)
    address = hub.hostname or "", hub.port or (80 if hub.scheme == "http" else 443)
    try:
        socket.create_connection(address, timeout=constants.DEFAULT_ETAG_TIMEOUT).close()
    except OSError as error:
        raise ConfigError(
            f"{name}: no such directory, not fetched before, and {hub.hostname} cannot be reached "
            f"({error.strerror or error}); connect, or name a directory"
        ) from None
