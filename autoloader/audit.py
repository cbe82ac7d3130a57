"""An ingestion's audit for the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from autoloader.application import LOCAL_TENANT, Application
from domain.errors import NotFoundError
from domain.ingestions.entities import Ingestion
from domain.ledger.completeness import WRONG, Completeness, DifferenceKind
from domain.tenants import Principal, Role

_PAGE = 500


async def audit(application: Application, name: str) -> Completeness:
    """Of the local tenant's ingestion with this name. Nothing is changed. Raises `NotFoundError`, and what the comparison raises."""
    tenant = await application.directory.tenant_by_name(LOCAL_TENANT)
    if tenant is None:
        raise NotFoundError(f"ingestion {name!r}")
    principal = Principal(tenant, Role.OPERATOR, name="autoloader audit")
    ingestion = await _named(application, principal, name)
    return await application.services.completeness.audit(principal, ingestion.id)


async def _named(application: Application, principal: Principal, name: str) -> Ingestion:
    after = None
    while page := await application.services.ingestions.list_ingestions(principal, limit=_PAGE, after=after):
        for ingestion in page:
            if ingestion.name == name:
                return ingestion
        after = page[-1].id
    raise NotFoundError(f"ingestion {name!r}")


def show(console: Console, found: Completeness) -> None:
    console.print(
        f"{found.listed_files:,} files listed; {found.ledger_files:,} in the ledger, with {found.ledger_rows:,} rows; "
        f"{found.table_rows:,} rows in the table, of {found.table_files:,} files"
    )
    if found.run_active:
        console.print("A run is active: a difference may be one of moments.")
    if found.differences:
        table = Table("difference", "path", "status", "rows in the ledger", "rows in the table")
        for difference in found.differences:
            style = "red" if difference.kind in WRONG else None
            numbers = ["" if rows is None else f"{rows:,}" for rows in (difference.ledger_rows, difference.table_rows)]
            table.add_row(difference.kind, difference.path, difference.status or "", *numbers, style=style)
        console.print(table)
        console.print("; ".join(f"{kind}: {found.counts[kind]:,}" for kind in DifferenceKind if found.counts[kind]))
    colour, verdict = ("green", "holds") if found.consistent else ("red", "does not hold")
    console.print(f"[{colour}]The table {verdict} what the ledger says.[/]")
