"""The command line, thin over the package."""

from epalm.cli.main import run

__all__ = ["run"]
