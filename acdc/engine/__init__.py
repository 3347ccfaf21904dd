"""Compute edge-patched forward passes fast: only what a removed edge changes is computed again."""
