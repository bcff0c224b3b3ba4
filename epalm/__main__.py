"""`python -m epalm`, which launchers of several processes can start."""

from epalm.cli.main import main

main()
