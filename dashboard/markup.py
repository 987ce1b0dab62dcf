"""The page's own HTML: tables, words, notes. Every text is escaped here and nowhere else.

Units are raised here too, so no sentence shows "cm**3/s", wherever it comes from. Only text goes
in and only text comes out; what it says is worked out in `dashboard.view`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from dashboard.view import text
from dashboard.view.advice import MoveRow, PastRow
from dashboard.view.data import ComingRow, GapRow, SourceRow
from dashboard.view.headline import Item, ProcessRow
from dashboard.view.tags import Level, TagRow, Word
from twin.plant import Role

_GROUPS = {
    Role.MV: "Manipulated (MV): what is moved",
    Role.CV: "Controlled (CV): what is kept inside limits",
    Role.DV: "Disturbances (DV): measured, not ours to move",
    Role.AUX: "Other signals",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One table cell. `kind` is a CSS class: n for numbers, head for a row's name."""

    html: str
    kind: str = ""


def plain(said: str, kind: str = "") -> Cell:
    """A cell of plain text."""
    return Cell(_written(said), kind)


def words(shown: Iterable[Word]) -> str:
    """Status words; only abnormal ones are coloured, and each tells its reason on hover."""
    return "".join(
        f'<span class="pw-word{_level(word.level)}" title="{_written(word.reason)}">'
        f"{_written(word.text)}</span>"
        for word in shown
    )


def note(title: str, message: str = "", level: Level = Level.CALM) -> str:
    """A framed message."""
    kind = "" if level is Level.CALM else f" is-{level.value}"
    role = "status" if level is Level.CALM else "alert"
    inner = f"<b>{_written(title)}</b>{_written(message)}"
    return f'<div class="pw pw-note{kind}" role="{role}">{inner}</div>'


def live(inner: str, tick: int) -> str:
    """What disappears when the server stops refreshing it; see the watchdog in style.css."""
    return f'<div class="pw pw-live is-{tick % 2}" data-tick="{tick}">{inner}</div>'


def headline(title: str, clock: str, zone: str, items: Iterable[Item], tick: int) -> str:
    """The line above every page, and the warning that shows when it goes stale."""
    facts = "".join(
        f"<div><span>{_written(item.label)}</span>{words([item.word])}</div>" for item in items
    )
    lost = (
        f'<div class="pw-lost is-{tick % 2}">No contact with the server: values are hidden.</div>'
    )
    top = (
        f'<div class="pw-top"><strong>{_written(title)}</strong>'
        f'<span><span class="pw-clock">{_written(clock)}</span> '
        f'<span class="pw-zone">plant time, {_written(zone)}</span></span></div>'
    )
    return f'<div class="pw">{lost}</div>' + live(f'{top}<div class="pw-items">{facts}</div>', tick)


def facts(shown: Iterable[tuple[str, Word, str]]) -> str:
    """A row of label, word and small print."""
    return (
        '<div class="pw-facts">'
        + "".join(
            f'<div class="pw-fact"><span>{_written(label)}</span><b>{words([word])}</b>'
            f"<small>{_written(small)}</small></div>"
            for label, word, small in shown
        )
        + "</div>"
    )


def table(heads: Sequence[Cell], rows: Iterable[Sequence[Cell] | str], caption: str) -> str:
    """A table; a plain text among the rows is a group's heading. Becomes cards on a phone."""
    top = "".join(f'<th scope="col" class="{head.kind}">{head.html}</th>' for head in heads)
    body = []
    for row in rows:
        if isinstance(row, str):
            span = len(heads)
            body.append(f'<tr class="pw-group"><th colspan="{span}">{_written(row)}</th></tr>')
            continue
        cells = "".join(
            f'<td class="{cell.kind}" data-label="{head.html}">{cell.html}</td>'
            for head, cell in zip(heads, row, strict=True)
        )
        body.append(f"<tr>{cells}</tr>")
    return (
        f'<div class="pw-scroll"><table class="pw-table pw-cards" aria-label="{_written(caption)}">'
        f"<thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def tag_table(rows: Iterable[TagRow], roles: Sequence[Role]) -> str:
    """The overview's table, grouped by role."""
    heads = [
        plain("Tag"),
        plain("PV", "n"),
        plain("Setpoint", "n"),
        plain("Operator limits", "n"),
        plain("Engineering limits", "n"),
        plain("Next move", "n"),
        plain("Target", "n"),
        plain("Status"),
        plain("Age", "n"),
    ]
    known = list(rows)
    body: list[Sequence[Cell] | str] = []
    for role in roles:
        group = [_tag_cells(row) for row in known if row.role is role]
        body += [_GROUPS[role], *group] if group else []
    return table(heads, body, "Tags")


def move_table(rows: Iterable[MoveRow]) -> str:
    """A proposal's setpoints."""
    heads = [plain("MV"), plain("Now", "n"), plain("Proposed", "n"), plain("Change", "n")]
    cells = [
        [
            _named(row.name, row.description),
            _valued(row.current, row.unit, small=row.when_made),
            _valued(row.proposed, row.unit, " big"),
            plain(row.change, "n"),
        ]
        for row in rows
    ]
    return table(heads, cells, "Proposed setpoints")


def past_table(rows: Iterable[PastRow]) -> str:
    """The proposals' history."""
    heads = [
        plain("Time"),
        plain("Moves"),
        plain("Saves against holding", "n"),
        plain("Status"),
        plain("By"),
        plain("Reason given"),
        plain("How it ended"),
    ]
    cells = [
        [
            plain(row.created, "n"),
            plain(row.moves),
            plain(row.benefit, "n"),
            Cell(words(row.words)),
            plain(row.by),
            plain(row.reason),
            plain(row.ended),
        ]
        for row in rows
    ]
    return table(heads, cells, "Earlier proposals")


def process_table(rows: Iterable[ProcessRow]) -> str:
    """Which processes live."""
    heads = [plain("Process"), plain("Status"), plain("Last sign", "n"), plain("Says")]
    cells = [
        [
            plain(row.name, "head"),
            Cell(words([row.word])),
            plain(f"{row.age} ago", "n"),
            plain(row.detail),
        ]
        for row in rows
    ]
    return table(heads, cells, "Processes")


def source_table(rows: Iterable[SourceRow]) -> str:
    """Where readings come from, and how."""
    heads = [
        plain("Source"),
        plain("State"),
        plain("Security"),
        plain("Last publish", "n"),
        plain("Last reading", "n"),
        plain("Readings", "n"),
        plain("Open gaps", "n"),
        plain("Reconnects", "n"),
    ]
    cells = [
        [
            _named(row.name, row.address),
            Cell(f"{words([row.state])}<small>{_written(row.under)}</small>"),
            Cell(words([row.security])),
            plain(row.publish, "n"),
            plain(row.reading, "n"),
            plain(row.rate, "n"),
            plain(row.gaps, "n"),
            plain(row.reconnects, "n"),
        ]
        for row in rows
    ]
    return table(heads, cells, "Sources")


def gap_table(rows: Iterable[GapRow]) -> str:
    """Stretches without readings."""
    heads = [
        plain("Gap begins"),
        plain("Ends"),
        plain("Lasts", "n"),
        plain("Of"),
        plain("State"),
        plain("Reason"),
    ]
    cells = [
        [
            plain(row.begins),
            plain(row.ends),
            plain(row.lasts, "n"),
            plain(row.about),
            Cell(words([row.state])),
            plain(row.reason),
        ]
        for row in rows
    ]
    return table(heads, cells, "Gaps")


def coming_table(rows: Iterable[ComingRow], title: str) -> str:
    """Tags whose readings do not come as they should."""
    heads = [plain(title), plain("Status"), plain("Newest reading"), plain("Is used while", "n")]
    cells = [
        [
            _named(row.name, row.description),
            Cell(words(row.words)),
            plain(row.came),
            plain(row.limit, "n"),
        ]
        for row in rows
    ]
    return table(heads, cells, title)


def text_table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str) -> str:
    """A table of plain texts."""
    cells = [[plain(said) for said in row] for row in rows]
    return table([plain(head) for head in heads], cells, caption)


def _tag_cells(row: TagRow) -> list[Cell]:
    return [
        _named(row.name, row.description),
        _valued(row.value, row.unit, " big"),
        plain(row.setpoint, "n"),
        plain(row.operator, "n"),
        plain(row.engineering, "n"),
        plain(row.next_move, "n"),
        plain(row.target, "n"),
        Cell(words(row.words)),
        _valued(row.age, "", small=row.came),
    ]


def _named(name: str, description: str) -> Cell:
    return Cell(f"<b>{_written(name)}</b><small>{_written(description)}</small>", "head")


def _valued(value: str, unit: str, kind: str = "", small: str = "") -> Cell:
    below = f"<small>{_written(small)}</small>" if small else ""
    return Cell(
        f'{_written(value)} <span class="pw-unit">{_written(unit)}</span>{below}', f"n{kind}"
    )


def _written(said: str) -> str:
    return escape(text.on_paper(said))


def _level(level: Level) -> str:
    return "" if level is Level.CALM else f" pw-{level.value}"
