"""What every process runs for `test_processes.py` and `test_sharding.py`: short trainings with scores, written as JSON.

    processes_script.py RESULTS RECIPE...

A recipe that ends in `@N` is ended after step N, and gone on with.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from epalm.recipe import read_recipe
from epalm.runtime.processes import processes
from epalm.training import run_recipe


class Ended(Exception):
    """Stands for the end of the process."""


def ending_at(step: int) -> Callable[[str, int, int], None]:
    def report(what: str, done: int, total: int) -> None:
        if what.startswith("training") and done == step:
            raise Ended

    return report


def main() -> None:
    results = []
    for name in sys.argv[2:]:
        path, _, step = name.partition("@")
        recipe = read_recipe(path)
        if step:
            try:
                run_recipe(recipe, ending_at(int(step)), java=False)
                raise AssertionError("it was to end")
            except Ended:
                pass
        result = run_recipe(recipe, resume=bool(step), java=False)
        assert result.evaluation is not None
        assert result.evaluation.perception is not None
        predictions = [(each.row.id, each.text) for each in result.evaluation.predictions]
        results.append(
            {
                "losses": result.log.losses,
                "chosen": result.log.chosen_step,
                "predictions": predictions,
                "scores": result.evaluation.scores,
                "perception": result.evaluation.perception.as_dict()["loss"],
            }
        )
    Path(f"{sys.argv[1]}.{processes().process_index}").write_text(json.dumps(results))


if __name__ == "__main__":
    main()
