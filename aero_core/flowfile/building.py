"""From declarations to what is registered: flows with their code packed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import attrs
from attrs import frozen

from aero_core import models
from aero_core.errors import FlowFileError
from aero_core.flowfile.declaration import Declaration, Draft


@frozen
class Code:
    """What is to be packed for a flow: the arguments of `aero_core.bundle.describe`."""

    function: Callable[..., Any]
    folder: Path | None = None
    code: tuple[str, ...] = ()


def specs(
    declarations: Iterable[Declaration],
    pack: Callable[[Code], models.Function],
    *,
    folder: Path | None = None,
    origin: str = "api",
    project: str = "",
    namespace: str = "",
    store: str = "local",
    executor: str = "local",
) -> tuple[models.FlowSpec, ...]:
    """What is registered of declared flows, in order.

    Args:
        declarations: The flows.
        pack: Packs and keeps a function's code; called once for each function and its files.
        folder: The flow file's folder; None outside of one.
        origin: Where the flows are declared.
        project: The project that they belong to.
        namespace: Where their names count, in a shared catalog.
        store: Store of those that name none.
        executor: What runs their functions.

    Raises:
        FlowFileError: A declaration is unfinished, or its function cannot travel.
    """
    packed: dict[Code, models.Function] = {}
    found = []
    for declaration in declarations:
        _ = declaration.spec  # refuses an unfinished one
        for draft in declaration.drafts:
            function = _packed(draft, folder, pack, packed)
            found.append(
                attrs.evolve(
                    draft.spec,
                    function=function,
                    origin=origin,
                    project=project,
                    namespace=namespace,
                    store=draft.store or store,
                    executor=executor,
                )
            )
    return tuple(found)


def _packed(
    draft: Draft,
    folder: Path | None,
    pack: Callable[[Code], models.Function],
    packed: dict[Code, models.Function],
) -> models.Function | None:
    if draft.function is None:
        return None
    code = Code(draft.function, folder, draft.code)
    if code not in packed:
        try:
            packed[code] = pack(code)
        except FlowFileError as error:
            raise FlowFileError(f"flow {draft.spec.name!r}: {error}") from None
    return packed[code]
