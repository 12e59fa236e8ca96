"""The command line: one verb a file. Nothing heavy is imported before a verb needs it."""

import os
import re
import sys
import traceback
from typing import Annotated

import typer

from siamtune import __version__
from siamtune.cli import (
    board,
    data,
    diff,
    embed,
    evaluate,
    export,
    figures,
    jobs,
    ls,
    predict,
    report,
    rescore,
    search,
    show,
    spaces,
    stop,
    top,
    train,
)
from siamtune.errors import SiamtuneError

# A name may hold codes that move the cursor or colour the screen.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

EPILOG = """Exit codes: 0 done, 1 unexpected error, 2 usage, 3 invalid space, configuration or data,
4 no trial succeeded, 5 the disk is full or gone, 6 the cluster cannot run this, 130 ended in good
order by Ctrl-C or `siamtune stop`."""

app = typer.Typer(
    name="siamtune",
    help="Hyperparameter search for siamese networks that verify faces.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # reflows paragraphs
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("search")(search.search)
app.command("resume")(search.resume)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("top")(top.top)
app.command("show")(show.show)
app.command("diff")(diff.diff)
app.command("report")(report.report)
app.command("stop")(stop.stop)
app.command("rescore")(rescore.rescore)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("embed")(embed.embed)
app.command("figures")(figures.figures)
app.command("board")(board.board)
app.command("ls")(ls.ls)
app.command("submit")(jobs.submit)
app.command("status")(jobs.status)
app.command("logs")(jobs.logs)
app.add_typer(spaces.app, name="spaces")
app.add_typer(data.app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"siamtune {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say which."),
    ] = False,
) -> None:
    """Tune siamese networks that verify faces."""


def run() -> None:
    """Run the command line: one clear message for every fault, a traceback only with -v."""
    verbose = bool({"-v", "--verbose"} & set(sys.argv))
    try:
        app()
    except SiamtuneError as error:
        if verbose:
            traceback.print_exc()
        print(f"siamtune: {CONTROL.sub('?', str(error))}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("siamtune: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # `siamtune ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        if verbose:
            traceback.print_exc()
        print(
            f"siamtune: unexpected {type(error).__name__}: {error}"
            + ("" if verbose else " (-v shows where)"),
            file=sys.stderr,
        )
        code = 1
    else:
        return
    sys.exit(code)
