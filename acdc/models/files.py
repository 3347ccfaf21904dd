"""Check which files a model has, in a folder or in a repository, before any is loaded; torch is not needed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from acdc.assets import asset
from acdc.errors import InputError, first_line, reading
from acdc.models.tokenizer import NO_CODE

CONFIG = "config.json"
NATIVE_CONFIG = "native.json"
"""The config file that marks a folder of ``save_native``."""
WEIGHTS = "*.safetensors"
INDEX = "model.safetensors.index.json"
"""The file that says which shard holds which weights; models in one file have none."""
LEGACY_WEIGHTS = "*final.pth"

TRAINED, TRAINED_WEIGHTS = "trained", ".safetensors"
"""The folder in the assets with models that were trained for the package, and the suffix of their files of weights."""


def trained_weights(name: str) -> Path:
    """Return the path of the weights of a model that was trained for the package, which need not exist."""
    return Path(str(asset(TRAINED, f"{name}{TRAINED_WEIGHTS}")))


def trained_names() -> list[str]:
    """Return the names of the models that were trained for the package."""
    files = sorted(file.name for file in asset(TRAINED).iterdir())
    return [name.removesuffix(TRAINED_WEIGHTS) for name in files if name.endswith(TRAINED_WEIGHTS)]


def check_folder(folder: Path) -> None:
    """Check that a folder holds a model; raise InputError that says what is missing if not."""
    if not folder.is_dir():
        raise InputError(f"model folder {folder} does not exist: check the path in the config")
    if not any((folder / name).exists() for name in (NATIVE_CONFIG, CONFIG)):
        raise InputError(f"model folder {folder} has no {CONFIG}: it must be as save_pretrained writes it")
    check_weights(folder, {path.name for path in folder.iterdir()})


def check_weights(folder: Path, names: Collection[str]) -> None:
    """Check that a Hugging Face model has weights, and all its shards; raise InputError if not.

    Args:
        folder: the folder of its config and, if there is one, the index of its shards.
        names: the names of all files of the model, in the folder or still to be downloaded.
    """
    if not any(fnmatch(name, WEIGHTS) for name in names):
        others = [name for name in names if fnmatch(name, "*.bin") or fnmatch(name, "*.gguf")]
        beside = f", and {sorted(others)[0]} is not read: save the model by save_pretrained" if others else ""
        raise InputError(f"model folder {folder} has no weights: it needs {WEIGHTS} beside its {CONFIG}{beside}")
    for name in shards(folder):
        if name not in names:
            raise InputError(f"model folder {folder} lacks {name}, which {INDEX} names: take a model that is whole")


def shards(folder: Path) -> list[str]:
    """Return the files of weights that a model's index names; an empty list if it has no index."""
    if not (folder / INDEX).exists():
        return []
    with reading(folder / INDEX, "get the model again"):
        return sorted(set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))


def is_legacy(folder: Path) -> bool:
    """Return whether the folder's config.json is TransformerLens 1.x's and not Hugging Face's."""
    return (folder / CONFIG).exists() and "model_type" not in read_config(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """Read a model's config.json; raise InputError if it is damaged."""
    with reading(folder / CONFIG, "get the model again"):
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise TypeError("it is no object")
        return config


def check_config(folder: Path) -> None:
    """Check by its config alone that Transformers knows a model; raise InputError if not."""
    from transformers import AutoConfig

    with loading(folder):
        AutoConfig.from_pretrained(folder, **NO_CODE)


@contextmanager
def loading(folder: Path) -> Iterator[None]:
    """Turn any error of Transformers into an InputError that names the model's folder."""
    try:
        yield
    except Exception as error:  # any error of a library for an unknown model or broken files
        if "trust_remote_code" in str(error):
            raise InputError(
                f"model folder {folder} brings code of its own, which is not run: take a model whose architecture"
                " Transformers has"
            ) from error
        raise InputError(f"Transformers cannot load model folder {folder}: {first_line(error)[:300]}") from error
