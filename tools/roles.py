"""The role matrix for people: `python -m tools.roles` writes docs/roles.md from the schema; with `--check`, exit 1 when it differs."""

from __future__ import annotations

import sys
from pathlib import Path

from domain.tenants import Role
from graphql_api.operations.authorization import NODE_ROLES
from graphql_api.operations.roles import operation_roles
from graphql_api.relay.ids import KINDS

FILE = Path("docs/roles.md")

_HEAD = """\
# Who may do what

Written from the schema by `make roles`. A credential has one of three roles, and each may do what the ones before it may. An operation that
asks for more than the caller's role answers with a `ForbiddenError`, and does nothing. Every operation sees and touches the caller's own
tenant alone: the ids of others are like ids of nothing.
"""


def page() -> str:
    """The document's text."""
    operations = operation_roles()
    kinds = {kind: NODE_ROLES.get(entity, Role.VIEWER) for kind, (entity, _) in KINDS.items()}
    sections = [_HEAD]
    for root in dict.fromkeys(operation.root for operation in operations):
        rows = {f"`{operation.field}`": operation.role for operation in operations if operation.root == root}
        sections.append(f"## {root}\n\n{_table('Operation', rows)}")
    sections.append(f"## What `node(id:)` gives\n\n{_table('Kind', {f'`{kind}`': role for kind, role in kinds.items()})}")
    return "\n".join(sections)


def _table(what: str, rows: dict[str, Role]) -> str:
    lines = [f"| {what} | {' | '.join(Role)} |", "|---" * (len(Role) + 1) + "|"]
    lines += [f"| {name} | {' | '.join('yes' if role.includes(least) else '-' for role in Role)} |" for name, least in rows.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit("usage: python -m tools.roles [--check]")
    if not sys.argv[1:]:
        FILE.write_text(page())
    elif not FILE.exists() or FILE.read_text() != page():
        sys.exit(f"{FILE} is not what the schema says: run 'make roles' and commit it")
