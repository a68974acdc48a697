"""`foreman config`: what is set, to what, and by whom."""

import msgspec
import typer

from foreman import config
from foreman.cli.terminal import Cell, Table, render
from foreman.reference import descriptions


def show(key: str | None, *, as_json: bool) -> None:
    """All settings, or one with its meaning. Raises ConfigError, and BadParameter for a bad key."""
    origins = config.load().sources()
    chosen = [_full_name(key, origins)] if key else list(origins)
    if as_json:
        texts = descriptions()
        document = {
            name: {
                "value": origins[name].shown,
                "from": origins[name].where,
                "meaning": texts[name.removeprefix(config.PREFIX).lower()],
            }
            for name in chosen
        }
        typer.echo(msgspec.json.format(msgspec.json.encode(document)))
        return
    rows = [_row(name, origins[name]) for name in chosen]
    render(Table(("SETTING", "VALUE", "FROM"), rows))
    if key:
        typer.echo("\n" + descriptions()[chosen[0].removeprefix(config.PREFIX).lower()])


def _row(name: str, origin: config.Origin) -> tuple[Cell, Cell, Cell]:
    default = origin.where == "default"
    return (
        Cell(name, "" if default else "bold"),
        Cell(origin.shown, "" if default else "bold green"),
        Cell(origin.where, "dim" if default else ""),
    )


def _full_name(key: str, known: dict[str, config.Origin]) -> str:
    name = config.PREFIX + key.upper().removeprefix(config.PREFIX)
    if name not in known:
        raise typer.BadParameter(config.unknown(name, "argument"))
    return name
