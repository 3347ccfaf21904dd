"""Compute edge-patched forward passes fast, by recomputing only the activations that a removed edge changes."""
