"""An onnxruntime session on a file that nobody has to trust."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlops.errors import UserError
from mlops.serving.onnx_file import check_onnx

# On a processor their results are slower than what they replace: see mlops.compression.unfuse.
_NOT_FUSED = ["SkipLayerNormFusion", "BiasGeluFusion"]


def open_session(path: Path, threads: int) -> Any:
    """An onnxruntime session on the CPU with so many threads.

    Raises UserError, with the reason, for a file that is missing, that `check_onnx` refuses or that onnxruntime cannot load.
    """
    if not path.is_file():
        raise UserError(f"{path.parent} has no {path.name}; only ONNX packages (fp32, int8) can serve")
    check_onnx(path)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_NOT_FUSED
        )
    except Exception as error:  # onnxruntime has a class per fault, none of them public
        raise UserError(f"{path} cannot be loaded: {error}") from None


def check_inside(folder: Path, names: Iterable[str]) -> None:
    """Raises UserError for a name that leads out of the folder, by itself or by a link, or to what is no plain file.

    A name that is not there is left to whoever needs it.
    """
    root = folder.resolve()
    for name in names:
        path = folder / name
        try:
            target = path.resolve()
            plain = target.is_file() or not target.exists()
        except (OSError, ValueError, RuntimeError) as error:  # NUL, half a surrogate pair; links in a circle; too long
            raise UserError(f"{folder} lists the file {name[:100]!r}: {str(error)[:200]}") from None
        if not target.is_relative_to(root):
            raise UserError(f"{path} leads to {target}; a package's files lie in its folder")
        if not plain:
            raise UserError(f"{path} is no plain file; a package holds nothing else")
