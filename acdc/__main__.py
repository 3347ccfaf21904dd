"""Run the command line: ``python -m acdc COMMAND``."""

from acdc.cli import main

if __name__ == "__main__":
    main()
