"""What the stages of the command line do: files at their edge, the package between."""
