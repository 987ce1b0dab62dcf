"""The long-running processes, one module each, as `plantwright` commands start them.

Emulate, collect, plan, write and train are separate processes that meet only in the historian.
Every loop ends cleanly on SIGTERM, beats into the historian while it lives, and can be killed
and started again at any time. The rounds themselves are done in other rooms.
"""

from __future__ import annotations

from datetime import UTC, datetime

#: Where an emulated plant's clock stands when it goes live: fixed, so that a seed is a story.
EMULATOR_START = datetime(2026, 1, 7, tzinfo=UTC)
