"""A walking-beam reheating furnace as the twin believes it: heating, slab tracking, rollouts.

Everything about one furnace stands in its plant file (`kind: furnace`); no plant is known here.
"""
