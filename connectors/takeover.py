"""An MV goes from the PLC's AUTO to our REMOTE without a bump: follow, switch, only then move.

For MVs whose plant file entry names `downstream`, the tag that shows the setpoint which the PLC
really uses. Others are taken by their setpoint alone. Where to move is not decided here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.readback import Target, read_back
from connectors.sending import Sending
from twin.errors import WriteFault
from twin.plant import Plant, Tag
from twin.records import Reading

#: How often a setpoint is followed that the PLC moves on meanwhile. Chosen: a loop that is in
#: haste now will not be calmer in the seconds that the clearance has left.
_FOLLOWS = 3


def in_auto(plant: Plant, mvs: Sequence[str], fresh: Mapping[str, Reading]) -> list[str]:
    """The MVs that are to be taken over step by step: in AUTO, and known where they stand."""
    return [
        mv
        for mv in mvs
        if (tag := plant.tag(mv)).downstream is not None
        and tag.remote is not None
        and fresh[tag.remote.tag].value == tag.remote.auto
    ]


async def take_over(sending: Sending, mvs: Sequence[str], fresh: Mapping[str, Reading]) -> str:
    """Bring the MVs to REMOTE where they stand; why that did not work, else empty.

    Every write is read back before the next step. `fresh` was read before. Raises
    EndpointUnavailable as `Sending.put`.
    """
    tags = [sending.writer.plant.tag(mv) for mv in mvs]
    return await _follow(sending, tags, fresh) or await _switch(sending, tags, fresh)


async def _follow(sending: Sending, tags: Sequence[Tag], fresh: Mapping[str, Reading]) -> str:
    """Set every setpoint to what the PLC uses, as near as a sample of its own moves allows."""
    names = list(dict.fromkeys(name for tag in tags for name in (tag.name, tag.stands_at)))
    far = list(tags)
    patience_s = sending.writer.read_back_s(sending.session)
    for _ in range(_FOLLOWS):
        seen = await sending.session.read(names)
        targets: dict[str, Target] = {}
        for tag in far:
            target = await _set_to_used(sending, tag, seen)
            if isinstance(target, str):
                return target
            targets[tag.name] = target
        wrong, _ = await read_back(sending.session, targets, fresh, patience_s)
        if wrong:
            return " ".join(wrong)
        seen = await sending.session.read(names)
        far = [tag for tag in tags if not _is_near(sending, tag, seen)]
        if not far:
            return ""
    moved = ", ".join(tag.stands_at for tag in far)
    return f"The PLC moves {moved} faster than it can be followed: nothing was taken over."


async def _set_to_used(sending: Sending, tag: Tag, seen: Mapping[str, Reading]) -> Target | str:
    """What the setpoint shall read back as, written if it does not yet; or why it is not."""
    used = seen[tag.stands_at]
    if not used.is_good or used.value is None:
        return f"{tag.stands_at} reads no good number, so {tag.name} is not taken over."
    if tag.engineering is None or not tag.engineering.holds(used.value):
        return (
            f"The PLC has moved {tag.name} to {used.value:g}, outside its engineering limits, so "
            "it is not taken over."
        )
    try:
        held = await sending.session.held(tag.name, used.value)
    except WriteFault as fault:
        return str(fault)
    target = Target(held, tag.write_tolerance or 0.0)
    is_there = target.is_met(seen[tag.name])
    return ("" if is_there else await sending.put(tag.name, tag.name, used.value)) or target


def _is_near(sending: Sending, tag: Tag, seen: Mapping[str, Reading]) -> bool:
    """Whether switching now moves the loop no further than its rate lets it go in a sample."""
    used, own = seen[tag.stands_at], seen[tag.name]
    if not (used.is_good and own.is_good) or used.value is None or own.value is None:
        return False
    per_sample = (tag.rate_limit_per_min or 0.0) * sending.writer.plant.sample_s / 60.0
    return abs(used.value - own.value) <= max(per_sample, tag.write_tolerance or 0.0)


async def _switch(sending: Sending, tags: Sequence[Tag], fresh: Mapping[str, Reading]) -> str:
    """Send every MV to REMOTE that did not go there with its setpoint."""
    modes = {tag.name: tag.remote for tag in tags if tag.remote is not None}
    shown = await sending.session.read([mode.tag for mode in modes.values()])
    for mv, mode in modes.items():
        if shown[mode.tag].value != mode.remote and (
            reason := await sending.put(mv, mode.tag, mode.remote)
        ):
            return reason
    wanted = {mode.tag: Target(float(mode.remote)) for mode in modes.values()}
    patience_s = sending.writer.read_back_s(sending.session)
    wrong, _ = await read_back(sending.session, wanted, fresh, patience_s)
    return " ".join(wrong)
