"""The furnace as a drawing and its slabs as a list: HTML from what `dashboard.view.furnace` found.

Grey; a colour is only ever something abnormal. The drawing is inline SVG, which Streamlit keeps in
`st.markdown` alone. Texts are escaped here as in `dashboard.markup`.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from dashboard import markup
from dashboard.markup import Cell, plain
from dashboard.view import text
from dashboard.view.furnace import FurnaceShown, ZoneShown
from dashboard.view.slabs import SlabPlace, slab_cells
from dashboard.view.tags import Level, Word
from twin.plant import Plant

# Pixels of the drawing; the screen scales it.
_WIDE, _HIGH = 1440.0, 362.0
_YARD, _BEAM, _MILL = (8.0, 262.0), (290.0, 1222.0), (1246.0, 1432.0)
_ROOF, _FLOOR = 112.0, 300.0
_TALLEST_PX, _TALLEST_MM = 150.0, 300.0
_NUMBER_FROM_PX = 28.0  # narrower places carry no number; it shows on hover

_INK, _MUTED, _LINE, _STEEL = "#1d2429", "#444c52", "#8b9298", "#dfe1e3"
_COLOURS = {Level.ATTENTION: "#d98a00", Level.ALARM: "#b3261e"}
_COLDEST, _HOTTEST = (20.0, 0x60), (1250.0, 0xFF)  # °C and how light the grey is

_HEADS = (
    ("Slab", "n"), ("Place", ""), ("Thickness", "n"), ("Charged at", "n"), ("Grade", "n"),
    ("Leaves at", "n"), ("Discharge, predicted", "n"), ("Face less core", "n"),
    ("In spec", "n"), ("Status", ""),
)  # fmt: skip


def drawing(seen: FurnaceShown) -> str:
    """Yard, furnace with its zones and slabs, and mill."""
    inside = [each for each in seen.slabs if each.is_inside]
    yard = [each for each in seen.slabs if not each.is_inside]
    parts = [
        *_frame(),
        *(part for zone in seen.zones for part in _zone(zone)),
        *_slabs(inside, _BEAM, is_first_right=False),
        *_slabs(yard, _YARD, is_first_right=True),
        *_mill(seen.mill, seen.interlock),
    ]
    words = f"Furnace. Mill {seen.mill.text}. Discharge door {seen.interlock.text}."
    return (
        f'<div class="pw-scroll"><svg viewBox="0 0 {_WIDE:g} {_HIGH:g}" role="img" '
        f'aria-label="{_written(words)}" style="width:100%;min-width:960px;display:block;'
        'background:#ebeced;font-family:inherit;font-variant-numeric:tabular-nums">'
        f"{''.join(parts)}</svg></div>"
    )


def slab_table(plant: Plant, slabs: Iterable[SlabPlace]) -> str:
    """The list: those inside in the order in which they leave, then the yard."""
    known = list(slabs)
    rows: list[list[Cell] | str] = []
    for title, is_inside in (("Inside, next to leave first", True), ("Yard, next in first", False)):
        group = [_cells(plant, each) for each in known if each.is_inside is is_inside]
        rows += [title, *group] if group else []
    return markup.table([plain(head, kind) for head, kind in _HEADS], rows, "Slabs")


def grey(celsius: float | None) -> str:
    """Dark where cold, light where hot; none where nobody says."""
    if celsius is None:
        return "none"
    (cold_c, dark), (hot_c, light) = _COLDEST, _HOTTEST
    share = min(1.0, max(0.0, (celsius - cold_c) / (hot_c - cold_c)))
    level = round(dark + share * (light - dark))
    return f"#{level:02x}{level:02x}{level:02x}"


def _cells(plant: Plant, each: SlabPlace) -> list[Cell]:
    said = slab_cells(plant, each)
    cells = [plain(word, kind) for word, (_, kind) in zip(said, _HEADS[:-1], strict=True)]
    # Calm words tell their reason on hover alone: a dozen sentences would hide the one that counts.
    is_odd = each.word.level is not Level.CALM
    why = f" {_written(each.word.reason)}" if is_odd and each.word.reason else ""
    return [*cells, Cell(markup.words([each.word]) + why)]


def _frame() -> list[str]:
    left, right = _BEAM
    y_lines = f"M{_YARD[0]:g} {_FLOOR:g}H{_YARD[1]:g}M{_MILL[0]:g} {_FLOOR:g}H{_MILL[1]:g}"
    return [
        f'<rect x="{left - 4:g}" y="{_ROOF:g}" width="{right - left + 8:g}" '
        f'height="{_FLOOR - _ROOF + 4:g}" fill="{_STEEL}" stroke="{_LINE}" stroke-width="2"/>',
        f'<path d="{y_lines}" stroke="{_LINE}" stroke-width="2"/>',
        _text((_YARD[0] + _YARD[1]) / 2, _FLOOR + 36, "Yard, next slab on the right", 13, _MUTED),
        _text(
            (left + right) / 2,
            _FLOOR + 46,
            "Height: thickness. Grey: how hot a slab was when the outlook was made, dark is cold; "
            "dashed: not known. Coloured outline: see the list.",
            13,
            _MUTED,
        ),
    ]


def _zone(zone: ZoneShown) -> list[str]:
    left, right = (_BEAM[0] + share * (_BEAM[1] - _BEAM[0]) for share in (zone.begins, zone.ends))
    middle = (left + right) / 2
    odd = "" if zone.word.level is Level.CALM else _COLOURS[zone.word.level]
    heading = ", ".join(filter(None, (zone.name, zone.word.text if odd else zone.mode)))
    parts = [
        f'<rect x="{left + 2:g}" y="4" width="{right - left - 4:g}" height="{_ROOF - 10:g}" '
        f'fill="#f4f5f5" stroke="{odd or _LINE}" stroke-width="{4 if odd else 1}"/>',
        _text(middle, 24, heading, 13, odd or _MUTED, is_bold=bool(odd)),
        _text(middle, 50, zone.temperature, 21, _INK, is_bold=True),
        _text(middle, 72, f"setpoint {zone.setpoint}", 14, _INK),
        _text(middle, 92, f"fuel {zone.fuel}", 14, _INK),
    ]
    if zone.ends < 1.0:
        dash = f'stroke="{_LINE}" stroke-dasharray="3 5"'
        parts.append(f'<path d="M{right:g} {_ROOF:g}V{_FLOOR:g}" {dash}/>')
    return [f"<g><title>{_written(zone.word.reason or zone.name)}</title>{''.join(parts)}</g>"]


def _slabs(slabs: list[SlabPlace], span: tuple[float, float], *, is_first_right: bool) -> list[str]:
    """Slabs by their place, place 1 at the left, or at the right in the yard."""
    if not slabs:
        return []
    count = max(each.place for each in slabs)
    wide = (span[1] - span[0]) / max(count, 8)
    parts = []
    for each in slabs:
        steps = each.place if is_first_right else count - each.place + 1
        parts.append(_slab(each, span[1] - steps * wide, wide))
    return parts


def _slab(each: SlabPlace, left: float, wide: float) -> str:
    is_odd = each.word.level is not Level.CALM
    stroke = _COLOURS[each.word.level] if is_odd else _LINE
    high = _TALLEST_PX * min(1.2, (each.thickness_mm or 200.0) / _TALLEST_MM)
    dash = ' stroke-dasharray="4 3"' if each.now_c is None else ""
    body = (
        f'<rect x="{left + 2.5:.1f}" y="{_FLOOR - high:.1f}" width="{wide - 5:.1f}" '
        f'height="{high:.1f}" fill="{grey(each.now_c)}" stroke="{stroke}" '
        f'stroke-width="{3.5 if is_odd else 1}"{dash}/>'
    )
    if wide >= _NUMBER_FROM_PX:
        number = str(each.number) if each.number else "?"
        body += _text(left + wide / 2, _FLOOR + 20, number, 12, _INK, is_bold=is_odd)
    return f"<g><title>{_written(_told(each))}</title>{body}</g>"


def _told(each: SlabPlace) -> str:
    """What a slab says on hover."""
    said = [f"{each.where}: slab {each.number or '?'}"]
    if each.thickness_mm is not None:
        said.append(f"{each.thickness_mm:.0f} mm")
    if each.now_c is not None:
        said.append(f"{each.now_c:.0f} °C")
    if each.outlook is not None:
        said.append(f"leaves at {each.outlook.mean_c:.0f} °C")
    if each.word.level is not Level.CALM:
        said.append(f"{each.word.text} {each.word.reason}")
    return ", ".join(said)


def _mill(mill: Word, interlock: Word) -> list[str]:
    left, right = _MILL
    middle, rolls = (left + right) / 2, (205.0, 265.0)
    parts = [
        f'<circle cx="{middle:g}" cy="{y:g}" r="28" fill="{_STEEL}" stroke="{_LINE}" '
        'stroke-width="2"/>'
        for y in rolls
    ]
    parts.append(_text(middle, 24, "Mill", 13, _MUTED))
    first, _, rest = mill.text.partition(", ")
    for y, said in ((50.0, first), (72.0, rest)):
        colour = _INK if mill.level is Level.CALM else _COLOURS[mill.level]
        parts.append(_text(middle, y, said, 16, colour, is_bold=True) if said else "")
    if interlock.level is not Level.CALM:
        x, colour = _BEAM[1] + 4, _COLOURS[interlock.level]
        parts.append(
            f'<path d="M{x:g} {_ROOF:g}V{_FLOOR + 4:g}" stroke="{colour}" stroke-width="7"/>'
        )
        parts.append(_text(middle, _ROOF + 14, "door " + interlock.text, 13, colour, is_bold=True))
    return parts


def _text(
    x: float,
    y: float,
    said: str,
    size: int,
    colour: str,
    *,
    is_bold: bool = False,
) -> str:
    weight = ' font-weight="600"' if is_bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" '
        f'text-anchor="middle"{weight}>{_written(said)}</text>'
    )


def _written(said: str) -> str:
    return escape(text.on_paper(said))
