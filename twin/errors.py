"""Every exception Plantwright raises on purpose, and nothing else.

    PlantwrightError               a person reads its text: what, value, rule, what to do
    ├── PlantFileError             the plant file has faults; carries all of them
    ├── ExpressionError            an expression does not parse, names no tag, or mixes units
    ├── UnknownTag                 a tag is asked for that the plant file does not have
    ├── FileFault                  a file (data, study, settings) cannot be used; carries all faults
    ├── HistorianError             the database cannot be used
    │   ├── DatabaseUnavailable    it does not open
    │   ├── WrongMigration         it stands at another schema than this version needs
    │   ├── RecordRefused          a safety rule of the database forbids a record
    │   └── RecordUnreadable       a stored row is damaged
    ├── ConnectorError             the plant's side of the fence
    │   ├── EndpointUnavailable    nothing answers, or the address is wrong or taken
    │   │   └── SecurityFault      a certificate, login, key or secret that will not do
    │   ├── NodeFault              nodes are missing or have the wrong type; carries all of them
    │   ├── WriteFault             the plant refused or lost a write
    │   └── SpoolUnavailable       the buffer in front of the historian cannot be read or written
    │       └── SpoolTaken         another process has it open
    ├── ModelFault                 a model cannot be trained, or a stored one not used
    └── UsageError                 a command was called wrongly (exit code 2)

Expected outcomes (refused, infeasible, timed out) are values with a reason, not exceptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class PlantwrightError(Exception):
    """A fault a person can read and act on; commands print it and exit with `exit_code`."""

    exit_code = 1


@dataclass(frozen=True)
class Fault:
    """One fault of a file or a node: where it stands, what is wrong, what to do.

    It may pass without anybody's doing where `may_pass`: asking again later makes sense.
    """

    where: str
    message: str
    line: int | None = None
    remedy: str = ""
    may_pass: bool = False

    def __str__(self) -> str:
        place = f" (line {self.line})" if self.line is not None else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{self.where}{place}: {self.message}{remedy}"


class _FaultList(PlantwrightError):
    """A fault list: one exception for all faults of one thing."""

    def __init__(self, subject: str, faults: Sequence[Fault]) -> None:
        self.subject = subject
        self.faults = tuple(faults)
        count = f"{len(self.faults)} fault{'s' if len(self.faults) != 1 else ''}"
        lines = "\n".join(f"  {fault}" for fault in self.faults)
        super().__init__(f"{subject}: {count}\n{lines}")


class PlantFileError(_FaultList):
    """The plant file has faults; `faults` holds all of them."""


class FileFault(_FaultList):
    """A data, study or settings file cannot be used; `faults` holds all reasons."""


class ExpressionError(PlantwrightError):
    """An expression does not parse, names an unknown tag, or its units do not fit."""


class UnknownTag(PlantwrightError):
    """A tag is asked for that the plant file does not have."""


class HistorianError(PlantwrightError):
    """The database cannot be used."""


class DatabaseUnavailable(HistorianError):
    """The database does not open or stopped answering."""


class WrongMigration(HistorianError):
    """The database stands at another schema than this version needs."""


class RecordRefused(HistorianError):
    """A safety rule of the database forbids a record; nothing of it was stored."""


class RecordUnreadable(HistorianError):
    """A stored row is damaged: it cannot be read as what it should be."""


class ConnectorError(PlantwrightError):
    """Something on the plant's side of the fence does not work."""


class EndpointUnavailable(ConnectorError):
    """Nothing answers at the endpoint, or its address is wrong or taken."""


class SecurityFault(EndpointUnavailable):
    """A certificate, login, key or secret will not do; nothing was read or written unprotected."""


class NodeFault(_FaultList, ConnectorError):
    """Nodes are missing or have the wrong type; `faults` names each."""


class WriteFault(ConnectorError):
    """The plant refused or lost a write."""


class WriteInDoubt(WriteFault):
    """The plant answered a write with something else than Good, and may have done it all the same.

    What it may have taken is to be given back.
    """


class SpoolUnavailable(ConnectorError):
    """The spool's disk is full or cannot be read or written."""


class SpoolTaken(SpoolUnavailable):
    """Another process has the spool open."""


class ModelFault(PlantwrightError):
    """A model cannot be trained, or a stored one is missing, damaged or for another plant."""


class UsageError(PlantwrightError):
    """A command was called wrongly."""

    exit_code = 2
