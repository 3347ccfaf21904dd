"""The edge-patched forward pass, fast and exact (section 5 of the design: what a removed edge leaves as it is)."""
