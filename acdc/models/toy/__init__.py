"""Build small models on the spot: planted, compiled from RASP, or random."""
