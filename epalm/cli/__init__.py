"""The command line, thin over the package."""

from epalm.cli.main import main, run

__all__ = ["main", "run"]
