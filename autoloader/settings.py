"""Settings, from the environment (`AUTOLOADER_...`). Without any, everything runs on this machine."""

from __future__ import annotations

import base64
import binascii
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from autoloader.cost_settings import CostRatesSettings
from autoloader.logs import LogFormat
from domain.tenants import Role
from integrations.identity.provider import is_trustworthy
from integrations.notifications.sealing import KEY_BYTES


class CredentialSettings(BaseModel):
    """How an S3 store is reached; what is absent comes from AWS's usual chain."""

    model_config = ConfigDict(extra="forbid")

    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None
    profile: str | None = None
    role_arn: str | None = None
    sqs_endpoint_url: str | None = None


class OidcSettings(BaseModel):
    """The identity provider whose tokens are accepted beside API keys."""

    model_config = ConfigDict(extra="forbid")

    issuer: str = Field(description="What tokens name as their issuer; its discovery document is found below it.")
    audience: str = Field(min_length=1, description="What tokens must be meant for.")
    jwks_url: str | None = Field(default=None, description="Where the issuer's keys are; its discovery document tells unless set.")
    tenant_claim: str = Field(default="tenant", description="The claim with the tenant's name; dots lead into objects.")
    role_claim: str = Field(default="roles", description="The claim with the role, or a list of them; dots lead into objects.")
    roles: dict[str, Role] = Field(
        default={role.value: role for role in Role}, description="What the claim's words stand for, as JSON; the greatest role counts."
    )

    @field_validator("issuer", "jwks_url")
    @classmethod
    def _trustworthy(cls, url: str | None) -> str | None:
        if url is not None and not is_trustworthy(url):
            raise ValueError("must be an https URL, or one of this machine")
        return url


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="AUTOLOADER_", extra="forbid", env_nested_delimiter="__", validate_by_name=True)

    home: Path = Field(default=Path(".autoloader"), description="Where the embedded stack keeps its data.")
    database_url: SecretStr | None = Field(default=None, description="A PostgreSQL to use instead of the embedded one.")
    host: str = Field(default="127.0.0.1", description="The address that the API listens on.")
    port: int = Field(default=8000, ge=0, le=65_535, description="The port that the API listens on; 0 picks a free one.")
    worker_port: int | None = Field(
        default=None,
        ge=0,
        le=65_535,
        description="The port on which a worker serves probes and metrics; none unless set, 0 picks a free one.",
    )
    warehouse: str | None = Field(default=None, description="Where tables lie: a file:// or s3:// URI; below home unless told.")
    catalog_properties: dict[str, str] = Field(
        default_factory=dict, description="PyIceberg's properties of the warehouse, such as s3.endpoint, as JSON."
    )
    local_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description="Folders that LOCAL sources may lie under, separated by ':'; home's landing folder unless told."
    )
    credentials: dict[str, CredentialSettings] = Field(default_factory=dict, description="S3 credentials by name, as JSON.")
    tenant_max_concurrent_runs: int | None = Field(
        default=None, ge=1, description="How many runs of one tenant are executed at once, by all processes together; no limit unless set."
    )
    spark_max_concurrent_runs: int | None = Field(
        default=None, ge=1, description="How many runs use the Spark cluster at once, by all processes together; no limit unless set."
    )
    max_concurrent_runs: int = Field(default=2, ge=1, le=64, description="How many runs this process executes at once.")
    drain_seconds: float = Field(
        default=20.0, ge=0, description="How long runs of Prefect may go on in a worker that is to stop; then they are stopped."
    )
    prefect_api_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("AUTOLOADER_PREFECT_API_URL", "PREFECT_API_URL"),
        # No user in it: AUTOLOADER_PREFECT_AUTH_STRING carries what lets us in.
        pattern=r"^https?://[^\s/@]+(/[^\s@]*)?$",
        description="The API of a Prefect server that orchestrates; runs are tasks of this process unless set.",
    )
    prefect_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("AUTOLOADER_PREFECT_API_KEY", "PREFECT_API_KEY"),
        description="The API key for Prefect Cloud.",
    )
    prefect_auth_string: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("AUTOLOADER_PREFECT_AUTH_STRING", "PREFECT_API_AUTH_STRING"),
        description="User and password for a Prefect server that asks for them, as user:password.",
    )
    prefect_work_pool: str = Field(
        default="autoloader", pattern=r"^[\w.-]{1,100}$", description="The work pool that deployments are in and workers serve."
    )
    prefect_port: int = Field(default=0, ge=0, le=65_535, description="The port of a local Prefect server; 0 picks a free one.")
    engine_threads: int = Field(default=2, ge=1, le=64, description="Threads with which files are parsed.")
    engine_memory: str = Field(default="2GB", description="Memory that DuckDB may use, for each load.")
    spark_connect_url: str | None = Field(
        default=None,
        # No token in it: AUTOLOADER_SPARK_TOKEN carries what lets us in.
        pattern=r"^sc://[^\s/;@]+(/;use_ssl=true)?$",
        description="A Spark Connect server, as sc://host:15002; the SPARK engine is refused unless set.",
    )
    spark_token: SecretStr | None = Field(default=None, description="What the Spark Connect server asks for.")
    batch_files: int = Field(default=5_000, ge=1, le=100_000, description="How many files one commit of a table carries at most.")
    lease_seconds: float = Field(default=30.0, gt=0, description="How long a silent worker keeps what it has claimed.")
    retry_base_seconds: float = Field(default=60.0, gt=0, description="How long a failed file waits for its first retry.")
    queue_seconds: float = Field(
        default=5.0,
        gt=0,
        le=3_600,
        description="How often queues of notifications are looked at, and what lies at least between runs so begun.",
    )
    cost_rates: CostRatesSettings = Field(
        default_factory=CostRatesSettings, description="What of the rates behind estimates and costs is other than the defaults, as JSON."
    )
    oidc: OidcSettings | None = Field(default=None, description="The identity provider; only API keys let somebody in unless set.")
    max_operation_cost: int = Field(default=100_000, ge=1, description="What one operation of the API may cost.")
    cost_per_second: float = Field(default=100_000, gt=0, description="What a tenant's operations may cost in a second, in the long run.")
    cost_burst: float = Field(default=2_000_000, gt=0, description="What they may cost at once, after a pause.")
    operation_timeout_seconds: float = Field(default=30.0, gt=0, le=3_600, description="How long one operation of the API may take.")
    introspection: bool = Field(default=True, description="Whether the API answers questions about its schema.")
    ide: bool = Field(default=True, description="Whether GraphiQL is served.")
    documents: Path | None = Field(default=None, description="The manifest of persisted documents; see `autoloader documents`.")
    free_documents_role: Role = Field(default=Role.VIEWER, description="What it takes to send documents that are not persisted.")
    webhook_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(), description="Networks that are not public and webhooks may be sent to all the same, separated by ','."
    )
    webhook_key: SecretStr | None = Field(
        default=None,
        description="32 bytes in base64, with which webhooks' secrets are stored; made and kept below home unless set.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="What the log tells, and what is worse.")
    log_format: LogFormat = Field(default=LogFormat.TEXT, description="How a line of the log is written: text, or json.")
    metrics_token: SecretStr | None = Field(default=None, min_length=16, description="What scrapers of /metrics send as a bearer token.")
    otlp_endpoint: str | None = Field(
        default=None,
        # No user in it: OTEL_EXPORTER_OTLP_HEADERS carries what lets us in.
        pattern=r"^https?://[^\s/@]+(/[^\s@]*)?$",
        description="An OpenTelemetry collector's base URL (OTLP over HTTP); no traces unless set.",
    )

    @field_validator("database_url")
    @classmethod
    def _readable(cls, url: SecretStr | None) -> SecretStr | None:
        try:
            backend = None if url is None else make_url(url.get_secret_value()).get_backend_name()
        except ArgumentError:
            raise ValueError("is no URL of a database") from None
        if backend not in {None, "postgresql", "postgres"}:
            raise ValueError("is not the URL of a PostgreSQL")
        return url

    @field_validator("webhook_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("webhook_key")
    @classmethod
    def _long_enough(cls, key: SecretStr | None) -> SecretStr | None:
        try:
            if key is not None and len(base64.b64decode(key.get_secret_value(), validate=True)) != KEY_BYTES:
                raise ValueError
        except (ValueError, binascii.Error):
            raise ValueError(f"must be {KEY_BYTES} bytes in base64") from None
        return key

    @field_validator("local_roots", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value

    @property
    def landing(self) -> Path:
        """Where files may be laid when no roots are set."""
        return self.home.absolute() / "landing"

    @property
    def roots(self) -> tuple[str, ...]:
        return tuple(str(root.absolute()) for root in self.local_roots) or (str(self.landing),)

    @property
    def warehouse_uri(self) -> str:
        return self.warehouse or (self.home.absolute() / "warehouse").as_uri()
