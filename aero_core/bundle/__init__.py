"""A function's code: what it is made of, whether it changed, and how it travels.

`describe` reads a function's code and makes its digest, `pack` writes it into an archive, `loaded`
gives the function back where it runs.
"""

from aero_core.bundle.archive import pack, unpacked
from aero_core.bundle.describe import Description, describe, plain_function
from aero_core.bundle.loading import importing, imports_from, loaded, module_name
from aero_core.bundle.modules import decode

__all__ = [
    "Description",
    "decode",
    "describe",
    "importing",
    "imports_from",
    "loaded",
    "module_name",
    "pack",
    "plain_function",
    "unpacked",
]
