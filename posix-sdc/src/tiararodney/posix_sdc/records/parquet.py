"""Parquet with the published columns, in and out. Needs pyarrow (the extra ``parquet``).

On the way out a list of one fixed shape (`turns`, `reference_solution`) is an Arrow list, so that readers of the data
set can use it as it is; what is nested and open (`environment`, `provider`, `announcement`, `directives`, `fixtures`,
`checker`, and `meta`) is a JSON string: an Arrow struct would give every row the keys of all others. Keys that are not
published columns come last: a trajectory's `keep`, `steps`, `meta` and `train` (for every turn whether it may be a
target of training; `turns` keeps its published shape), and one JSON object `extra` of all the rest.
On the way in every nested field may be an Arrow struct, list or map, or a JSON string.
"""

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING, Any, Self

from tiararodney.posix_sdc.errors import SchemaError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

# The published data set's columns, in its order; which kind of record has which.
COLUMNS = (
    "id",
    "version",
    "archetype",
    "terminal",
    "split",
    "environment",
    "workdir",
    "generator_model",
    "provider",
    "announcement",
    "directives",
    "fixtures",
    "checker",
    "reference_solution",
    "quarantine",
    "scenario_id",
    "verified",
    "outcome",
    "operator_model",
    "turns",
)
_SHARED = ("id", "version", "archetype", "terminal", "split")
_SESSIONS_ONLY = ("scenario_id", "verified", "outcome", "operator_model", "turns")
TRAIN = "train"
_OWN = ("keep", "steps", "meta", TRAIN)
EXTRA = "extra"
KINDS: Mapping[str, tuple[str, ...]] = {
    "scenarios": tuple(c for c in COLUMNS if c not in _SESSIONS_ONLY),
    "trajectories": tuple(c for c in COLUMNS if c in (*_SHARED, *_SESSIONS_ONLY)) + _OWN,
}
_OPEN = ("environment", "provider", "announcement", "directives", "fixtures", "checker", "meta")
_INSTALL = "Install it: pip install 'tiararodney.posix-sdc[parquet]'."
_ROWS = 256  # a row group


def require() -> None:
    """Refuse to go on without pyarrow.

    Raises:
        UsageError: it is not installed; the message says how to.
    """
    try:
        import pyarrow.parquet  # noqa: F401 - asked for here, used below
    except ImportError:
        raise UsageError(f"parquet needs pyarrow, which is not installed. {_INSTALL}") from None


class Writer:
    """Writes records to one file, in flat memory; the file is complete once this is left.

    Args:
        path: the file.
        kind: ``scenarios`` or ``trajectories``.
    """

    def __init__(self, path: Path, kind: str) -> None:
        require()
        import pyarrow.parquet as pq

        self._kind, self._schema = kind, _schema(kind)
        self._file = pq.ParquetWriter(path, self._schema, compression="zstd")
        self._group: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def write(self, item: Mapping[str, Any]) -> None:
        """Write one record, given as JSON values (`to_json`)."""
        self._group.append(_flat(self._kind, item))
        if len(self._group) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self._file.write_table(pa.Table.from_pylist(self._group, self._schema))
        self._group = []

    def __exit__(self, *_: object) -> None:
        if self._group:
            self._flush()
        self._file.close()


def write(path: Path, kind: str, items: Iterable[Mapping[str, Any]]) -> int:
    """Write records, in flat memory.

    Args:
        path: the file; it is not complete before this returns.
        kind: ``scenarios`` or ``trajectories``.
        items: records as JSON values (`to_json`).

    Returns:
        How many rows were written.
    """
    written = 0
    with Writer(path, kind) as file:
        for written, item in enumerate(items, 1):  # noqa: B007 - the count is what is returned
            file.write(item)
    return written


def _schema(kind: str) -> Any:
    import pyarrow as pa

    special = {
        "reference_solution": pa.list_(pa.string()),
        "turns": pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])),
        "verified": pa.bool_(),
        "keep": pa.bool_(),
        "steps": pa.int64(),
        TRAIN: pa.list_(pa.bool_()),
    }
    return pa.schema([(name, special.get(name, pa.string())) for name in (*KINDS[kind], EXTRA)])


def _flat(kind: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as a row: nested fields as JSON strings, unknown keys as one."""
    names = KINDS[kind]
    if TRAIN in names:
        turns = item["turns"]
        item = {
            **item,
            "turns": [{"role": turn["role"], "content": turn["content"]} for turn in turns],
            TRAIN: [turn.get("train", True) for turn in turns],
        }
    row: dict[str, Any] = {name: _json(item[name]) if name in _OPEN else item[name] for name in names}
    row[EXTRA] = _json({k: v for k, v in item.items() if k not in names})
    return row


def _json(value: object) -> str:
    # Bytes that were no text live on as lone surrogates, which only an escape can carry through UTF-8.
    text = json.dumps(value, ensure_ascii=False)
    return text if _encodable(text) else json.dumps(value)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def rows(file: Path) -> Iterator[tuple[str, object]]:
    """Yield ``(source, row)`` of a parquet file, `source` naming file and row, in flat memory.

    Raises:
        SchemaError: there is no pyarrow, or the file is no readable parquet.
    """
    try:
        import pyarrow.parquet as pq
    except ImportError:
        raise SchemaError(str(file), "", "a parquet file, but no pyarrow", "pyarrow to read it", _INSTALL) from None
    n = 0
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=64):
                for row in batch.to_pylist():
                    n += 1
                    source = f"{file}: row {n}"
                    yield source, _row(row, source)
    except (OSError, ValueError, NotImplementedError) as error:
        raise SchemaError(str(file), "", f"no readable parquet ({error})", "a parquet file") from None


def _row(row: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return a row as the record that was written: plain values, `extra` as the keys it holds."""
    record = {name: _plain(value) for name, value in row.items()}
    extra = record.pop(EXTRA, None)
    if isinstance(extra, str):
        try:
            extra = json.loads(extra)
        except ValueError:
            extra = extra or None
    if extra is not None and not isinstance(extra, dict):
        raise SchemaError(source, EXTRA, f"{type(extra).__name__} {extra!r:.60}", "a JSON object of further keys")
    _flag(record, source)
    return (extra or {}) | record


def _flag(record: dict[str, Any], source: str) -> None:
    """Put the flags of the column `train` into the turns that they belong to."""
    flags, turns = record.get(TRAIN), record.get("turns")
    if isinstance(turns, str):
        with contextlib.suppress(ValueError):
            turns = json.loads(turns)
    if not isinstance(flags, list) or not isinstance(turns, list):
        return
    if len(flags) != len(turns):
        raise SchemaError(source, TRAIN, f"{len(flags)} flags", f"one for each of the {len(turns)} turns")
    del record[TRAIN]
    record["turns"] = [
        turn if flag in (None, True) or not isinstance(turn, dict) else {**turn, "train": flag}
        for turn, flag in zip(turns, flags, strict=True)
    ]


def _plain(value: Any) -> Any:
    """Turn Arrow's values into JSON's: a map comes as a list of pairs, a missing number may be NaN."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(v, tuple) for v in value):
            return {str(k): _plain(v) for k, v in value}
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
