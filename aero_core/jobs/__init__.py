"""The portable steps of a run: pull, function, store, and `execute`, which composes them.

Each takes and answers JSON-able values, so that an executor needs only to call one function with one argument
somewhere. They run where the executor runs, know no catalog, and find bytes and code by the task's locations.
"""

from aero_core.jobs.execute import execute, function, pull, store

__all__ = ["execute", "function", "pull", "store"]
