"""Methods that find circuits, one a module."""
