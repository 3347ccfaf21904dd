"""Measure and compare circuits once they are found."""
