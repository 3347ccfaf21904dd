"""Find circuits: one module for each method, and the driver that runs them."""
