"""Reading a flow file: its declarations, or one line that says what is wrong with it and where."""

from __future__ import annotations

import importlib.util
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import CodeType

from attrs import frozen

from aero_core.bundle import decode, imports_from, module_name
from aero_core.errors import AeroError, FlowFileError
from aero_core.flowfile.arguments import HALF
from aero_core.flowfile.declaration import Declaration, collecting

_LONGEST = 500


@frozen
class FlowFile:
    """A flow file that was read.

    Attributes:
        path: The file, without links.
        folder: Where its local modules and its `code=` files are.
        declarations: What it declares, in order.
    """

    path: Path
    folder: Path
    declarations: tuple[Declaration, ...]


def load_flow_file(path: str | Path) -> FlowFile:
    """Execute a flow file and collect what it declares.

    Its folder is first on the path meanwhile; afterwards its local modules are forgotten, so that
    reading it again sees edits.

    Args:
        path: The file, as a person names it; messages repeat it like this.

    Raises:
        FlowFileError: It cannot be read, raises, or declares nothing or one name twice.
    """
    shown = str(path)
    full = existing_file(Path(path), shown)
    try:
        text = decode(full.read_bytes(), shown)
        code = compile(text, str(full), "exec", dont_inherit=True)
    except OSError as error:
        raise FlowFileError(f"cannot read {shown}: {error.strerror or error}") from None
    except (SyntaxError, ValueError) as error:
        raise FlowFileError(_explain(error, full, shown)) from None
    declarations = _execute(code, full, shown)
    _check(declarations, shown)
    return FlowFile(full, full.parent, tuple(declarations))


def origin_of(path: Path, root: Path) -> str:
    """A flow file's origin: its path relative to the folder of `aero.toml` or `.aero`, with `/`.

    Raises:
        FlowFileError: The path is no text, and so cannot be recorded.
    """
    origin = Path(os.path.relpath(path.resolve(), root.resolve())).as_posix()
    if HALF.search(origin):
        raise FlowFileError(f"the path {origin!r} is not in UTF-8, and so cannot be recorded: rename it")
    return origin


def existing_file(path: Path, shown: str) -> Path:
    """A flow file's path without links.

    Args:
        path: The file.
        shown: How messages name it.

    Raises:
        FlowFileError: It is not there, or can be none.
    """
    if "\0" in shown:
        raise FlowFileError(f"cannot read {shown!r}: no file name holds a NUL character")
    try:
        full = path.resolve()
        mode = full.stat().st_mode
    except FileNotFoundError:
        advice = "`aero init` writes a first one"
        raise FlowFileError(f"there is no flow file {shown}: {advice}") from None
    except (OSError, ValueError, RuntimeError) as error:
        problem = getattr(error, "strerror", None) or error
        raise FlowFileError(f"cannot read {shown!r}: {problem}") from None
    if stat.S_ISDIR(mode):
        raise FlowFileError(f"{shown} is a folder: name the flow file in it")
    if not stat.S_ISREG(mode) or full.suffix != ".py":
        raise FlowFileError(f"{shown} is no Python file: a flow file's name ends in .py")
    return full


def _execute(code: CodeType, full: Path, shown: str) -> list[Declaration]:
    name = module_name(PurePosixPath(full.name))
    spec = importlib.util.spec_from_file_location(name, full)
    if spec is None:
        raise FlowFileError(f"{shown} is no Python file: a flow file's name ends in .py")
    with imports_from(full.parent), collecting() as declarations:
        # Known by its name while it runs: dataclasses look their module up there.
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            exec(code, module.__dict__)  # noqa: S102  a flow file is the user's own program
        except SystemExit as error:
            where = _where(error, full, shown)
            raise FlowFileError(
                f"{where} ends the program while it is read: put that below if __name__ == '__main__':"
            ) from None
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise FlowFileError(_explain(error, full, shown)) from error
        finally:
            sys.modules.pop(name, None)
    return declarations


def _explain(error: BaseException, full: Path, shown: str) -> str:
    """An exception as one line."""
    where = _where(error, full, shown)
    if isinstance(error, AeroError):
        return f"{where}: {error}"
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    lines = message.strip().splitlines() or [""]
    text = f"{where}: {type(error).__name__}: {lines[0][:_LONGEST]}".removesuffix(": ")
    if isinstance(error, ModuleNotFoundError):
        text += ": install it in the Python that runs aero, or put it beside the flow file"
    return text


def _where(error: BaseException, full: Path, shown: str) -> str:
    """The innermost line of the person's own code: in the flow file or in a module beside it."""
    places = []
    trace = error.__traceback__
    while trace is not None:
        places.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno or 1))
    for filename, line in reversed(places):
        path = Path(filename)
        if path == full:
            return f"{shown}:{line}"
        if path.is_relative_to(full.parent) and "site-packages" not in path.parts:
            return f"{Path(shown).parent / path.relative_to(full.parent)}:{line}"
    return shown


def _check(declarations: Sequence[Declaration], shown: str) -> None:
    if not declarations:
        raise FlowFileError(f"{shown} declares no flows: call ingest(...) or use @analysis(...)")
    flows: dict[str, int] = {}
    makers: dict[str, str] = {}
    for declaration in declarations:
        line = declaration.place.line
        if not declaration.drafts:
            raise FlowFileError(
                f"{shown}:{line}: {declaration.word}(...) is over no function: put one below it, or give a name"
            )
        for draft in declaration.drafts:
            name = draft.spec.name
            if name in flows:
                raise FlowFileError(
                    f"{shown}:{line}: flow {name!r} is declared twice, first in line "
                    f"{flows[name]}: give one of them another name"
                )
            flows[name] = line
            for output in draft.spec.outputs:
                if output.data in makers:
                    raise FlowFileError(
                        f"{shown}:{line}: data {output.data!r} would be made by both flow "
                        f"{makers[output.data]!r} and flow {name!r}: rename one of them"
                    )
                makers[output.data] = name
