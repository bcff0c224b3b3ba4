"""The command line, thin over the package: `epalm train | evaluate | caption | ask | info | recipes | ...`.

Every setting of a recipe is an option by its dotted name, such as `--training.steps 100`.

Exit codes: 0 done; 2 the user can mend it, and one line says how; 130 interrupted, 143 terminated; 1 a bug of ours,
with a traceback.
"""

from __future__ import annotations

import io
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from epalm.cli import options
from epalm.cli.answer import ask, caption, evaluate
from epalm.cli.data import SCORE_HELP, data_app, score
from epalm.cli.errors import quieten_libraries, refuse, usage, users_trouble
from epalm.cli.features import features_app
from epalm.cli.info import info, recipes
from epalm.cli.train import convert, train
from epalm.errors import EpalmError, TrainingStopped
from epalm.recipe.overrides import split_settings

app = typer.Typer(
    help="Give any frozen language model perception by training almost nothing.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")
app.add_typer(features_app, name="features")
for command, epilog in (
    (train, options.TRAIN_HELP + options.SETTINGS),
    (evaluate, options.EVALUATE_HELP + options.ANSWER_SETTINGS),
    (caption, options.CAPTION_HELP + options.KINDS_HELP + options.ANSWER_SETTINGS),
    (ask, options.ASK_HELP + options.KINDS_HELP + options.ANSWER_SETTINGS),
    (info, options.INFO_HELP + options.SETTINGS),
    (recipes, options.RECIPES_HELP),
    (convert, options.CONVERT_HELP),
    (score, SCORE_HELP),
):
    app.command(epilog=epilog)(command)
_UsageError: Any = typer.BadParameter.__base__
"""What typer raises where the command line is wrong; typer has it from click, or brings a click of its own."""
_INTERRUPTED = 130
"""Exit code of a command that was stopped by Ctrl-C; typer may give it back, too."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no terminal is too poor for a caption
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    quieten_libraries()
    try:
        overrides, rest = split_settings(arguments)
        interrupted = app(rest or ["--help"], obj=overrides, prog_name="epalm", standalone_mode=False)
        if sys.stdout is not None:  # it may be closed
            sys.stdout.flush()
    except EpalmError as error:
        return refuse(str(error))
    except _UsageError as error:
        return refuse(usage(error))
    except TrainingStopped as stopped:
        from epalm.runtime.processes import is_main_process

        return refuse(str(stopped), stopped.exit_code) if is_main_process() else stopped.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return refuse("interrupted", _INTERRUPTED)
    except SystemExit:  # typer's answer to a closed pipe: whoever read has seen enough
        return 0
    except Exception as error:
        if (trouble := users_trouble(error)) is not None:
            return refuse(trouble)
        traceback.print_exc()
        return refuse("this is a bug; please report it with the lines above", 1)
    return refuse("interrupted", _INTERRUPTED) if interrupted == _INTERRUPTED else 0
