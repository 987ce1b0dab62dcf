"""Everything a person touches: commands, pages, charts, and the processes behind them."""
