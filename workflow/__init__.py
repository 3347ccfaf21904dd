"""The Snakemake workflow: its rules, configs and scripts, in a clone only."""
