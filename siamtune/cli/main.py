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
    plan,
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
from siamtune.cli.help import Verb, Verbs
from siamtune.errors import SiamtuneError

# A name may hold codes that move the cursor or colour the screen.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

HELP = """Hyperparameter search for siamese networks that verify faces:
siamtune search --space quickstart

    siamtune plan --space full --data lfw
    siamtune search --space full --data path/to/people --trials 50 --time-budget 2h
    siamtune top latest
    siamtune report latest
    siamtune predict a.jpg b.jpg

`siamtune VERB -h` begins with examples, too. `siamtune --install-completion` teaches bash, zsh or
fish to complete verbs, options, runs, trials, spaces and dials."""
EPILOG = """Exit codes: 0 done, 1 unexpected error, 2 usage, 3 invalid space, configuration or data,
4 no trial succeeded, 5 the disk is full or gone, 6 the cluster cannot run this, 130 ended in good
order by Ctrl-C, a termination signal or `siamtune stop`."""

app = typer.Typer(
    name="siamtune",
    cls=Verbs,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # reflows paragraphs
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("plan", cls=Verb)(plan.plan)
app.command("search", cls=Verb)(search.search)
app.command("resume", cls=Verb)(search.resume)
app.command("train", cls=Verb)(train.train)
app.command("evaluate", cls=Verb)(evaluate.evaluate)
app.command("top", cls=Verb)(top.top)
app.command("show", cls=Verb)(show.show)
app.command("diff", cls=Verb)(diff.diff)
app.command("report", cls=Verb)(report.report)
app.command("stop", cls=Verb)(stop.stop)
app.command("rescore", cls=Verb)(rescore.rescore)
app.command("export", cls=Verb)(export.export)
app.command("predict", cls=Verb)(predict.predict)
app.command("embed", cls=Verb)(embed.embed)
app.command("figures", cls=Verb)(figures.figures)
app.command("board", cls=Verb)(board.board)
app.command("ls", cls=Verb)(ls.ls)
app.command("submit", cls=Verb)(jobs.submit)
app.command("status", cls=Verb)(jobs.status)
app.command("logs", cls=Verb)(jobs.logs)
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
