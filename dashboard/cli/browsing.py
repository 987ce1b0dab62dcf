"""`browse`: what a server has, as the draft of a plant file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dashboard.cli.door import console, refuse, tell
from dashboard.cli.options import ForceOption, JsonOption, above_zero, check_output, settings_of
from twin.errors import UsageError
from twin.plant import Security, is_opcua_address
from twin.plant.node_text import is_plain, node_parts

if TYPE_CHECKING:
    from connectors.opcua.browse import Browsed

_SHOWN = 20


def browse(
    endpoint: Annotated[str, typer.Argument(help="The server, as opc.tcp://HOST:PORT/PATH.")],
    under: Annotated[
        str,
        typer.Option(help="Begin at this node, as nsu=URI;s=NAME, or i=NUMBER of OPC UA's own."),
    ] = "",
    match: Annotated[
        str, typer.Option(help="Only paths like this, as '*boiler*'; case does not matter.")
    ] = "*",
    limit: Annotated[int | None, typer.Option(help="At most so many variables.")] = None,
    output: Annotated[Path | None, typer.Option(help="Draft a plant file here.")] = None,
    force: ForceOption = False,
    policy: Annotated[
        Literal["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss", "None"],
        typer.Option(help="Security policy; None for a server on this machine only."),
    ] = "Basic256Sha256",
    mode: Annotated[
        Literal["SignAndEncrypt", "Sign"], typer.Option(help="What the policy does.")
    ] = "SignAndEncrypt",
    login: Annotated[
        Literal["anonymous", "password", "certificate"],
        typer.Option(help="How we log in, with the secret of source `opcua`."),
    ] = "anonymous",
    as_json: JsonOption = False,
) -> None:
    """List a server's variables, and draft a plant file of them.

    Units and ranges come along where the server has them; what holds no number is left out, with
    the reason.
    """
    from connectors.draft import draft
    from connectors.whole_file import whole_or_not
    from twin.clock import wall_now

    above_zero(limit=limit)
    if not is_opcua_address(endpoint):
        raise UsageError(f"{endpoint} is no OPC UA address. Write it as opc.tcp://HOST:PORT/PATH.")
    _check_start(under)
    if output is not None:
        check_output(output, force)
    security = Security(policy, mode, login)
    found = _found(endpoint, security, under, match, limit)
    usable = [each for each in found.variables if not each.left_out]
    if output is not None and usable:
        with whole_or_not(output) as part:
            part.write_text(draft(found, endpoint, security, wall_now()), encoding="utf-8")
    record = {
        "endpoint": endpoint,
        "server": found.server,
        "nodes": found.nodes,
        "cut_short": found.cut_short,
        "variables": [asdict(each) for each in found.variables],
        "output": str(output) if output is not None and usable else None,
    }
    if output is not None and not usable:
        refuse(as_json, record, f"{output} is not written. {_told(found, None)}")
    tell(as_json, record, _told(found, output))


def _check_start(under: str) -> None:
    """Refuse a --under that names no node, before anything is asked for."""
    if not under:
        return
    try:
        node_parts(under)
        if is_plain(under):
            raise ValueError("it says no namespace")
    except ValueError as wrong:
        remedy = "Write it as nsu=URI;s=NAME, or i=NUMBER for a node of OPC UA's own."
        raise UsageError(f"--under {under}: {wrong}. {remedy}") from None


def _found(endpoint: str, security: Security, under: str, match: str, limit: int | None) -> Browsed:
    from connectors.opcua.browse import browse as walk
    from connectors.security import COLLECT
    from twin.clock import wall_now

    pattern = match.casefold()
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        return asyncio.run(
            walk(
                endpoint,
                security=security,
                access=settings_of().access(COLLECT),
                wall_now=wall_now,
                under=under,
                most_variables=limit,
                wanted=lambda path: fnmatchcase("/".join(path).casefold(), pattern),
                on_progress=_meter(bar),
            )
        )


def _meter(bar: Progress) -> Callable[[int, int], None]:
    task, began_s = bar.add_task("Browsing", total=None), time.monotonic()

    def show(nodes: int, variables: int) -> None:
        per_s = nodes / max(time.monotonic() - began_s, 1e-3)
        told = f"{nodes} nodes, {variables} variables, {per_s:.0f} nodes/s"
        bar.update(task, description=told)

    return show


def _told(found: Browsed, output: Path | None) -> str:
    usable = [each for each in found.variables if not each.left_out]
    lines = [" / ".join(each.path) + f"  {each.unit}".rstrip() for each in usable[:_SHOWN]]
    if len(usable) > _SHOWN:
        lines.append(f"... and {len(usable) - _SHOWN} more.")
    left_out = len(found.variables) - len(usable)
    cut_short = f" {found.cut_short[0].upper()}{found.cut_short[1:]}." if found.cut_short else ""
    lines.append(
        f"{found.nodes} nodes, {len(usable)} variables that can be tags, {left_out} that cannot."
        + cut_short
    )
    if output is not None:
        lines.append(f"Drafted {output}. Read its first lines, then: plantwright check {output}")
    elif usable:
        lines.append("Add --output plant.yaml for the draft of a plant file.")
    else:
        lines.append("Nothing here can be a tag. Try --under or another --match.")
    return "\n".join(lines)
