"""`siamtune spaces`: look at spaces and check them, without torch, ray or optuna."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamtune.cli import complete, options
from siamtune.cli.help import Verb, Verbs
from siamtune.errors import SpaceError

if TYPE_CHECKING:
    from siamtune.search.space import Space

# How many combinations `check` draws to tell how many of them can be built.
DRAWS = 200

SpaceName = Annotated[
    str,
    typer.Argument(
        help="A space file, or the name of a shipped space.", autocompletion=complete.spaces
    ),
]

app = typer.Typer(
    cls=Verbs,
    help="Look at spaces and check them: siamtune spaces show full",
    no_args_is_help=True,
)


@app.command("list", cls=Verb)
def list_spaces(as_json: options.Json = False, verbose: options.Tracebacks = False) -> None:
    """List the spaces that come with siamtune: siamtune spaces list"""
    from siamtune.search.shipped import about, shipped_spaces
    from siamtune.search.space import load_space

    rows = [
        {
            "name": name,
            "about": about(path),
            "dials": len(space.dimensions),
            "trials": space.study.trials,
            "epochs": _epochs(space),
            "path": str(path),
        }
        for name, path in shipped_spaces().items()
        for space in [load_space(str(path))]
    ]
    if as_json:
        print(json.dumps({"schema": "siamtune.spaces.list/1", "spaces": rows}, indent=2))
        return
    columns = ("name", "dials", "trials", "epochs", "about")
    options.print_columns([columns, *([str(row[column]) for column in columns] for row in rows)])


@app.command("show", cls=Verb)
def show(
    space: SpaceName,
    epochs: options.Epochs = None,
    set_: options.Set = None,
    as_json: options.Json = False,
    verbose: options.Tracebacks = False,
) -> None:
    """Show what a space tries: siamtune spaces show full --set loss.name=arcface"""
    from siamtune.search.dimensions import described
    from siamtune.search.space import load_space

    loaded = load_space(space, overrides=options.parse_overrides(set_, epochs))
    if as_json:
        print(json.dumps(_document(loaded), indent=2))
        return
    study, scheduler = loaded.study, loaded.study.scheduler
    stops = {
        "asha": f"asha from epoch {scheduler.min_epochs} on, eta {scheduler.eta}",
        "median": f"median from epoch {scheduler.min_epochs} on",
        "none": "none",
    }[scheduler.name]
    options.print_columns(
        [
            ("space", str(loaded.path)),
            ("objective", " and ".join(f"{o.metric} ({o.mode})" for o in loaded.objective.each)),
            ("study", f"{study.trials} trials of {_epochs(loaded)} epochs, seed {study.seed}"),
            ("scheduler", stops),
            ("sampler", study.sampler),
            ("combinations", _combinations(loaded)),
        ]
    )
    print()
    if loaded.fixed:
        options.print_columns([("fixed", "to"), *((n, _plain(v)) for n, v in loaded.fixed.items())])
        print()
    for number, point in enumerate(loaded.start):
        named = ", ".join(f"{name} {_plain(value)}" for name, value in point.items())
        print(f"start {number}: {named or 'the defaults'}")
    print()
    rows = [("dial", "tried", "when")]
    for dimension in loaded.dimensions:
        conditions = (
            f"{name} is {' or '.join(map(_plain, allowed))}"
            for name, allowed in dimension.when.items()
        )
        rows.append((dimension.name, described(dimension), " and ".join(conditions)))
    options.print_columns(rows)


@app.command("check", cls=Verb)
def check(
    spaces: Annotated[
        list[str],
        typer.Argument(
            help="Space files, or names of shipped spaces.", autocompletion=complete.spaces
        ),
    ],
    as_json: options.Json = False,
    verbose: options.Tracebacks = False,
) -> None:
    """Tell every fault of space files at once: siamtune spaces check mine.yaml

    Exit code 3 if there is one.
    """
    from siamtune.search.shipped import find_space
    from siamtune.search.space import buildable, faults_message, read_space

    messages: list[str] = []
    documents: list[dict[str, Any]] = []
    for name in spaces:
        try:
            path = find_space(name)
        except SpaceError as error:  # the others' faults are told as well
            messages.append(str(error))
            documents.append({"path": name, "faults": [{"line": 0, "message": str(error)}]})
            continue
        space, faults = read_space(path)
        document: dict[str, Any] = {"path": str(path), "faults": [vars(fault) for fault in faults]}
        if space is None:
            messages.append(faults_message(path, faults))
        else:
            found = buildable(space, DRAWS)
            share = found.built / found.tried
            document |= {"dials": len(space.dimensions), "buildable": share}
            if not as_json:
                reason = next(iter(found.reasons), "")
                told = f"{share:.0%} can be built" + (f" (not: {reason})" if reason else "")
                dials = len(space.dimensions)
                print(
                    f"{path}: no faults; {dials} dial{'s' * (dials != 1)}, "
                    f"{_combinations(space)} combinations, {told}"
                )
        documents.append(document)
    if as_json:
        print(json.dumps({"schema": "siamtune.spaces.check/1", "spaces": documents}, indent=2))
        if messages:
            raise typer.Exit(SpaceError.exit_code)
    elif messages:
        raise SpaceError("\n".join(messages))


@app.command("schema", cls=Verb)
def schema(verbose: options.Tracebacks = False) -> None:
    """Print the format as JSON Schema, for editors: siamtune spaces schema"""
    from siamtune.search.schema import space_schema

    print(json.dumps(space_schema(), indent=2))


def _document(space: "Space") -> dict[str, Any]:
    from siamtune.search.dimensions import spec
    from siamtune.search.settings import objective_spec

    return {
        "schema": "siamtune.space/1",
        "path": str(space.path),
        "objective": objective_spec(space.objective),
        "study": {**vars(space.study), "scheduler": vars(space.study.scheduler)},
        "fixed": dict(space.fixed),
        "start": [dict(point) for point in space.start],
        "space": {dimension.name: spec(dimension) for dimension in space.dimensions},
        "combinations": space.combinations,
    }


def _epochs(space: "Space") -> int:
    from siamtune.config import DEFAULTS

    return int(space.fixed.get("epochs", DEFAULTS["epochs"]))


def _combinations(space: "Space") -> str:
    return "countless" if space.combinations is None else f"{space.combinations:,}"


def _plain(value: Any) -> str:
    from siamtune.search.located import shown

    return value if isinstance(value, str) else shown(value)
