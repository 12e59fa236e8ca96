"""`siamtune data`: the sources of faces that are known, and where they lie."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from siamtune.cli import options
from siamtune.errors import DataError

app = typer.Typer(help="List and download sources of faces.", no_args_is_help=True)


@app.command("list")
def list_sources(data_home: options.DataHome = None, as_json: options.Json = False) -> None:
    """List the sources that have a name, and where they were found."""
    from siamtune.data.sources import SOURCES

    rows = [_row(name, data_home) for name in SOURCES]
    if as_json:
        print(json.dumps({"schema": "siamtune.data.list/1", "sources": rows}, indent=2))
        return
    for row in rows:
        print(_line(row))


@app.command("fetch")
def fetch_source(
    name: Annotated[str, typer.Argument(help="lfw or olivetti")],
    data_home: options.DataHome = None,
    as_json: options.Json = False,
) -> None:
    """Download a source unless it is there: siamtune data fetch lfw"""
    from siamtune.data.sources import fetch

    fetch(name, data_home)
    row = _row(name, data_home)
    if as_json:
        print(json.dumps({"schema": "siamtune.data.fetch/1", **row}, indent=2))
        return
    print(_line(row))


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
