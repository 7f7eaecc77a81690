"""The one door to plugins: discovery, blocking, selection, isolation, and a typed facade over the hooks.

Nothing else reads pluggy's hook relay. There is one `Plugins` for each profile.
"""

from aero_core.plugins.facade import Plugins, for_task, scheme_of
from aero_core.plugins.loading import GROUP, PluginInfo

__all__ = ["GROUP", "PluginInfo", "Plugins", "for_task", "scheme_of"]
