"""The two halves of `historian.py`: what storing costs, and what questions do."""
