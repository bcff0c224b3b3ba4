"""What every process of `test_same_predictions.py` runs: the command lines in a JSON file, one after the other."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from epalm.cli import run


def main() -> None:
    for arguments in json.loads(Path(sys.argv[1]).read_text()):
        code = run(arguments)
        if code:
            sys.exit(code)


if __name__ == "__main__":
    main()
