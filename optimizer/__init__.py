"""What to do about it: plans in money, re-checked before anyone sees them."""
