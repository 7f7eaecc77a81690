"""Flow files: how flows are declared in plain Python, and how the declarations are read.

`ingest` and `analysis` declare; `load_flow_file` collects what a file declares; `specs` makes of it
what a catalog registers.
"""

from aero_core.flowfile.building import Code, specs
from aero_core.flowfile.declaration import DataRef, Declaration, Draft, is_collecting
from aero_core.flowfile.declare import analysis, ingest
from aero_core.flowfile.loading import FlowFile, existing_file, load_flow_file, origin_of

__all__ = [
    "Code",
    "DataRef",
    "Declaration",
    "Draft",
    "FlowFile",
    "analysis",
    "existing_file",
    "ingest",
    "is_collecting",
    "load_flow_file",
    "origin_of",
    "specs",
]
