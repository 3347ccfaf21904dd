"""Build small models on the spot: planted, compiled from RASP, trained, or random."""
