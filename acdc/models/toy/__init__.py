"""Small models that are built on the spot: planted, compiled from RASP, or random."""
