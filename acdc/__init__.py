"""Automatic circuit discovery: see README.md and `python -m acdc --help`."""
