"""Train small transformers to have a known circuit, by strict interchange intervention training on edges."""
