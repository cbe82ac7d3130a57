"""What a field costs, declared beside it and shown in the schema."""

from __future__ import annotations

import strawberry
from strawberry.schema_directive import Location


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    description=(
        "What the field costs once, before what is asked for below it. Fields without it cost 1 when they lead to an object, and a"
        " tenth otherwise; what lies below a connection's edges or nodes costs as often as the page is long."
    ),
)
class Cost:
    weight: int = strawberry.directive_field(name="weight")


COUNTED = Cost(weight=10)
"""A count over everything that a filter passes."""
WRITES = Cost(weight=50)
"""A transaction that changes something."""
LOOKS_AT_THE_STORE = Cost(weight=500)
"""Asks a store, an engine or every component, and takes as long as they do."""
READS_EVERYTHING = Cost(weight=5_000)
"""Reads a listing, a ledger and a table from end to end."""
