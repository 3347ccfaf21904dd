"""Build small models: with a planted circuit, compiled from RASP, trained, or random."""
