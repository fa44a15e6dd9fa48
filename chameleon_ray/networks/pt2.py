"""Files of `torch.export.save`, read without running anything that they hold.

`torch.export.load` unpickles objects, opens shared libraries and evaluates expressions that it
finds in such a file. A file that nobody vouches for may have none of these.
"""

from __future__ import annotations

import re
import zipfile

import torch

from chameleon_ray.errors import SettingsError, UnsupportedError
from chameleon_ray.machine import environment

# What a file of tensors and one graph has (torch/export/pt2_archive); torch ignores case in names.
_PLAIN = re.compile(
    r"[^/]*/("
    r"data/weights/(weight_\d+|\w+_weights_config\.json)"
    r"|data/constants/(tensor_\d+|\w+_constants_config\.json)"
    r"|data/sample_inputs/\w+\.pt|models/\w+\.json"
    r"|archive_format|archive_version|byteorder|\.data/\w+)"
)
_EXPRESSION = b'"expr_str"'
_TENSORS_ALONE = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1"}  # and plain containers, when it unpickles


def load(path: str, *, trust: bool) -> torch.export.ExportedProgram:
    """The program of a file.

    Args:
        path: Of the file.
        trust: Whether whatever it holds may be run.

    Raises:
        SettingsError: It is not such a file, or holds more than tensors and a graph and is not
            trusted.
        UnsupportedError: Its shapes are open.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if not trust:
                _check_plain(path, archive)
    except (OSError, zipfile.BadZipFile) as error:
        raise SettingsError(f"{path}: not a file of torch.export.save: {error}.") from error
    try:
        with environment({} if trust else _TENSORS_ALONE):
            program = torch.export.load(path)
    except Exception as error:  # whatever a damaged archive leads to
        raise SettingsError(
            f"{path}: not a whole file of torch.export.save: {str(error).splitlines()[0]}."
        ) from error
    if program.range_constraints:
        raise UnsupportedError(
            f"{path}: it was exported with sizes left open "
            f"({', '.join(map(str, program.range_constraints))}), and code is made for one size: "
            "export it without dynamic_shapes."
        )
    return program


def _check_plain(path: str, archive: zipfile.ZipFile) -> None:
    """Whether there is nothing in it but tensors and a graph of fixed sizes.

    Raises:
        SettingsError: There is more.
    """
    for name in archive.namelist():
        if not _PLAIN.fullmatch(name.lower()):
            raise SettingsError(
                f"{path}: it holds {name}, which may run anything when it is loaded. If you trust "
                "whoever made it, add --trust."
            )
        if name.lower().endswith(".json") and _EXPRESSION in archive.read(name):
            raise SettingsError(
                f"{path}: {name} holds expressions, which torch evaluates: sizes that were left "
                "open. Export it without dynamic_shapes; or, if you trust whoever made it, add "
                "--trust."
            )
