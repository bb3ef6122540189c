"""Filter expressions over the keys of a config: ``training.batch_size * training.max_length <= 1``.

They are read with `ast` and worked out here, node by node: nothing is ever passed to ``eval``.
"""

import ast
import operator
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pipeline.common.errors import ConfigError
from pipeline.common.text import cut

# A filter is worked out for up to 100,000 points, so each must be short work.
MOST_CHARACTERS = 2_000
MOST_PARTS = 200
MOST_DEPTH = 100  # of parts in parts
MOST_BITS = 1_024  # of a whole number; a float ends there, too


def _power(base: float, exponent: float) -> Any:
    bits = base.bit_length() * exponent if isinstance(base, int) else 0
    return base**exponent if bits <= MOST_BITS else float(base) ** exponent


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, values: value in values,
    ast.NotIn: lambda value, values: value not in values,
}
_WORDS = {"true": True, "false": False}  # as YAML writes them
_GRAMMAR = "keys, numbers, 'texts', + - * / // % **, comparisons, in [..], and, or, not, ( )"


@dataclass(frozen=True)
class Filter:
    """An expression that a point must not make false.

    A key that is null, or that the point does not have, makes what is said of it neither true nor
    false (Kleene's logic); only what is false is left out.
    """

    text: str
    # Values of keys that no trial sets, and those that come with a choice: (key, value) -> values.
    known: Mapping[str, Any] = field(default_factory=dict, hash=False)
    chosen: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict, hash=False)

    @property
    def keys(self) -> list[str]:
        """The keys that the expression reads, in their order."""
        return list(dict.fromkeys(_keys(_parse(self.text))))

    def allows(self, settings: Mapping[str, Any], pending: Collection[str] = ()) -> bool:
        """Whether a point, or any that it can still become by its pending keys, may be tried.

        Raises:
            ConfigError: where the expression cannot be worked out for these values.
        """

        def value_of(key: str) -> Any:
            if key in pending:
                return None
            if key in settings:
                return settings[key]
            for choice in settings.items():
                values = self.chosen.get((choice[0], str(choice[1])), {})
                if key in values:
                    return values[key]
            return self.known.get(key)

        try:
            return _truth(_value(_parse(self.text), value_of)) is not False
        except (TypeError, ValueError, ArithmeticError) as error:
            point = cut(", ".join(f"{key}={value_of(key)}" for key in self.keys))
            is_large = isinstance(error, OverflowError)
            reason = f"a number of more than {MOST_BITS:,} bits" if is_large else error
            where = f" for {point}" if point else ""
            raise ConfigError(f"{self}: cannot be worked out{where}: {reason}.") from error

    def __str__(self) -> str:
        return _place(self.text)


def read_filter(text: Any) -> Filter:
    """Read an expression.

    Raises:
        ConfigError: for what is no expression, or has parts that a filter does not know.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{_place(text)}: expected an expression in quotes.")
    joined = " ".join(text.split())
    _parse(joined)
    return Filter(joined)


def _place(text: Any) -> str:
    return f"hydra.sweeper.filter={cut(text)}"


@lru_cache(maxsize=16)
def _parse(text: str) -> ast.expr:
    _check_length(text, "characters", len(text), MOST_CHARACTERS)
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        place = error.offset if isinstance(error, SyntaxError) else None
        where = f" at character {place}" if place else ""
        raise ConfigError(
            f"{_place(text)}: not an expression{where}. It may have {_GRAMMAR}."
        ) from error
    _check_size(text, tree)
    for part in _refused(tree):
        raise ConfigError(
            f"{_place(text)}: {cut(ast.unparse(part))} has no place in a filter. It may "
            f"have {_GRAMMAR}."
        )
    return tree


def _check_size(text: str, tree: ast.expr) -> None:
    level: list[ast.AST] = [tree]
    depth = parts = 0
    while level:  # not by recursion, which is what is bounded here
        depth, parts = depth + 1, parts + len(level)
        inner = (child for node in level for child in ast.iter_child_nodes(node))
        level = [child for child in inner if isinstance(child, ast.expr)]
    _check_length(text, "keys, values and operations", parts, MOST_PARTS)
    _check_length(text, "levels of operations in operations", depth, MOST_DEPTH)


def _check_length(text: str, what: str, found: int, most: int) -> None:
    if found > most:
        raise ConfigError(f"{_place(text)}: {found:,} {what}; expected at most {most:,}.")


def _refused(node: ast.expr) -> Iterator[ast.expr]:
    """Yield the parts that are not on the list of what a filter may have."""
    match node:
        case ast.BoolOp(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts):
            pass
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=part):
            parts = [part]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            parts = [left, right]
        case ast.Compare(left=left, ops=ops, comparators=others) if all(
            type(op) in _COMPARISONS for op in ops
        ):
            parts = [left, *others]
        case ast.Constant(value=bool() | int() | float() | str()):
            parts = []
        case ast.Name() | ast.Attribute() if _key(node) is not None:
            parts = []
        case _:
            yield node
            return
    for part in parts:
        yield from _refused(part)


def _key(node: ast.expr) -> str | None:
    """Return the dotted key that a chain of attributes writes."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = _key(node.value)
        return None if owner is None else f"{owner}.{node.attr}"
    return None


def _keys(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name | ast.Attribute):
        key = _key(node)
        if key is not None and key not in _WORDS:
            yield key
        return
    for child in ast.iter_child_nodes(node):
        yield from _keys(child)


def _value(node: ast.expr, value_of: Callable[[str], Any]) -> Any:
    """Work out a part; None is what nobody can tell."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name() | ast.Attribute():
            key = _key(node)
            assert key is not None
            return _WORDS[key] if key in _WORDS else value_of(key)
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            values = [_value(part, value_of) for part in parts]
            return None if None in values else values
        case ast.BoolOp(op=op, values=parts):
            decisive = isinstance(op, ast.Or)
            unknown = False
            for part in parts:  # what comes after a decisive part is not looked at
                truth = _truth(_value(part, value_of))
                if truth is decisive:
                    return decisive
                unknown = unknown or truth is None
            return None if unknown else not decisive
        case ast.UnaryOp(op=ast.Not(), operand=part):
            truth = _truth(_value(part, value_of))
            return None if truth is None else not truth
        case ast.UnaryOp(op=op, operand=part):
            value = _number(_value(part, value_of))
            return -value if value is not None and isinstance(op, ast.USub) else value
        case ast.BinOp(left=left, op=op, right=right):
            one, other = _number(_value(left, value_of)), _number(_value(right, value_of))
            known = one is not None and other is not None
            return _number(_ARITHMETIC[type(op)](one, other)) if known else None
        case ast.Compare(left=left, ops=ops, comparators=others):
            operands = [_value(part, value_of) for part in (left, *others)]
            pairs = zip(ops, operands, operands[1:], strict=False)
            results = [_compared(op, one, other) for op, one, other in pairs]
            return False if False in results else None if None in results else True
    raise AssertionError(ast.dump(node))


def _compared(op: ast.cmpop, one: Any, other: Any) -> bool | None:
    if one is None or other is None:
        return None
    if isinstance(op, ast.In | ast.NotIn) and not isinstance(other, list):
        raise TypeError(f"{cut(repr(other))} after in is no list")
    return _COMPARISONS[type(op)](one, other)


def _truth(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise TypeError(f"{cut(repr(value))} is neither true nor false")


def _number(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise OverflowError
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise TypeError(f"{cut(repr(value))} is no number")
