"""`python -m epalm.cli`: the same as `python -m epalm`."""

from epalm.cli.main import main

main()
