"""The orders of connections, by the names that the relations declare."""

from __future__ import annotations

from enum import Enum

import strawberry


@strawberry.enum(description="An order of ingestions.")
class IngestionOrder(Enum):
    NEWEST = strawberry.enum_value("NEWEST", description="Created last comes first.")
    OLDEST = strawberry.enum_value("OLDEST", description="Created first comes first.")
    NAME = strawberry.enum_value("NAME", description="By name, bytewise.")


@strawberry.enum(description="An order of runs.")
class RunOrder(Enum):
    NEWEST = strawberry.enum_value("NEWEST", description="Queued last comes first.")
    OLDEST = strawberry.enum_value("OLDEST", description="Queued first comes first.")


@strawberry.enum(description="An order of an ingestion's files.")
class FileOrder(Enum):
    NEWEST = strawberry.enum_value("NEWEST", description="Entered last comes first.")
    PATH = strawberry.enum_value("PATH", description="By path, bytewise.")
