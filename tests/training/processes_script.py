"""What every process of `test_processes.py` runs: a short training, and a score, told by the main process as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from epalm.processes import processes
from epalm.recipe import read_recipe
from epalm.training import run_recipe


def main() -> None:
    told = []
    for name in sys.argv[2:]:
        recipe = read_recipe(name)
        result = run_recipe(recipe)
        assert result.evaluation is not None
        predictions = [(each.row.id, each.text) for each in result.evaluation.predictions]
        told.append({"losses": result.log.losses, "predictions": predictions, "scores": result.evaluation.scores})
    Path(f"{sys.argv[1]}.{processes().process_index}").write_text(json.dumps(told))


if __name__ == "__main__":
    main()
