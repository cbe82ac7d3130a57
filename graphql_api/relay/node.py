"""The Node interface: anything that can be fetched again by its id."""

from __future__ import annotations

from typing import Any

import strawberry

from graphql_api.relay.ids import encode_id


@strawberry.interface(description="Something that can be fetched again by its id, through `node(id:)`.")
class Node:
    @strawberry.field(description="Its id: opaque, and unique among all things.")
    @staticmethod
    def id(root: strawberry.Parent[Any]) -> strawberry.ID:
        return strawberry.ID(encode_id(type(root), root.id))
