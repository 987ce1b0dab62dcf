"""The `plantwright` command: every command's door, none of its work.

A command reads its options, calls one function of another room and tells what came of it: text
for people, or one JSON object on stdout with `--json` (progress and logs go to stderr). Heavy
packages are imported inside the command that needs them. Exit code 0: done; 1: refused or failed,
with the reason; 2: called wrongly; 130: interrupted before it was done.
"""

from __future__ import annotations

from typing import NoReturn

import typer

from dashboard.cli import (
    annotating,
    browsing,
    certs,
    database,
    deciding,
    door,
    fence,
    models,
    operating,
    plant_file,
    quarantine,
    tables,
)

app = typer.Typer(
    name="plantwright",
    help="A world model of a plant that proposes safe setpoints.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
db_app = typer.Typer(help="Create the database, see what it holds.")
app.add_typer(db_app, name="db")
certs_app = typer.Typer(help="Show certificates, say which servers to trust.")
app.add_typer(certs_app, name="certs")
annotate_app = typer.Typer(help="Say what periods of the past were: bad data, tests and others.")
app.add_typer(annotate_app, name="annotate")

# In the order in which `--help` lists them.
for _command in (
    plant_file.check,
    plant_file.schema,
    browsing.browse,
    fence.emulate,
    fence.collect,
    quarantine.quarantine,
    tables.import_,
    tables.export,
    fence.write,
    models.train,
    deciding.propose,
    deciding.accept,
    deciding.reject,
    deciding.give_back,
    deciding.stage,
    operating.stop,
    operating.release,
    operating.status,
    operating.run,
    operating.dashboard,
    operating.demo,
    models.study,
):
    app.command(_command.__name__.rstrip("_").replace("_", "-"))(_command)
for _command in (database.upgrade, database.status):
    db_app.command(_command.__name__)(_command)
for _about_trust in (certs.list_, certs.own, certs.accept, certs.revoke):
    certs_app.command(_about_trust.__name__.rstrip("_"))(_about_trust)
annotate_app.command("add")(annotating.add)
annotate_app.command("list")(annotating.list_)
annotate_app.command("withdraw")(annotating.withdraw)


def main() -> NoReturn:
    """The command `plantwright`: runs what was typed and ends with its exit code."""
    door.run(app)
