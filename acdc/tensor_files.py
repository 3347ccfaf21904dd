"""Read and write files of tensors, safetensors and torch's own, so that a changed byte is detected."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from acdc.errors import reading
from acdc.files import whole
from acdc.fingerprint import of_tensors


def write_tensors(tensors: Mapping[str, Tensor], path: Path, kind: str, said: dict[str, Any]) -> None:
    """Write tensors to a safetensors file, with facts about them as JSON and a SHA-256 of both in its header.

    Args:
        kind: the name of the header's entry. There is only one, since the order of several differs from run to run.
        said: the facts.
    """
    header = {kind: json.dumps(said | {"sha256": of_tensors(tensors, beside=json.dumps(said))})}
    with whole(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, header)


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors that ``write_tensors`` wrote, and the facts about them.

    Raises:
        KeyError, ValueError: the file is of another kind, or was changed.
    """
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        said = json.loads((file.metadata() or {})[kind])
    written = said.pop("sha256", None)
    if written and written != of_tensors(tensors, beside=json.dumps(said)):
        raise ValueError("it was changed since acdc wrote it")
    return tensors, said


def save_torch(data: Any, path: Path) -> None:
    """Write tensors and plain data to a file as ``torch.save`` does, whole or not at all."""
    buffer = io.BytesIO()  # so that a full disk raises OSError, not torch's own error
    torch.save(data, buffer)
    with whole(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def load_torch(path: Path, remedy: str, is_no: str = "") -> Any:
    """Read a file of ``torch.save``: tensors, numbers, texts and collections of them. No code in it is run.

    Raises:
        InputError: the file holds something else, or a byte of it was changed. The arguments are those of ``reading``.
    """
    with reading(path, remedy, is_no):
        if zipfile.is_zipfile(path):  # torch 1.6 and later; torch itself does not look at the checksums
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():
                    raise ValueError(f"its part {damaged} was changed")
        try:
            return torch.load(path, weights_only=True, map_location="cpu")
        except pickle.UnpicklingError:
            # Torch's own words advise to switch this protection off.
            raise ValueError("it does not load as tensors and plain data, and no code of a file is run") from None
