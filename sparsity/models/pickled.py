"""What to do with a checkpoint whose weights are a pickle: one command that saves it as safetensors.

A pickle can run code, so this suite reads none. Whoever trusts where it is from converts it once; the
command reads it with torch's restricted unpickler, as transformers does.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from sparsity.errors import ModelNotUnderstood
from sparsity.models.architecture import architecture_of

PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json")
"""The only names by which transformers finds one."""


def conversion(reference: str, folder: Path) -> str:
    """The command that makes a checkpoint of safetensors out of a pickled one, with its head and its tokenizer.

    A folder is converted in place; a repository of the hub into a folder of its name, here.
    """
    local = is_local(reference)
    name = _quoted(str(Path(reference).expanduser()) if local else reference)
    target = name if local else _quoted(f"./{Path(reference).name}")
    load = f"t.{_class(folder)}.from_pretrained({name}, use_safetensors=False)"
    code = f"import transformers as t; {load}.save_pretrained({target})"
    if not local:
        code += f"; t.AutoTokenizer.from_pretrained({name}).save_pretrained({target})"
    return f"python -c {shlex.quote(code)}"


def _quoted(name: str) -> str:
    """As Python reads it, in double quotes, since those around the whole are single ones."""
    return json.dumps(name, ensure_ascii=False)


def is_local(reference: str) -> bool:
    """Whether the reference is a folder on this machine, and no hub id."""
    return (Path(reference).expanduser() / "config.json").is_file()


def _class(folder: Path) -> str:
    """The class whose weights they are, head and all: that of the configuration, else the family's language model."""
    import transformers

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        named = next(iter(config.get("architectures") or ()), None)
        if isinstance(named, str) and named.isidentifier() and hasattr(transformers, named):
            return named
        return architecture_of(str(config.get("model_type"))).auto_class
    except (OSError, ValueError, AttributeError, TypeError, RecursionError, ModelNotUnderstood):
        return "AutoModel"
