"""What the plant is, remembers, will do, and must not do."""
