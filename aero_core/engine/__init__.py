"""What happens, and when: the engine that claims due runs and drives them to their commit."""

from aero_core.engine.engine import Engine
from aero_core.engine.events import Event, EventKind
from aero_core.engine.stopping import Stopping
from aero_core.engine.tasks import log_of

__all__ = ["Engine", "Event", "EventKind", "Stopping", "log_of"]
