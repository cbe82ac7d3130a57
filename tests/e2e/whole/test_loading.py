"""Files in S3 become rows of Iceberg tables, by all that an installation has."""

from __future__ import annotations

import pytest

from tests.fixtures.whole_stack import Whole, lines


@pytest.mark.scenario(122)
async def test_files_in_s3_become_rows_of_an_iceberg_table(whole: Whole) -> None:
    written = {f"day={day}/{part}.json": [{"id": 10 * day + part, "note": f"{day}/{part} é"}] for day in (1, 2) for part in (1, 2)}
    for key, rows in written.items():
        whole.land(key, lines(rows))
    id = await whole.create()

    run = await whole.run(id)

    assert (run["status"], run["filesDiscovered"], run["filesProcessed"], run["rowsWritten"]) == ("SUCCESS", 4, 4, 4)
    expected = [{**row, "_source_file": whole.path(key)} for key, rows in written.items() for row in rows]
    assert sorted(await whole.rows("id", "note", "_source_file"), key=lambda row: row["id"]) == expected
    # What is there is not loaded twice.
    again = await whole.run(id)
    assert (again["status"], again["filesDiscovered"], again["rowsWritten"]) == ("NO_NEW_FILES", 0, 0)
    assert len(await whole.rows("id")) == 4
