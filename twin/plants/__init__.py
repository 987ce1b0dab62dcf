"""Shipped plants, one folder each: plant.yaml, physics.py, truth.py, baseline.py."""
