"""Trains on really pretrained backbones and writes what came of it into docs/real.md and README.md.

make real BACKBONES=DIR [DATA=DIR] [FEATURES=DIR | FEATURE_TOOL=COMMAND] [ONLY="digits esc10"] [QUICK=1]

Stopped at any moment, the same command goes on where it was. docs/real.md tells what is to lie where.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.real.commands import StoppedError
from benchmarks.real.part import Inputs, run_part
from benchmarks.real.plan import CHOICES, PARTS, Part, select
from benchmarks.real.tables import Results, write_tables
from epalm.errors import EpalmError

_PAGE, _README = Path("docs/real.md"), Path("README.md")
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for, then write the tables of all that are finished; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real", description=__doc__.split("\n")[0])
    parser.add_argument("--backbones", type=Path, required=True, help="directory of the backbones")
    parser.add_argument("--data", type=Path, required=True, help="directory of the data sets")
    parser.add_argument("--features", type=Path, help="directory of ready features of the photographs")
    parser.add_argument("--feature-tool", help="command that makes them: gets a manifest, and the .npz to write")
    parser.add_argument("--only", default="", help="parts, by their names or how these begin, between spaces")
    parser.add_argument("--choices", action="store_true", help="what the defaults were chosen by, in place of the plan")
    parser.add_argument("--quick", action="store_true", help="a few rows and steps, into another directory: no tables")
    parser.add_argument("--output", type=Path, help="directory of everything that is made [runs/real]")
    options = parser.parse_args(arguments)
    output = options.output or Path("runs/real-quick" if options.quick else "runs/real")
    inputs = Inputs(options.backbones, options.data, output, options.features, options.feature_tool, options.quick)
    try:
        names = options.only.split()
        left_out = _run(select(names, CHOICES if options.choices else PARTS), inputs, insisted=bool(names))
    except StoppedError as error:
        print(f"real: {error}", file=sys.stderr)
        return error.exit_code
    except EpalmError as error:
        print(f"real: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("real: interrupted; the same command goes on from here", file=sys.stderr)
        return _INTERRUPTED
    if options.quick:
        print(f"real: done, in {output}; a quick run writes no tables")
    else:
        write_tables(Results.read(output), _PAGE, _README)
        print(f"real: done, in {output}; tables written into {_PAGE} and {_README}")
    for line in left_out:
        print(f"real: {line}", file=sys.stderr)
    return 0


def _run(parts: Sequence[Part], inputs: Inputs, *, insisted: bool) -> list[str]:
    """Run parts, one after the other; those that were left out, and why.

    Args:
        parts: of the plan.
        inputs: where everything is.
        insisted: the parts were named, so that none is left out.
    """
    left_out = []
    for part in parts:
        why = inputs.why_without_features() if part.features is not None else None
        if why is not None and not insisted:
            left_out.append(f"{part.name}: left out, {why}")
            continue
        print(f"real: {part.name}", file=sys.stderr, flush=True)
        run_part(part, inputs)
    return left_out


if __name__ == "__main__":
    sys.exit(main())
