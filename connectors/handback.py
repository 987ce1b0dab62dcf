"""MVs go back to the plant's own control: asked by a person, by rule, or taken by the plant.

We let go only of what we hold: an MV that a write of ours took (a verified one, or a failed one
from AUTO) and that reads REMOTE since then. One that a person put in REMOTE by other means is left
alone. Interlocks alone stand above that: what they block is given back whoever holds it. Letting
go needs no clearance and no released stop; nothing here ever writes a setpoint.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from connectors.opcua import Session
from connectors.readback import Target, Writer, in_thread, read_all, read_back
from twin.context import told_judged
from twin.errors import WriteFault
from twin.historian import HandBack, HandBackCause, HandBackStatus, Held, longest_hold
from twin.records import PlantState, ProposalStatus, Stage
from twin.safety import tripped
from twin.state import plant_state

#: Kind of the audit rows that say what the plant's stop node was told last.
STOP_NODE = "stop node"

_OURS_NO_MORE = "Plantwright does not hold it: nothing was written since it was last given back"
_OVERTAKEN = "a setpoint accepted later was written since"


async def shed(writer: Writer, session: Session, mvs: Sequence[str]) -> list[str]:
    """Give MVs back to the plant's own control; what does not stand in AUTO afterwards.

    Raises:
        EndpointUnavailable: the link is lost. The PLC lets go by itself when the heartbeat ends.
    """
    remotes = [mode for mode in (writer.plant.tag(mv).remote for mv in mvs) if mode is not None]
    # An AUTO read now is no sign: it may have been sampled before our own write took the MV.
    shown = await session.read([mode.tag for mode in remotes])
    before = {name: replace(each, value=None) for name, each in shown.items()}
    faults: list[str] = []
    for mode in remotes:
        try:
            await session.write(mode.tag, mode.auto)
        except WriteFault as fault:
            faults.append(str(fault))
    wanted = {mode.tag: Target(float(mode.auto)) for mode in remotes}
    patience_s = 0.0 if faults else writer.read_back_s(session)
    wrong, _ = await read_back(session, wanted, before, patience_s)
    return [*faults, *wrong]


async def carry_out(writer: Writer, session: Session, asked: HandBack) -> None:
    """Give back what an open hand-back names, and end it once that stands in AUTO."""
    plant, historian = writer.plant, writer.historian
    if faults := await shed(writer, session, [asked.mv]):
        text = " ".join(faults)
        await in_thread(historian.note_attempt, plant, asked, text, session.clock.now())
        return
    done = partial(historian.end_hand_back, plant, asked, HandBackStatus.DONE, "in AUTO")
    await in_thread(done, session.clock.now())


class HandBacks:
    """What a writing process lets go of, round by round. The record of it is the historian's."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._was_away = True
        self._told: dict[str, str] = {}  # the last audit row of an MV that will not let go

    def begin(self) -> None:
        """A new session: what reads AUTO now may do so for long."""
        self._was_away = True

    async def round(self, session: Session, busy: Set[str]) -> None:
        """Let go of what must go, and note what the plant has taken back.

        An MV goes while an interlock blocks it; when a person asked, once; in shadow; and when
        its last write is older than `longest_hold` and no other is accepted, unless it is in
        closed loop and a plan has judged since then that it is best kept. `busy` MVs are being
        written: what becomes of that comes first.

        Raises:
            EndpointUnavailable: the link is lost; what was asked is done when it is back.
            HistorianError: the database is away.
        """
        writer, historian = self._writer, self._writer.historian
        await in_thread(historian.end_unreadable_hand_backs, writer.plant, session.clock.now())
        asked = await in_thread(historian.hand_backs, writer.plant, 100, [HandBackStatus.OPEN])
        await in_thread(historian.tell_unreadable, writer.plant, session.clock.now(), "write")
        held = await in_thread(historian.held, writer.plant)
        if not (asked or held or writer.plant.interlocks):
            self._was_away = False
            return
        fresh = await read_all(writer, session)
        state = plant_state(writer.plant, fresh, session.clock.now())
        done, refusing = set(busy), set[str]()
        unknown = set[str]()
        if self._was_away:
            unknown = await self._leave_to_others(session, state, held, busy)
            done |= unknown
        for mv, message in tripped(writer.plant, state).items():
            mode = writer.plant.tag(mv).remote
            if mode is not None and state.value(mode.tag) == mode.remote:
                done.add(mv)
                if not await self._give(
                    session, mv, HandBackCause.INTERLOCK, message, is_held=mv in held
                ):
                    refusing.add(mv)
        for each in reversed(asked):
            if each.mv not in done:
                done.add(each.mv)
                await self._carry_out(session, state, each, held.get(each.mv))
        for mv in sorted(held.keys() - done):
            if await self._refuses_to_go(session, state, held[mv]):
                refusing.add(mv)
        self._told = {mv: text for mv, text in self._told.items() if mv in refusing}
        self._was_away = bool(unknown or busy & held.keys())

    async def _leave_to_others(
        self, session: Session, state: PlantState, held: dict[str, Held], busy: Set[str]
    ) -> set[str]:
        """Hold no more what somebody set otherwise in REMOTE while we were away.

        Gone from `held`; the answer names those of which that cannot be told yet.
        """
        plant, historian = self._writer.plant, self._writer.historian
        unknown = set[str]()
        for mv in sorted(held.keys() - busy):
            if not self._reads_remote(state, mv):
                continue
            ours, value = held[mv].setpoint, state.last_known(mv)
            if value is None:
                unknown.add(mv)
            elif not abs(value - ours) <= (plant.tag(mv).write_tolerance or 0.0):
                text = (
                    f"{mv} stands in REMOTE at {value:g}, not at our {ours:g}: "
                    "somebody else set it while the writer was away; it is left alone"
                )
                note = partial(historian.note_let_go, plant, mv, HandBackCause.PLANT, text)
                await in_thread(note, session.clock.now())
                del held[mv]
        return unknown

    async def _carry_out(
        self, session: Session, state: PlantState, asked: HandBack, held: Held | None
    ) -> None:
        """Do what a person asked, unless there is nothing to do; told once per change."""
        plant, historian = self._writer.plant, self._writer.historian
        end = partial(in_thread, historian.end_hand_back, plant, asked)
        now = session.clock.now
        if held is None:
            await end(HandBackStatus.VOID, _OURS_NO_MORE, now())
        elif held.decided_at > asked.asked_at:
            await end(HandBackStatus.VOID, _OVERTAKEN, now())
        elif (value := self._mode_value(state, asked.mv)) is None:
            text = "waiting: its mode reads no good number"
            await in_thread(historian.note_attempt, plant, asked, text, now())
        elif not self._reads_remote(state, asked.mv):
            if asked.cause is HandBackCause.FAILED and not self._shows(session, state, asked):
                return
            await end(HandBackStatus.DONE, f"its mode read {value:g} already", now())
        else:
            await carry_out(self._writer, session, asked)

    async def _refuses_to_go(self, session: Session, state: PlantState, held: Held) -> bool:
        """Let go of an MV if a rule says so, or note that it is gone; whether it would not go."""
        if self._mode_value(state, held.mv) is None:
            return False
        if not self._reads_remote(state, held.mv):
            await self._note_gone(session, held)
            return False
        why = await in_thread(self._rule, session, held)
        if why is None:
            return False
        return not await self._give(session, held.mv, *why, is_held=True)

    def _rule(self, session: Session, held: Held) -> tuple[HandBackCause, str] | None:
        """Why an MV that we hold must go back by itself; None if it need not."""
        plant = self._writer.plant
        stage = self._writer.historian.stage(plant)[held.mv]
        limit = longest_hold(plant)
        if stage is Stage.SHADOW:
            return HandBackCause.SHADOW, "its stage is shadow: computed only"
        now = session.clock.now()
        if (
            now - held.written_at > limit
            and not (stage is Stage.CLOSED_LOOP and self._is_judged(held.mv, now, limit))
            and not self._is_due(held, now)
        ):
            minutes = limit.total_seconds() / 60
            return HandBackCause.HORIZON, f"nothing newer was accepted for {minutes:g} min"
        return None

    def _is_judged(self, mv: str, now: datetime, limit: timedelta) -> bool:
        """Whether a plan within the limit found the setpoint best where it stands."""
        at = told_judged(self._writer.historian.processes(self._writer.plant)).get(mv)
        # A time from far ahead was left by a clock that has been set back.
        return at is not None and abs(now - at) <= limit

    def _is_due(self, held: Held, now: datetime) -> bool:
        """Whether an accepted proposal is about to move the MV: it shall not pass through AUTO."""
        writer = self._writer
        accepted = writer.historian.proposals(writer.plant, [ProposalStatus.ACCEPTED])
        return any(held.mv in each.setpoints and now < each.expires_at for each in accepted)

    async def _give(
        self, session: Session, mv: str, cause: HandBackCause, reason: str, is_held: bool
    ) -> bool:
        """Shed one MV and keep the record; False, told once, while it does not stand in AUTO."""
        plant, historian = self._writer.plant, self._writer.historian
        faults = await shed(self._writer, session, [mv])
        now = session.clock.now()
        if is_held and not faults:
            await in_thread(historian.note_let_go, plant, mv, cause, reason, now)
            return True
        message = f"{reason}: {' '.join(faults) or 'in AUTO'}"
        if self._told.get(mv) != message:
            await in_thread(historian.event, plant, "shed", mv, message, now, "write")
            self._told[mv] = message
        return not faults

    async def _note_gone(self, session: Session, held: Held) -> None:
        """Note that an MV we held is in AUTO although we did not let go of it."""
        plant, historian = self._writer.plant, self._writer.historian
        source = plant.opcua
        node = source.stop_node if source is not None else None
        told = await in_thread(historian.events, plant, 1, STOP_NODE, node) if node else []
        # The latch is asked too: the PLC may have let go before the audit heard of it.
        is_stopped = self._writer.is_stopped() is not False
        if is_stopped or (told and told[0].at >= held.written_at):
            cause, text = HandBackCause.STOP, f"{held.mv} went back to AUTO with our stop"
        else:
            cause, text = HandBackCause.PLANT, f"the plant took {held.mv} back to AUTO"
            if self._was_away:
                text += "; seen at the writer's return, it may have been earlier"
        now = session.clock.now()
        await in_thread(historian.note_let_go, plant, held.mv, cause, text, now)

    def _mode_value(self, state: PlantState, mv: str) -> float | None:
        """What the MV's mode reads; a doubtful reading counts where it says REMOTE."""
        mode = self._writer.plant.tag(mv).remote
        if mode is None:
            return None
        value, last = state.value(mode.tag), state.last_known(mode.tag)
        return last if value is None and last == mode.remote else value

    def _shows(self, session: Session, state: PlantState, failed: HandBack) -> bool:
        """Whether the MV's mode was sampled since a failed write, and so shows what it took.

        A PLC that stamps only what changes never says so: then once nothing of it can still come.
        """
        writer, speed = self._writer, session.clock.speed
        patience_s = speed * max(writer.late_wall_s, writer.read_back_s(session))
        if session.clock.now() > failed.asked_at + timedelta(seconds=patience_s):
            return True
        mode = self._writer.plant.tag(failed.mv).remote
        last = state.tags[mode.tag].source_time if mode is not None else None
        sample = timedelta(seconds=self._writer.plant.sample_s)
        return last is not None and last > failed.asked_at + sample

    def _reads_remote(self, state: PlantState, mv: str) -> bool:
        mode = self._writer.plant.tag(mv).remote
        return mode is not None and self._mode_value(state, mv) == mode.remote
