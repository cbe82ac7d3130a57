"""CSV files into parts: DuckDB reads them by header name, and its row counts are checked against ours.

Where the counts differ, or DuckDB rejects anything, the file is read again by Python's reader, row by row.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa

from domain.ingestions.entities import FormatSpec, SchemaEvolution
from domain.ingestions.formats import CsvOptions
from integrations.engines.embedded.batch_files import LoadFile
from integrations.engines.embedded.column_types import STRING, identifier, literal
from integrations.engines.embedded.content import FileContentError
from integrations.engines.embedded.csv_careful import careful_schema, careful_tables
from integrations.engines.embedded.csv_inference import infer_types, infer_types_by_file
from integrations.engines.embedded.csv_text import CsvFile, look_at, refuse_wrong_delimiter
from integrations.engines.embedded.parts import FILE, PATH, Part
from integrations.engines.embedded.row_rules import RowRules
from integrations.engines.embedded.target_columns import ColumnNamesError, TargetColumns
from integrations.engines.embedded.workspaces import Workspace

_LONGEST_LINE = 64 << 20


class CsvReader:
    """Reads the files of one load. All values come as text; the columns' types are taken from the whole batch."""

    def __init__(self, work: Workspace, format_: FormatSpec, target: TargetColumns, rules: RowRules, threads: int) -> None:
        self._work = work
        self._connection = work.connection
        self._options = CsvOptions.model_validate(dict(format_.options))
        self._target = target
        self._rules = rules
        self._threads = threads
        self._looked: dict[int, CsvFile] = {}
        self._names = (f"csv_{number}" for number in itertools.count())

    def read(self, files: Sequence[LoadFile]) -> tuple[list[Part], list[LoadFile]]:
        with ThreadPoolExecutor(self._threads, thread_name_prefix="csv") as pool:
            looked = list(pool.map(self._look, files))
        found = [csv_file for csv_file in looked if csv_file is not None]
        self._looked = {csv_file.file.index: csv_file for csv_file in found}
        parts: list[Part] = []
        doubtful = [csv_file for csv_file in found if csv_file.records is None]
        for alike in _by_header([csv_file for csv_file in found if csv_file.records is not None]):
            part, rest = self._quick(alike)
            parts += [part] if part else []
            doubtful += rest
        parts += self.read_carefully([csv_file.file for csv_file in doubtful])
        self._offer(parts)
        return parts, []

    def read_carefully(self, files: Sequence[LoadFile]) -> list[Part]:
        parts = []
        for alike in _by_header([self._looked[file.index] for file in files]):
            schema = careful_schema(alike[0].names)
            relation = next(self._names)
            self._connection.register("csv_rows", schema.empty_table())
            self._connection.execute(f"CREATE TEMP TABLE {relation} AS FROM csv_rows")
            for csv_file in alike:
                file = csv_file.file
                try:
                    for table in careful_tables(csv_file, self._options, keep_raw=self._rules.rescues):
                        self._work.check()
                        self._connection.register("csv_rows", table)
                        self._connection.execute(f"INSERT INTO {relation} FROM csv_rows")
                        file.rows_read += table.num_rows
                except FileContentError as error:
                    file.fail(str(error))
                    self._connection.execute(f"DELETE FROM {relation} WHERE {FILE} = {file.index}")
            self._connection.unregister("csv_rows")
            parts.append(self._part(relation, alike, careful=True))
        return parts

    def unreadable(self, files: Sequence[LoadFile]) -> dict[int, str]:
        """None: what cannot be read has failed while it was read."""
        return {}

    def _look(self, file: LoadFile) -> CsvFile | None:
        self._work.check()
        try:
            looked = look_at(file, self._options, self._work.folder, self._work.check)
            if looked is None:
                file.empty = True
                return None
            self._check_names(looked.names)
        except (FileContentError, ColumnNamesError) as error:
            file.fail(str(error))
        except OSError as error:
            file.fail(f"The file could not be read: {error.strerror}.", transient=True)
        else:
            return looked
        return None

    def _check_names(self, names: tuple[str, ...]) -> None:
        self._target.check_names(names)
        known = self._target.columns
        refuse_wrong_delimiter(names, names[0] in known, self._options)
        new = [name for name in names if name not in known]
        if new and not self._target.creating and self._rules.evolution is SchemaEvolution.FAIL_ON_NEW_COLUMNS:
            shown = ", ".join(f'"{name}"' for name in new)
            raise ColumnNamesError(f"The file has columns that the table does not have: {shown}.")

    def _quick(self, files: Sequence[CsvFile]) -> tuple[Part | None, list[CsvFile]]:
        """One part for files with the same header, and those of the files that DuckDB does not read as we count."""
        relation = next(self._names)
        try:
            rejected = self._read_csv(relation, files)
        except duckdb.Error:
            # Which file it was the error does not say: halve until the bad one stands alone.
            if len(files) == 1:
                return None, list(files)
            middle = len(files) // 2
            halves = [self._quick(half) for half in (files[:middle], files[middle:])]
            return self._one_part([part for part, _ in halves if part]), [file for _, rest in halves for file in rest]
        counts = dict(self._connection.execute(f"SELECT {FILE}, count(*) FROM {relation} GROUP BY 1").fetchall())
        doubtful = [item for item in files if str(item.path) in rejected or counts.get(item.file.index, 0) != item.records]
        for item in files:
            item.file.rows_read = counts.get(item.file.index, 0)
        for item in doubtful:
            item.file.rows_read = 0
        if doubtful:
            indexes = ", ".join(str(item.file.index) for item in doubtful)
            self._connection.execute(f"DELETE FROM {relation} WHERE {FILE} IN ({indexes})")
        kept = [item for item in files if item not in doubtful]
        return (self._part(relation, kept, careful=False) if kept else None), doubtful

    def _read_csv(self, relation: str, files: Sequence[CsvFile]) -> set[str]:
        """Read the files into a table; the paths of those with rejected rows."""
        options = self._options
        paths = pa.table({PATH: [str(item.path) for item in files], FILE: pa.array([item.file.index for item in files], pa.int32())})
        self._connection.register("csv_paths", paths)
        listed = ", ".join(literal(str(item.path)) for item in files)
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in files[0].names)
        self._connection.execute(
            f"CREATE TEMP TABLE {relation} AS SELECT {', '.join(map(self._read_value, files[0].names))}, csv_paths.{FILE}"
            f" FROM read_csv([{listed}], auto_detect = false, header = {options.header}, columns = {{{columns}}},"
            f" delim = {literal(options.delimiter)}, quote = {literal(options.quote)}, escape = {literal(options.escape)},"
            # No field outside of quotes is a line end, so there are no nulls yet: DuckDB would not mind a field too many that is one.
            f" nullstr = '\n', allow_quoted_nulls = false, strict_mode = true, null_padding = false, max_line_size = {_LONGEST_LINE},"
            f" store_rejects = true, rejects_table = '{relation}_errors', rejects_scan = '{relation}_scans', rejects_limit = 10000,"
            f" filename = '{PATH}') AS rows JOIN csv_paths USING ({PATH})"
        )
        rejected = self._connection.execute(
            f"SELECT DISTINCT file_path FROM {relation}_errors JOIN {relation}_scans USING (scan_id, file_id)"
        ).fetchall()
        self._connection.execute(f"DROP TABLE {relation}_errors")
        self._connection.execute(f"DROP TABLE {relation}_scans")
        return {path for (path,) in rejected}

    def _read_value(self, name: str) -> str:
        column = f"rows.{identifier(name)}"
        nulls = ", ".join(literal(value) for value in self._options.null_values)
        return f"CASE WHEN {column} NOT IN ({nulls}) THEN {column} END AS {identifier(name)}" if nulls else column

    def _one_part(self, parts: Sequence[Part]) -> Part | None:
        if len(parts) < 2:
            return parts[0] if parts else None
        relation = next(self._names)
        union = " UNION ALL BY NAME ".join(f"FROM {part.relation}" for part in parts)
        self._connection.execute(f"CREATE TEMP TABLE {relation} AS {union}")
        return Part(
            relation,
            parts[0].types,
            [file for part in parts for file in part.files],
            brought={index: names for part in parts for index, names in part.brought.items()},
        )

    def _part(self, relation: str, files: Sequence[CsvFile], *, careful: bool) -> Part:
        brought = {item.file.index: frozenset(item.names) for item in files}
        return Part(relation, dict.fromkeys(files[0].names, STRING), [item.file for item in files], careful=careful, brought=brought)

    def _offer(self, parts: Sequence[Part]) -> None:
        """Offer the columns of files that are still open, with types from all of their values."""
        relations: dict[str, list[str]] = defaultdict(list)
        known, hinted = self._target.columns, self._target.hints
        for part in parts:
            if any(file.is_open for file in part.files):
                for name in part.types:
                    relations[name].append(part.relation)
        inferable = {name: found for name, found in relations.items() if name not in known and name not in hinted}
        inferred = infer_types(self._connection, inferable) if self._target.takes_new_columns else {}
        for part in parts:
            files = [file for file in part.files if file.is_open]
            try:
                self._target.offer({name: inferred.get(name, known.get(name, STRING)) for name in part.types} if files else {})
            except ColumnNamesError as error:
                for file in files:
                    file.fail(str(error))
            if self._target.asks:
                self._tell_what_is_new(part)

    def _tell_what_is_new(self, part: Part) -> None:
        """Each file's own types of the columns that somebody has to decide on."""
        new = [name for name in part.types if name not in self._target.decided]
        by_file = infer_types_by_file(self._connection, part.relation, new)
        for file in part.files:
            file.asks_for = self._target.needs(by_file.get(file.index, {}))


def _by_header(files: Sequence[CsvFile]) -> list[list[CsvFile]]:
    groups: dict[tuple[str, ...], list[CsvFile]] = defaultdict(list)
    for item in files:
        groups[item.names].append(item)
    return list(groups.values())
