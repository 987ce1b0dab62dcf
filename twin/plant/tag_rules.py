"""What the entries of one tag must be to each other and to the other tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from twin.errors import ExpressionError
from twin.expressions import units
from twin.plant.document import Finding, Place
from twin.plant.shape import Limits, Plant, Role, Tag, nearest

_MV_ONLY = (
    "rate_limit_per_min",
    "move_budget_per_h",
    "requires",
    "relief",
    "remote",
    "downstream",
    "windup",
)
_CV_ONLY = ("rank", "soft_price_per_h")


def tag_findings(plant: Plant, names: frozenset[str]) -> Iterator[Finding]:
    """Every broken rule among the tags; `names` are all tag names of the file."""
    yield from _repeated(plant)
    for position, tag in enumerate(plant.tags):
        at: Place = ("tags", position)
        yield from _unit(tag, at)
        yield from _limits(tag, at)
        yield from _role(tag, at)
        if tag.role is Role.MV:
            yield from _manipulated(tag, at)
        yield from _references(plant, tag, at, names)


def unknown(place: Place, name: str, names: Iterable[str]) -> Finding:
    """A name that no tag of the file has."""
    near = nearest(name, names).strip()
    return Finding(place, f"{name!r} is not a tag of this plant.", near or "Add it under `tags`.")


def _repeated(plant: Plant) -> Iterator[Finding]:
    for key in ("node", "column"):
        # Two sources may each have a node of one name.
        values = [(getattr(tag, key), key == "node" and tag.source) for tag in plant.tags]
        first_at: dict[object, int] = {}
        for position, value in enumerate(values):
            first = first_at.setdefault(value, position)
            if value[0] not in ("", None) and first < position:
                message = f"{value[0]!r} is already that of {plant.tags[first].name}."
                yield Finding(("tags", position, key), message, "Give every tag its own.")


def _unit(tag: Tag, at: Place) -> Iterator[Finding]:
    try:
        units.unit(tag.unit)
    except ExpressionError as fault:
        yield Finding((*at, "unit"), str(fault))


def _limits(tag: Tag, at: Place) -> Iterator[Finding]:
    for key in ("engineering", "operator"):
        limits: Limits | None = getattr(tag, key)
        if limits is None:
            continue
        if limits.low is None and limits.high is None:
            yield Finding((*at, key), "has neither low nor high.", "Give one or leave it out.")
        elif _are_crossed(limits):
            message = f"low {limits.low:g} is above high {limits.high:g} {tag.unit}".rstrip()
            yield Finding((*at, key), f"{message}.", "Swap or correct them.")
    yield from _operator_inside(tag, at)
    limits = tag.operator
    if limits is None or limits.low is None or limits.high is None or limits.low > limits.high:
        return
    room = limits.high - limits.low
    if tag.margin_low + tag.margin_high > 0 and tag.margin_low + tag.margin_high >= room:
        margins = f"{tag.margin_low:g} + {tag.margin_high:g}"
        message = f"the margins {margins} leave nothing of the operator limits' {room:g}."
        yield Finding((*at, "margin_low"), message, "Reduce margin_low or margin_high.")


def _are_crossed(limits: Limits) -> bool:
    return limits.low is not None and limits.high is not None and limits.low > limits.high


def _operator_inside(tag: Tag, at: Place) -> Iterator[Finding]:
    outer, inner = tag.engineering, tag.operator
    if outer is None or inner is None or _are_crossed(outer):
        return
    for side in ("low", "high"):
        value = getattr(inner, side)
        if value is not None and not outer.holds(value):
            is_below = outer.low is not None and value < outer.low
            crossed = outer.low if is_below else outer.high
            message = f"{value:g} is outside the engineering limit {crossed:g} {tag.unit}".rstrip()
            remedy = "Operator limits lie inside the engineering limits."
            yield Finding((*at, "operator", side), f"{message}.", remedy)


def _role(tag: Tag, at: Place) -> Iterator[Finding]:
    for role, keys in ((Role.MV, _MV_ONLY), (Role.CV, _CV_ONLY)):
        for key in keys:
            if tag.role is not role and getattr(tag, key) not in (None, ()):
                message = f"has no meaning for a tag with role {tag.role}."
                yield Finding((*at, key), message, f"Make the tag {role} or remove the key.")
    if tag.role is Role.CV and tag.operator is not None and tag.rank is None:
        message = "is missing: a CV with operator limits needs a rank."
        yield Finding((*at, "rank"), message, "Give 1 to what yields last, higher to the rest.")


def _manipulated(tag: Tag, at: Place) -> Iterator[Finding]:
    limits = tag.engineering
    if limits is None or limits.low is None or limits.high is None:
        message = "an MV needs engineering limits on both sides."
        yield Finding((*at, "engineering"), message, "Add engineering: {low: …, high: …}.")
    unit = tag.unit or "its unit"
    for key, what in (
        ("rate_limit_per_min", f"a rate limit in {unit} per minute"),
        ("move_budget_per_h", f"a move budget in {unit} per hour"),
    ):
        if getattr(tag, key) is None:
            yield Finding((*at, key), f"is missing: an MV needs {what}.", f"Add {key}.")
    if not tag.requires:
        message = "is missing: an MV names the tags without which it may not be moved."
        yield Finding((*at, "requires"), message, "Add requires: [its own name, its levels, …].")


def _references(plant: Plant, tag: Tag, at: Place, names: frozenset[str]) -> Iterator[Finding]:
    for position, name in enumerate(tag.requires):
        if name not in names:
            yield unknown((*at, "requires", position), name, names)
        elif name in tag.requires[:position]:
            yield Finding((*at, "requires", position), f"{name!r} is named twice.", "Keep one.")
    if tag.remote is not None:
        if tag.remote.tag not in names:
            yield unknown((*at, "remote", "tag"), tag.remote.tag, names)
        if tag.remote.auto == tag.remote.remote:
            message = f"auto and remote are both {tag.remote.auto}."
            yield Finding((*at, "remote"), message, "Give the two values the PLC uses.")
    roles = {other.name: other.role for other in plant.tags} if tag.relief else {}
    seen: dict[tuple[str, str], str] = {}
    for position, relief in enumerate(tag.relief):
        here: Place = (*at, "relief", position)
        if relief.cv not in names:
            yield unknown((*here, "cv"), relief.cv, names)
        elif roles.get(relief.cv, Role.CV) is not Role.CV:
            message = f"{relief.cv} is {roles[relief.cv]}, not a CV."
            yield Finding((*here, "cv"), message, "Relief is declared for CVs.")
        if seen.setdefault((relief.cv, relief.side), relief.direction) != relief.direction:
            message = f"{relief.cv} {relief.side} is relieved both up and down."
            yield Finding(here, message, "Keep the direction that brings it back.")
