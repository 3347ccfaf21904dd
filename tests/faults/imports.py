"""Import what commands import when they run, so that no fork of this process has to."""

import importlib
import pkgutil

import acdc

for module in pkgutil.walk_packages(acdc.__path__, "acdc."):
    if module.name != "acdc.__main__":
        importlib.import_module(module.name)
