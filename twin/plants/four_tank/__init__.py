"""Quadruple tank: two pumps, four coupled tanks, batches drawn from the lower two."""
