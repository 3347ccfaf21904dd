"""Make a wheel that stands in for one of a model."""

from __future__ import annotations

import io
import zipfile

TOY = "toy-1.0-py3-none-any.whl"
METADATA = {
    "METADATA": "Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n",
    "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "RECORD": "",
}


def toy_wheel(weights: bytes) -> bytes:
    """Return the wheel ``TOY``, whose only file of the model, ``toy/weights``, is not compressed."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as file:
        file.writestr("toy/weights", weights)
        for name, text in METADATA.items():
            file.writestr(f"toy-1.0.dist-info/{name}", text)
    return written.getvalue()
