"""Plain data to typed dataclasses, with one clear error per bad field."""

import reprlib
import types
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

from ebm_zoo.errors import CatalogError

NOT_IN_YAML = {"in_yaml": False}
"""Metadata of a dataclass field that is set by the program, never by a file."""


def build(kind: Any, data: Any, where: str) -> Any:
    """Check plain data against a type and build it.

    Args:
        kind: a dataclass, str, int, float, bool, ``list[T]``, ``tuple[T, ...]``, ``dict[str, T]`` or ``T | None``.
        data: what YAML gave.
        where: path of the field, for messages.

    Returns:
        The value, dataclasses built.

    Raises:
        CatalogError: naming the field, what it should be and what it is.
    """
    if isinstance(data, int) and abs(data) >= 2**63:
        raise CatalogError(f"{where} must be a number between -2**63 and 2**63.")
    if is_dataclass(kind):
        return _dataclass(kind, data, where)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if data is None else build(arguments[0], data, where)
    if origin in (list, tuple):
        return origin(build(arguments[0], item, f"{where}[{k}]") for k, item in enumerate(_expect(data, list, where)))
    if origin is dict:
        return {str(k): build(arguments[1], v, f"{where}.{k}") for k, v in _expect(data, dict, where).items()}
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    return _expect(data, kind, where)


def _dataclass(kind: Any, data: Any, where: str) -> Any:
    _expect(data, dict, where)
    known = {field.name: field for field in fields(kind) if field.metadata.get("in_yaml", True)}
    unknown = sorted(str(key) for key in set(data) - set(known))
    if unknown:
        raise CatalogError(f"{where} has the unknown field '{unknown[0]}'; it may have {', '.join(known)}.")
    hints = get_type_hints(kind)
    built = {}
    for name, field in known.items():
        if name in data:
            built[name] = build(hints[name], data[name], f"{where}.{name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise CatalogError(f"{where} lacks the field '{name}'.")
    try:
        return kind(**built)
    except ValueError as error:
        raise CatalogError(f"{where}.{error}.") from None


def _expect(data: Any, kind: type, where: str) -> Any:
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        # A few lines of YAML can describe a structure whose full text would fill the memory.
        shown = reprlib.repr(data)
        raise CatalogError(f"{where} must be of type {kind.__name__}, not {type(data).__name__} ({shown:.60}).")
    return data
