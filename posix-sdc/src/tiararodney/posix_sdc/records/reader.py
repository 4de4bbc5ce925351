"""Typed fields out of decoded JSON: what cannot be taken is refused by file and field, found and expected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar, cast

from tiararodney.posix_sdc.errors import SchemaError

T = TypeVar("T")
_SHOWN = 60  # characters of a value in a message


def show(value: object) -> str:
    """Name a value's type and its beginning, for messages."""
    if value is None:
        return "nothing"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}"


class Reader:
    """Takes typed fields out of one JSON object and remembers which keys it was asked for.

    Args:
        data: the decoded object, or a JSON string of one (the published parquet may hold either).
        source: file and line, for messages.
        at: dotted path of this object inside the record, empty for the record itself.
    """

    def __init__(self, data: object, source: str, at: str = "") -> None:
        data = decoded(data)
        if not isinstance(data, Mapping):
            raise SchemaError(source, at, show(data), "a JSON object")
        self.data: Mapping[str, Any] = data
        self.source, self.at = source, at
        self.seen: set[str] = set()

    def path(self, name: str) -> str:
        """Return the dotted path of a field of this object."""
        return f"{self.at}.{name}" if self.at else name

    def refuse(self, name: str, expected: str, remedy: str = "") -> SchemaError:
        """Build the error for a field; the caller raises it."""
        return SchemaError(self.source, self.path(name), show(self.data.get(name)), expected, remedy)

    def raw(self, name: str, *, synonyms: Sequence[str] = ()) -> object:
        """Return a field as it stands, None where it is absent."""
        for key in (name, *synonyms):
            self.seen.add(key)
            if self.data.get(key) is not None:
                return cast("object", self.data[key])
        return None

    def text(self, name: str, default: str | None = None, *, synonyms: Sequence[str] = ()) -> str:
        """Return a string field; numbers are taken as their text."""
        value = self.raw(name, synonyms=synonyms)
        if value is None and default is not None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self.refuse(name, "a string")
        return value

    def choice(self, name: str, among: Sequence[str], default: str | None = None) -> str:
        """Return a string field that must be one of a closed set."""
        value = self.text(name, default)
        if value not in among:
            raise self.refuse(name, "one of " + ", ".join(repr(x) for x in among))
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean field."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def number(self, name: str, default: int, *, below: int) -> int:
        """Return a field that is a whole number of at least 0."""
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < below:
            raise self.refuse(name, f"a whole number from 0 to {below - 1}")
        return value

    def items(self, name: str) -> list[object]:
        """Return a list field, empty where it is absent; a JSON string of a list is taken too."""
        value = decoded(self.raw(name))
        if value is None:
            return []
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
            raise self.refuse(name, "a list")
        return list(value)

    def strings(self, name: str) -> tuple[str, ...]:
        """Return a list of strings."""
        values = self.items(name)
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise SchemaError(self.source, f"{self.path(name)}[{i}]", show(value), "a string")
        return tuple(cast("list[str]", values))

    def mapping(self, name: str) -> dict[str, str]:
        """Return an object of strings, empty where it is absent."""
        value = decoded(self.raw(name))
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.refuse(name, "an object of strings")
        # Arrow structs hold every key any row has, with null where this row has none.
        return {str(k): str(v) for k, v in value.items() if v is not None}

    def rest(self) -> dict[str, Any]:
        """Return the keys nobody asked for, without nulls, which Arrow structs have where a row lacks a key."""
        return {k: _without_nulls(v) for k, v in self.data.items() if k not in self.seen and v is not None}

    def record(self, cls: Callable[..., T], **known: object) -> T:
        """Return a record of this object: each field is read by its annotation, unknown keys go into ``extra``.

        A field without a default is required, unless its metadata has one under ``default``. Metadata also holds
        ``among``, the strings that it may be, and ``below``, the end of a number's range.

        Args:
            cls: the class of the record, a dataclass.
            known: fields that the caller has read.
        """
        read = dict(known)
        for f in fields(cls):  # type: ignore[arg-type] # a dataclass is a callable, too
            if f.name in known or f.name == "extra":
                continue
            default = f.metadata.get("default", None if f.default is MISSING else f.default)
            if f.type == "bool":
                read[f.name] = self.flag(f.name, default)
            elif f.type == "int":
                read[f.name] = self.number(f.name, default, below=f.metadata["below"])
            elif f.type == "Mapping[str, str]":
                read[f.name] = self.mapping(f.name)
            elif f.type == "tuple[str, ...]":
                read[f.name] = self.strings(f.name)
            elif "among" in f.metadata:
                read[f.name] = self.choice(f.name, f.metadata["among"], default)
            else:
                read[f.name] = self.text(f.name, default)
        return cls(**read, extra=self.rest())


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return [_without_nulls(v) for v in value] if isinstance(value, list | tuple) else value


def decoded(value: object) -> object:
    """Decode a JSON string of an object or list; anything else is returned as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return cast("object", json.loads(value))
        except ValueError:
            return value
    return value


def plain(value: Any) -> Any:
    """Turn records, tuples and mappings into what `json.dumps` takes, `extra` keys flattened in."""
    if hasattr(value, "__dataclass_fields__"):
        given = {f.name: getattr(value, f.name) for f in fields(value) if f.name != "extra"}
        seldom = {f.name for f in fields(value) if f.metadata.get("seldom") and given[f.name] == f.default}
        out = {name: plain(v) for name, v in given.items() if name not in seldom}
        return out | dict(getattr(value, "extra", {}))
    if isinstance(value, Mapping):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value
