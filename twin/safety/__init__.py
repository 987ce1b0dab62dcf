"""The gate: may exactly these setpoints be written to this plant now?

`check` answers yes or no with reasons; `clear` asks again on newer readings, adds what a write
needs (an accepted decision, a stage) and is the only maker of clearances that `is_genuine`
accepts. Unknown means no. The rows it tests, their order and meaning are the truth table of
`docs/decisions/0003-gate-truth-table.md`; a change here starts there.

Never in here: a repaired setpoint, a model, a solver, a database, a clock.
"""

from twin.safety.checking import check, free_ways, move_room, tripped
from twin.safety.clearing import clear, is_genuine
from twin.safety.context import (
    CLOSED_LOOP_DECIDER,
    NEVER_MOVED,
    RULES,
    GateContext,
    GateRules,
    Trust,
)
from twin.safety.facts import related

__all__ = [
    "CLOSED_LOOP_DECIDER",
    "NEVER_MOVED",
    "RULES",
    "GateContext",
    "GateRules",
    "Trust",
    "check",
    "clear",
    "free_ways",
    "is_genuine",
    "move_room",
    "related",
    "tripped",
]
