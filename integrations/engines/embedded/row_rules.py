"""What the policies make of a row that does not fit as it is."""

from __future__ import annotations

from dataclasses import dataclass

from domain.ingestions.entities import BadRowPolicy, Policies, SchemaEvolution


@dataclass(frozen=True, slots=True)
class RowRules:
    bad_rows: BadRowPolicy
    evolution: SchemaEvolution

    @classmethod
    def of(cls, policies: Policies) -> RowRules:
        return cls(policies.bad_rows, policies.schema_evolution)

    @property
    def rescues(self) -> bool:
        """Whether the table has a column for rows' raw text."""
        rescuing = (SchemaEvolution.RESCUE, SchemaEvolution.REQUIRE_APPROVAL)
        return self.bad_rows is BadRowPolicy.RESCUE or self.evolution in rescuing
