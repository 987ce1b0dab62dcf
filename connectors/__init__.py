"""Everything that crosses the plant's fence: readings in, cleared setpoints out."""
