"""Which weights were measured: one digest of all that a checkpoint's files hold, whatever its folder is called.

A result file says it, so that a run is not gone on with on other weights under the same name.
"""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest(folder: Path) -> str:
    """SHA-256, in hexadecimal, over the names and contents of the weights' files and of the configuration."""
    whole = hashlib.sha256()
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("config.json")]):
        with file.open("rb") as content:
            whole.update(f"{file.name}\0{hashlib.file_digest(content, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()
