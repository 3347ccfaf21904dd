"""Measure and compare circuits that were found."""
