"""Draw figures: tables and circuits in, ``matplotlib`` Figures out. Nothing here reads a table or imports torch."""
