"""`siamtune data`: the sources of faces: where they lie, and what is wrong with them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from siamtune.cli import complete, options
from siamtune.cli.help import Verb, Verbs
from siamtune.errors import DataError

if TYPE_CHECKING:
    from siamtune.data.check import Findings

LEAKS_SHOWN = 3

app = typer.Typer(
    cls=Verbs,
    help="List, check and download sources of faces: siamtune data check lfw",
    no_args_is_help=True,
)


@app.command("list", cls=Verb)
def list_sources(
    data_home: options.DataHome = None,
    as_json: options.Json = False,
    verbose: options.Tracebacks = False,
) -> None:
    """List the sources that have a name, and where they were found: siamtune data list"""
    from siamtune.data.sources import SOURCES

    rows = [_row(name, data_home) for name in SOURCES]
    if as_json:
        print(json.dumps({"schema": "siamtune.data.list/1", "sources": rows}, indent=2))
        return
    for row in rows:
        print(_line(row))


@app.command("fetch", cls=Verb)
def fetch_source(
    name: Annotated[str, typer.Argument(help="lfw or olivetti", autocompletion=complete.sources)],
    data_home: options.DataHome = None,
    as_json: options.Json = False,
    verbose: options.Tracebacks = False,
) -> None:
    """Download a source unless it is there: siamtune data fetch lfw"""
    from siamtune.data.sources import fetch

    fetch(name, data_home)
    row = _row(name, data_home)
    if as_json:
        print(json.dumps({"schema": "siamtune.data.fetch/1", **row}, indent=2))
        return
    print(_line(row))


@app.command("check", cls=Verb)
def check_source(
    name: Annotated[
        str,
        typer.Argument(
            help="demo, lfw, olivetti or a FOLDER of person/*.jpg", autocompletion=complete.sources
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option(
            help="Whose splits: identity-holdout, all-pairs, lfw-view1, lfw-view2, olivetti-8fold."
        ),
    ] = "identity-holdout",
    split_seed: options.SplitSeed = 0,
    data_home: options.DataHome = None,
    as_json: options.Json = False,
    verbose: options.Tracebacks = False,
) -> None:
    """Look for what spoils a measurement: siamtune data check lfw

    Pictures that are there twice, damaged files, too few people. Exit code 3 when nearly the same
    picture lies on both sides of a split.
    """
    from dataclasses import asdict

    from siamtune.data.check import check
    from siamtune.data.decode import decode
    from siamtune.data.sources import open_source
    from siamtune.report.progress import progress_bar
    from siamtune.verification.protocols import collection, protocol_folds

    source = open_source(name, data_home)
    with progress_bar() as progress:
        pictures = decode(source, progress=progress)
        people = collection(source, pictures)
        folds = protocol_folds(protocol, people, seed=split_seed, data_home=data_home)
        splits = [fold.split for fold in folds]
        findings = check(source, pictures, splits, progress)
    leaks = findings.leaks
    if as_json:
        document = {
            "schema": "siamtune.data.check/1",
            "data": source.name,
            "protocol": protocol,
            "splits": [split.digest for split in splits],
            "leaks": len(leaks),
            **asdict(findings),
        }
        print(json.dumps(document, indent=2))
    else:
        digests = ", ".join(split.digest for split in splits)
        print(f"{source.name}: {findings.people:,} people, {findings.pictures:,} pictures")
        print(f"{protocol}, split {digests}: nobody is in two parts")
        _print_findings(findings)
    if leaks:
        shown = "; ".join(f"{pair.first} = {pair.second}" for pair in leaks[:LEAKS_SHOWN])
        more = f"; and {len(leaks) - LEAKS_SHOWN} more" if len(leaks) > LEAKS_SHOWN else ""
        raise DataError(
            f"nearly equal pictures must not lie on both sides of a split ({protocol}), but got "
            f"{len(leaks)}: {shown}{more}; remove one of each, or file both under one person"
        )


def _print_findings(findings: "Findings") -> None:
    """One line a finding, in the order of weight."""
    from siamtune.report.table import one_line

    for pair in findings.duplicates:
        if not pair.one_person:
            kind = "leak" if pair.leak else "warning"
            print(one_line(f"{kind}: two people, one picture: {pair.first} = {pair.second}"))
    own = [pair for pair in findings.duplicates if pair.one_person]
    if own:
        example = f"{own[0].first} = {own[0].second}"
        print(one_line(f"warning: {len(own)} positive pairs are one picture twice: {example}"))
    for picture in findings.unreadable:
        print(one_line(f"warning: cannot be read: {picture}"))
    if findings.single:
        print(f"note: {findings.single:,} people have one picture and make no positive pair")
    if findings.ignored:
        print(f"note: {findings.ignored:,} files or folders are no picture of a person")


def _row(name: str, data_home: Path | None) -> dict[str, Any]:
    from siamtune.data.sources import open_source

    try:
        source = open_source(name, data_home)
    except DataError as error:
        return {"name": name, "found": False, "fault": str(error)}
    return {
        "name": name,
        "found": True,
        "people": len(source.names),
        "pictures": len(source.pictures),
        "folder": str(source.folder) if source.folder else None,
    }


def _line(row: dict[str, Any]) -> str:
    if not row["found"]:
        return str(row["fault"])
    where = row["folder"] or "rendered by siamtune"
    return f"{row['name']:9} {row['people']:5,} people  {row['pictures']:6,} pictures  {where}"
