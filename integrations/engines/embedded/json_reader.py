"""JSON files into parts: quickly where that is exact, carefully where it is not."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import pyarrow as pa

from domain.ingestions.entities import BadRowPolicy, FormatSpec, SchemaEvolution
from domain.ingestions.formats import Compression, JsonLayout, JsonOptions
from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.embedded.content import BLOCK_BYTES, FileContentError, compression_of, read_blocks
from integrations.engines.embedded.json_arrays import array_elements_as_lines
from integrations.engines.embedded.json_careful import CarefulRows, Line, Survey, lines_of, survey
from integrations.engines.embedded.json_quick import Block, NotCleanError, parse_clean, quick_schema
from integrations.engines.embedded.parts import FILE, Part
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.target_columns import ColumnNamesError, TargetColumns
from integrations.engines.embedded.workspaces import Workspace

WAVE_BYTES = 256 << 20
"""About this much text is parsed at once; earlier waves wait inside DuckDB, which spills to disk."""
_SAMPLE_LINES = 2_000


class JsonReader:
    """Reads the files of one load. `read` first, then `read_carefully` for the files that `read` or the policies doubt."""

    def __init__(self, work: Workspace, format_: FormatSpec, target: TargetColumns, rules: RowRules, threads: int) -> None:
        self._work = work
        self._connection = work.connection
        self._options = JsonOptions.model_validate(dict(format_.options))
        self._target = target
        self._rules = rules
        self._threads = threads
        self._plain_lines = self._options.layout is not JsonLayout.ARRAY
        self._doubtful: set[int] = set()
        self._arrays: set[int] = set()
        self._learning = threading.Lock()
        self._surveyed = not target.creating and rules.evolution is not SchemaEvolution.IGNORE
        self._names = (f"json_{number}" for number in itertools.count())

    def read(self, files: Sequence[LoadFile]) -> tuple[list[Part], list[LoadFile]]:
        parts: list[Part] = []
        fresh: list[Part] = []
        with ThreadPoolExecutor(self._threads, thread_name_prefix="json") as pool:
            for wave in _waves(self._blocks(files)):
                parts += [self._kept(part) for part in fresh]
                fresh = self._parts(self._parsed(wave, pool), files)
        doubtful = [file for file in files if file.index in self._doubtful and file.is_open]
        for file in doubtful:
            file.rows_read = 0
        return parts + fresh, doubtful

    def read_carefully(self, files: Sequence[LoadFile]) -> list[Part]:
        for file in files:
            self._work.check()
            self._take_or_fail(file)
        parts = []
        rows = CarefulRows(self._target, self._rules)
        for unit, of_unit in (("Line", False), ("Row", True)):
            readable = [file for file in files if file.is_open and (file.index in self._arrays) is of_unit]
            if readable:
                parts.append(self._careful_part(rows, readable, unit))
        return parts

    def unreadable(self, files: Sequence[LoadFile]) -> dict[int, str]:
        """None: what cannot be read has failed while it was read."""
        return {}

    def _careful_part(self, rows: CarefulRows, files: Sequence[LoadFile], unit: str) -> Part:
        relation = next(self._names)
        self._connection.register("json_rows", rows.schema.empty_table())
        self._connection.execute(f"CREATE TEMP TABLE {relation} AS FROM json_rows")
        for file in files:
            try:
                for table in rows.tables(file, lines_of(self._content(file))):
                    self._work.check()
                    self._connection.register("json_rows", table)
                    self._connection.execute(f"INSERT INTO {relation} FROM json_rows")
                    file.rows_read += table.num_rows
            except FileContentError as error:
                file.fail(str(error))
        self._connection.unregister("json_rows")
        return Part(relation, rows.types, files, careful=True, unit=unit)

    def _take_or_fail(self, file: LoadFile) -> None:
        """Offer what the file brings to the target, or fail it for what no policy can mend."""
        unit = "Row" if file.index in self._arrays else "Line"
        try:
            found = survey(lines_of(self._content(file)), self._target, unit=unit)
            problem = found.names_problem or self._problem(found)
            if problem is None:
                self._target.offer(found.types)
                file.asks_for = self._target.needs(found.types)
            else:
                file.fail(problem)
        except (FileContentError, ColumnNamesError) as error:
            file.fail(str(error))

    def _problem(self, found: Survey) -> str | None:
        if not found.bad_lines:
            return None
        if not found.rows:
            return f"The file holds no JSON object. {found.first_problem}"
        if found.cut_short:
            return f"The file is truncated: it ends in the middle of a row. {found.last_problem}"
        if self._rules.bad_rows is BadRowPolicy.FAIL_FILE:
            more = found.bad_lines - 1
            return f"{found.first_problem}" + (f" ({more} more bad {'row' if more == 1 else 'rows'}.)" if more else "")
        return None

    def _blocks(self, files: Iterable[LoadFile]) -> Iterator[Block]:
        for file in files:
            self._work.check()
            if (lines := self._whole(file)) is not None:
                yield Block(file, lines)
                continue
            content = False
            try:
                for data in self._content(file):
                    content = True
                    if file.index in self._doubtful:
                        break
                    yield Block(file, data if data.endswith(b"\n") else data + b"\n")
            except FileContentError as error:
                file.fail(str(error))
            except OSError as error:
                file.fail(f"The file could not be read: {error.strerror}.", transient=True)
            if not content and file.is_open:
                file.empty = True

    def _whole(self, file: LoadFile) -> bytes | None:
        """All of a file that is small and plainly lines; None for every other. Most files are, and this costs them little."""
        if file.size_bytes > BLOCK_BYTES or not self._plain_lines:
            return None
        try:
            if compression_of(file.local, self._options.compression) is not Compression.NONE:
                return None
            with open(file.local, "rb", buffering=0) as content:
                data = content.read(file.size_bytes + 1)
        except OSError:
            return None
        if not data.startswith(b"{") or len(data) > file.size_bytes:
            return None
        return data if data.endswith(b"\n") else data + b"\n"

    def _content(self, file: LoadFile) -> Iterator[bytes]:
        """The file's lines; of an array, a line for each element. Nothing for a file with nothing but white space."""
        blocks = self._while_wanted(read_blocks(file.local, compression_of(file.local, self._options.compression)))
        first = next((block for block in blocks if not block.isspace()), None)
        if first is None:
            return
        blocks = itertools.chain([first], blocks)
        layout = self._options.layout
        if layout is JsonLayout.ARRAY or (layout is JsonLayout.AUTO and first.lstrip()[:1] == b"["):
            self._arrays.add(file.index)
            # An array without elements is content, too.
            blocks = itertools.chain(array_elements_as_lines(blocks), [b""])
        yield from blocks

    def _while_wanted(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self._work.check()
            yield block

    def _parsed(self, chunks: Iterable[list[Block]], pool: ThreadPoolExecutor) -> list[pa.Table]:
        tables: list[pa.Table] = []
        pending: list[Future[list[pa.Table]]] = []
        for chunk in chunks:
            if not self._surveyed:
                self._surveyed = True
                self._learn(chunk[0], self._version())
            pending.append(pool.submit(self._parse, chunk))
            if len(pending) > 2 * self._threads:
                tables += pending.pop(0).result()
        for future in pending:
            tables += future.result()
        return tables

    def _parse(self, chunk: list[Block]) -> list[pa.Table]:
        """The clean blocks of a chunk as tables; the files of the others are in doubt.

        Blocks with a line that is plainly no object are taken out at once. What else is not clean is halved until a block stands
        alone. So the cost grows with the bad blocks, and not with the chunk.
        """
        tables: list[pa.Table] = []
        groups = [chunk]
        while groups:
            group = [block for block in groups.pop() if block.file.index not in self._doubtful]
            if not group:
                continue
            version = self._version()
            try:
                tables.append(self._clean(group))
            except NotCleanError as error:
                if len(group) > 1 and error.bad:
                    bad = set(error.bad)
                    groups += [[group[place]] for place in error.bad]
                    groups.append([block for place, block in enumerate(group) if place not in bad])
                elif len(group) > 1:
                    middle = len(group) // 2
                    groups += [group[middle:], group[:middle]]
                elif self._learn(group[0], version):
                    groups.append(group)
                else:
                    self._doubtful.add(group[0].file.index)
        return tables

    def _clean(self, blocks: list[Block]) -> pa.Table:
        schema = quick_schema(self._target.columns, self._target.empty)
        if schema is None:
            raise NotCleanError
        ignores = self._rules.evolution is SchemaEvolution.IGNORE and not self._target.creating
        return parse_clean(blocks, schema, check_unknown=self._are_names_possible if ignores else None)

    def _are_names_possible(self, found: pa.Schema) -> bool:
        try:
            self._target.check_types({field.name: field.type for field in found})
        except ColumnNamesError:
            return False
        return True

    def _version(self) -> tuple[dict[str, pa.DataType], frozenset[str]]:
        return self._target.columns, self._target.empty

    def _learn(self, block: Block, version: tuple[dict[str, pa.DataType], frozenset[str]]) -> bool:
        """Offer what a block brings to the target; whether the target has changed since `version`."""
        with self._learning:
            for limit in (_SAMPLE_LINES, None):
                if self._version() != version:
                    return True
                lines: Iterable[Line] = itertools.islice(lines_of([block.data]), limit)
                found = survey(lines, self._target)
                if found.bad_lines or found.names_problem:
                    return False
                with suppress(ColumnNamesError):
                    self._target.offer(found.types)
            return self._version() != version

    def _parts(self, tables: Sequence[pa.Table], files: Sequence[LoadFile]) -> list[Part]:
        by_schema: dict[pa.Schema, list[pa.Table]] = defaultdict(list)
        for table in tables:
            by_schema[table.schema].append(table)
        parts = []
        for schema, alike in by_schema.items():
            relation = next(self._names)
            table = pa.concat_tables(alike)
            self._connection.register(relation, table)
            types = {field.name: field.type for field in schema if field.name != FILE}
            counts = table.column(FILE).value_counts()
            counted = {item["values"]: item["counts"] for item in counts.to_pylist()}
            in_part = [file for file in files if file.index in counted]
            for file in in_part:
                file.rows_read += counted[file.index]
            parts.append(Part(relation, types, in_part))
        return parts

    def _kept(self, part: Part) -> Part:
        """The part inside DuckDB, where it can spill to disk, instead of in Arrow's memory."""
        relation = next(self._names)
        self._connection.execute(f"CREATE TEMP TABLE {relation} AS FROM {part.relation}")
        self._connection.unregister(part.relation)
        return Part(relation, part.types, part.files)


def _waves(blocks: Iterator[Block]) -> Iterator[Iterator[list[Block]]]:
    """Chunks of blocks, in waves; a wave is to be used up before the next."""
    chunks = _chunks(blocks)
    for first in chunks:
        yield itertools.chain([first], itertools.islice(chunks, WAVE_BYTES // BLOCK_BYTES - 1))


def _chunks(blocks: Iterator[Block]) -> Iterator[list[Block]]:
    chunk: list[Block] = []
    size = 0
    for block in blocks:
        if chunk and size + len(block.data) > BLOCK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(block)
        size += len(block.data)
    if chunk:
        yield chunk
