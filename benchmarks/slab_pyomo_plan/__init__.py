"""The furnace's dynamic plan as a Pyomo model: `slab_pyomo.py` measures it; no product uses it."""
