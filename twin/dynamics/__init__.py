"""The learned world model: data sets, models, training, registry. Only training imports torch.

frames      windows of the past as arrays
following   filtered levels and missing rate by the estimator's law
residual    the learned missing rate, as inference runs it (numpy)
models      the line-up behind one Model protocol: persistence, physics, + bias, + residual
arx         the linear member of the line-up
fitting     training of the residual on free runs (torch)
furnace_runs, furnace_lineup, zone_fitting
            the same for a furnace: its past as tracked, its members, its residual (torch)
lineup      train(): split, fit, compare, promote, write the card
card        what is written about a trained model
registry    versions on disk
"""
