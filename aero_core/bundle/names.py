"""Which names a piece of Python binds, and which it looks up outside itself."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


def bound_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that get a value in the scope of these nodes.

    Inner functions and classes have scopes of their own.
    """
    found: set[str] = set()
    todo = list(nodes)
    while todo:
        node = todo.pop()
        if isinstance(node, Definition):
            found.add(node.name)
        elif isinstance(node, _Comprehension):
            # `:=` within a comprehension binds outside of it.
            todo += [part.target for part in ast.walk(node) if isinstance(part, ast.NamedExpr)]
        elif not isinstance(node, ast.Lambda):
            if name := _bound_by(node):
                found.add(name)
            todo += ast.iter_child_nodes(node)
    return found


def _bound_by(node: ast.AST) -> str | None:
    if isinstance(node, ast.Name):
        return None if isinstance(node.ctx, ast.Load) else node.id
    if isinstance(node, ast.alias):
        return None if node.name == "*" else node.asname or node.name.partition(".")[0]
    if isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
        return node.name
    return node.rest if isinstance(node, ast.MatchMapping) else None


def free_names(node: ast.AST, left_out: Collection[int]) -> set[str]:
    """Names that a node looks up outside itself.

    Args:
        node: A statement or expression.
        left_out: `id` of nodes within it that do not count.
    """
    return set(_free(node, frozenset(), left_out))


def _free(node: ast.AST, local: frozenset[str], left_out: Collection[int]) -> Iterator[str]:
    if id(node) in left_out:
        return
    if isinstance(node, ast.Name):
        if not isinstance(node.ctx, ast.Store) and node.id not in local:
            yield node.id
    elif isinstance(node, _Function):
        yield from _free_of_function(node, local, left_out)
    elif isinstance(node, _Comprehension):
        inner = local | bound_names(part.target for part in node.generators)
        yield from _free(node.generators[0].iter, local, left_out)
        outside = {*left_out, id(node.generators[0].iter)}
        for child in ast.iter_child_nodes(node):
            yield from _free(child, inner, outside)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _free(child, local, left_out)


def _free_of_function(node: _Function, local: frozenset[str], left_out: Collection[int]) -> Iterator[str]:
    body = node.body if isinstance(node.body, list) else [node.body]
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    given += [part for part in (node.args.vararg, node.args.kwarg) if part is not None]
    shared = _declared_global(body)
    yield from shared
    inner = (local | {part.arg for part in given} | bound_names(body)) - shared
    for type_parameter in getattr(node, "type_params", ()):
        inner |= {type_parameter.name}
    # Decorators, defaults and annotations are read outside, where the parameters do not exist.
    for child in ast.iter_child_nodes(node):
        yield from _free(child, inner if child in body else local, left_out)


def _declared_global(body: Iterable[ast.AST]) -> frozenset[str]:
    found: set[str] = set()
    todo = list(body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Global):
            found |= set(node.names)
        elif not isinstance(node, (*Definition.__args__, ast.Lambda)):
            todo += ast.iter_child_nodes(node)
    return frozenset(found)
