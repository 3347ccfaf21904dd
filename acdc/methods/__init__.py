"""Find circuits: one method a module, and the driver that runs them."""
