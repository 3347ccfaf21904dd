"""Train small transformers to hold a known circuit: strict interchange intervention training, edge by edge."""
