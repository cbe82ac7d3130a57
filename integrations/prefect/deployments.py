"""What a deployment is to be, for an ingestion as it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule

from domain.ingestions.entities import ClusterSize, Ingestion, IngestionStatus
from domain.ports.unit_of_work import Subject

FLOW_NAME = "run-ingestion"

QUEUES = {ClusterSize.SMALL: "small", ClusterSize.MEDIUM: "medium", ClusterSize.LARGE: "large"}
"""In the order in which they are served: what is over soon does not wait for what takes long."""

_SLUG = "schedule"
_TENANT_TAG = "tenant:"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One of an ingestion, under its id. The schedule is there whenever the ingestion has one, and active while that is ACTIVE."""

    name: str
    work_queue: str
    tags: frozenset[str]
    parameters: dict[str, Any]
    schedule: tuple[str, str] | None
    active: bool
    paused: bool

    @classmethod
    def of(cls, ingestion: Ingestion) -> Deployment:
        return cls(
            name=str(ingestion.id),
            work_queue=QUEUES[ingestion.execution.cluster_size],
            tags=frozenset(
                (
                    f"{_TENANT_TAG}{ingestion.tenant_id}",
                    f"ingestion:{ingestion.id}",
                    f"ingestion-name:{ingestion.name}",
                    f"source:{ingestion.source.type.value}",
                )
            ),
            parameters={"tenant_id": str(ingestion.tenant_id), "ingestion_id": str(ingestion.id)},
            schedule=(ingestion.schedule.cron, ingestion.schedule.timezone) if ingestion.schedule else None,
            active=ingestion.schedule is not None and ingestion.status is IngestionStatus.ACTIVE,
            paused=ingestion.status is IngestionStatus.PAUSED,
        )

    @classmethod
    def found(cls, response: DeploymentResponse) -> Deployment | None:
        """What is there; None when it has more, or other, schedules than we ever make."""
        kept = [item for item in response.schedules if isinstance(item.schedule, CronSchedule)]
        if len(kept) != len(response.schedules) or len(kept) > 1:
            return None
        crons = [item.schedule for item in kept if isinstance(item.schedule, CronSchedule)]
        return cls(
            name=response.name,
            work_queue=response.work_queue_name or "",
            tags=frozenset(response.tags),
            parameters=response.parameters,
            schedule=next(((cron.cron, cron.timezone or "UTC") for cron in crons), None),
            active=any(item.active for item in kept),
            paused=response.paused,
        )

    @property
    def schedules(self) -> list[dict[str, Any]]:
        """As fields of what creates or updates one."""
        if self.schedule is None:
            return []
        cron, timezone = self.schedule
        return [{"schedule": CronSchedule(cron=cron, timezone=timezone), "active": self.active, "slug": _SLUG}]


def ingestion_of(response: DeploymentResponse) -> Subject | None:
    """The ingestion that it was made for, by tag and name; None when it is not one of ours, but one that somebody has copied, say."""
    tenant = next((tag.removeprefix(_TENANT_TAG) for tag in response.tags if tag.startswith(_TENANT_TAG)), "")
    try:
        return Subject(UUID(tenant), UUID(response.name))
    except ValueError:
        return None
