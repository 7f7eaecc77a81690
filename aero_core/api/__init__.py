"""What a person calls, in a program or a notebook: `api.open()` answers an `Aero`.

The command line does nothing that cannot be done from here.
"""

from aero_core.api.aero import Aero, open  # noqa: A004  `api.open()` is what people write
from aero_core.api.details import DataDetails, RunDetails
from aero_core.api.lineage import LineageNode
from aero_core.api.verify import Finding

__all__ = ["Aero", "DataDetails", "Finding", "LineageNode", "RunDetails", "open"]
