"""Read and write files of tensors, so that a changed byte is told: safetensors, and what torch saves."""

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
    """Write a safetensors file whose header has, as JSON, what is said of the tensors, and a SHA-256 of both.

    Args:
        kind: the name of the header's entry. It is one, for the order of several differs from run to run.
    """
    header = {kind: json.dumps(said | {"sha256": of_tensors(tensors, beside=json.dumps(said))})}
    with whole(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, header)


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors that ``write_tensors`` wrote, and what is said of them.

    Raises:
        KeyError, ValueError: the file is of another kind, or not as it was written.
    """
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        said = json.loads((file.metadata() or {})[kind])
    written = said.pop("sha256", None)
    if written and written != of_tensors(tensors, beside=json.dumps(said)):
        raise ValueError("it was changed since acdc wrote it")
    return tensors, said


def save_torch(data: Any, path: Path) -> None:
    """Write what torch saves."""
    buffer = io.BytesIO()  # torch has words of its own for a disk that is full
    torch.save(data, buffer)
    with whole(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def load_torch(path: Path, remedy: str, is_no: str = "") -> Any:
    """Read what torch saved: tensors, numbers, texts and collections of them. No code is run.

    Raises:
        InputError: the file holds something else, or a byte of it was changed. Arguments are those of ``reading``.
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
