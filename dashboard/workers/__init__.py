"""The long-running processes, one module each, as `plantwright` commands start them.

Emulate, collect, plan, write and train are separate processes that meet only in the historian.
Every loop ends cleanly on SIGTERM, beats into the historian while it lives, and can be killed
and started again at any time. The rounds themselves are done in other rooms.
"""
