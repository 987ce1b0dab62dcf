"""Pumps that a write of ours took, and rounds that may give them back. A tool of the tests."""

from __future__ import annotations

import asyncio

from written_plant import Site

from connectors.handback import HandBacks
from connectors.opcua import Session
from connectors.writeback import settle_begun, write_accepted
from twin.historian import HandBack
from twin.records import ProposalStatus, WriteOutcome, WriteStatus

PUMP, DRAIN = "pump.setpoint", "drain.setpoint"
AUTO, REMOTE = 0, 1


class Rounds:
    """A writing process's rounds, one at a time; a new object is a restart."""

    def __init__(self, site: Site, session: Session) -> None:
        self._site, self._session = site, session
        self._hand_backs = HandBacks(site.writer)

    async def one(self) -> None:
        _, busy = await settle_begun(self._site.writer, self._session)
        await self._hand_backs.round(self._session, busy)
        await write_accepted(self._site.writer, self._session)


async def hold(site: Site, session: Session, **setpoints: float) -> str:
    """A proposal that is accepted, written and verified: the pumps are ours.

    Another one where the machine was so busy that a used clearance lapsed with nothing written.
    """
    wanted = {f"{pump}.setpoint": value for pump, value in (setpoints or {"pump": 7.5}).items()}
    lapsed = "The clearance has expired"
    outcome = None
    while outcome is None or (outcome.reason.startswith(lapsed) and not site.truth.writes):
        proposal = await site.propose(session, wanted)
        outcome = await write(site, session, proposal)
    assert outcome.status is WriteStatus.VERIFIED, outcome.reason
    return proposal


async def write(site: Site, session: Session, proposal: str) -> WriteOutcome:
    """Write it; again where the clearance lapsed on a busy machine before it was used."""
    while site.status(proposal) is ProposalStatus.ACCEPTED:
        await write_accepted(site.writer, session)
    return site.historian.outcomes(site.plant, 1, proposal)[0]


async def shown(site: Site, session: Session, pump: str, mode: int) -> None:
    """Wait until the plant's server shows what the truth's mode is."""
    give_up = asyncio.get_running_loop().time() + 20
    while (await session.read([f"{pump}.mode"]))[f"{pump}.mode"].value != mode:
        assert asyncio.get_running_loop().time() < give_up
        await asyncio.sleep(0.005)


def ask(site: Site, session: Session, mv: str = PUMP, by: str = "Bob") -> str | None:
    return site.historian.ask_back(site.plant, mv, by, "it rattles", session.clock.now())


def newest(site: Site) -> HandBack:
    return site.historian.hand_backs(site.plant, 1)[0]


def modes_written(site: Site) -> list[tuple[str, float]]:
    return [(name, value) for name, value in site.truth.writes if name.endswith(".mode")]
