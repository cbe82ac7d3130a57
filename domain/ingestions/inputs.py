"""What a caller may say about an ingestion, checked before anything else happens.

Paths in a `ValidationError` are the input's field names, outermost first, in snake case.
"""

from __future__ import annotations

import dataclasses
import posixpath
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, Self

import pydantic
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from domain.errors import FieldError, ValidationError
from domain.ingestions.entities import (
    BadRowPolicy,
    ChangedFilePolicy,
    ClusterSize,
    ColumnHint,
    Destination,
    DiscoveryMode,
    EngineType,
    Execution,
    ExecutionMode,
    FormatSpec,
    FormatType,
    Policies,
    Schedule,
    SchemaEvolution,
    Source,
    SourceType,
)
from domain.ingestions.formats import OPTION_MODELS
from domain.ingestions.partitions import check_partition_field
from domain.ingestions.schedules import check_cron, check_timezone
from domain.ledger.globs import compile_glob
from domain.text import readable, unstorable

DEFAULT_CATALOG = "autoloader"
LIST_EVERY_SECONDS = 6 * 3_600
"""How long a file waits at most whose notification was lost, unless the source says otherwise."""
_MOST_ERRORS = 100
_LONGEST_NAME_SHOWN = 100
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_QUEUE = re.compile(r"[A-Za-z0-9_-]{1,80}")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_HINT = re.compile(
    r"boolean|int|long|float|double|date|time|timestamp|timestamptz|string|binary|decimal\(\s*([1-9]|[12]\d|3[0-8])\s*,\s*(\d|[12]\d|3[0-8])\s*\)"
)


def _refuse(message: str) -> PydanticCustomError:
    return PydanticCustomError("autoloader", "{message}", {"message": message})


def _wrong_field(field: str, message: str, value: object) -> pydantic.ValidationError:
    """A model validator's own error has no field in its place; this one names it."""
    return pydantic.ValidationError.from_exception_data(field, [{"type": _refuse(message), "loc": (field,), "input": value}])


def _storable(text: str) -> str:
    if problem := unstorable(text):
        raise _refuse(problem)
    return text


def _identifier(text: str) -> str:
    if not _IDENTIFIER.fullmatch(text):
        raise _refuse("must be letters, digits and underscores, not start with a digit, and be at most 128 characters long")
    return text


def _queue_name(text: str) -> str:
    # A name and never a URL: which host is asked for it is the credential's to say, and nobody's who sends an input.
    if text.endswith(".fifo"):
        raise _refuse("S3 sends its notifications to no FIFO queue")
    if not _QUEUE.fullmatch(text):
        raise _refuse("must be a queue's name, of 1 to 80 letters, digits, hyphens and underscores; the credential says where it is")
    return text


# The length is checked first, and on the stripped text.
def _only(member: StrEnum, called: str) -> AfterValidator:
    """Refuses the enum's members that are named but do not work yet, which is all but one; `called` is how the message calls them."""

    def check(given: StrEnum) -> StrEnum:
        if given is not member:
            raise _refuse(f"{called.format(given)} is not supported yet; {member} is")
        return given

    return AfterValidator(check)


Text = Annotated[str, StringConstraints(max_length=4_096), AfterValidator(_storable)]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_storable)]
Identifier = Annotated[str, AfterValidator(_identifier)]
QueueName = Annotated[str, AfterValidator(_queue_name)]
IdempotencyKey = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]


class InputModel(BaseModel):
    """An input; `parse` is the way in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Check `data`. Raises `domain.errors.ValidationError` that names every wrong field."""
        try:
            return cls.model_validate(data)
        except pydantic.ValidationError as error:
            wrong = error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_ERRORS]
            raise ValidationError([_field_error(e) for e in wrong]) from None


def _field_error(error: Any) -> FieldError:
    # The caller's own keys may stand in the path, and be anything.
    path = tuple(readable(str(part), limit=_LONGEST_NAME_SHOWN) for part in error["loc"])
    return FieldError(path, readable(error["msg"].removeprefix("Value error, ")))


class SourceInput(InputModel):
    type: SourceType = SourceType.S3
    path: Text
    glob: Text | None = None
    modified_after: AwareDatetime | None = None
    min_age_seconds: int = Field(default=0, ge=0, le=86_400)
    discovery: DiscoveryMode = DiscoveryMode.LISTING
    credential: Name | None = None
    queue: QueueName | None = None
    list_every_seconds: int | None = Field(default=None, ge=60, le=7 * 86_400)

    @field_validator("type")
    @classmethod
    def _supported(cls, type: SourceType) -> SourceType:
        if type not in (SourceType.S3, SourceType.LOCAL):
            raise _refuse(f"{type} sources are not supported yet; S3 and LOCAL are")
        return type

    @field_validator("glob")
    @classmethod
    def _glob(cls, glob: str | None) -> str | None:
        if glob is not None:
            compile_glob(glob)
        return glob

    @model_validator(mode="after")
    def _path(self) -> Self:
        problem = _s3_problem(self.path) if self.type is SourceType.S3 else _local_problem(self.path)
        if problem:
            raise _wrong_field("path", problem, self.path)
        return self

    @model_validator(mode="after")
    def _events(self) -> Self:
        if self.discovery is not DiscoveryMode.EVENTS:
            for field in ("queue", "list_every_seconds"):
                if getattr(self, field) is not None:
                    raise _wrong_field(field, "goes with EVENTS discovery", getattr(self, field))
        elif self.type is not SourceType.S3:
            raise _wrong_field("discovery", f"a {self.type} source sends no notifications; S3 does", self.discovery)
        elif self.queue is None:
            raise _wrong_field("queue", "EVENTS discovery needs the name of the queue that gets the bucket's notifications", None)
        return self

    def to_source(self) -> Source:
        return Source(
            type=self.type,
            path=self.path if self.type is SourceType.S3 else _normal_folder(self.path),
            glob=self.glob,
            modified_after=self.modified_after,
            min_age_seconds=self.min_age_seconds,
            discovery=self.discovery,
            credential=self.credential,
            queue=self.queue,
            list_every_seconds=(self.list_every_seconds or LIST_EVERY_SECONDS) if self.discovery is DiscoveryMode.EVENTS else None,
        )


def _s3_problem(path: str) -> str | None:
    scheme, separator, rest = path.partition("://")
    bucket, _, _prefix = rest.partition("/")
    if scheme != "s3" or not separator or not _BUCKET.fullmatch(bucket):
        return "must be s3://bucket/prefix/ for an S3 source"
    return None


def _local_problem(path: str) -> str | None:
    if not path.startswith("/"):
        return "must be an absolute folder for a LOCAL source"
    if ".." in path.split("/"):
        return "must not contain '..'"
    return None


def _normal_folder(path: str) -> str:
    # normpath keeps two leading slashes, to which POSIX gives a meaning of its own.
    return posixpath.normpath("/" + path.lstrip("/"))


class ColumnHintInput(InputModel):
    column: Name
    type: Text

    @field_validator("type")
    @classmethod
    def _type(cls, type: str) -> str:
        if not _HINT.fullmatch(type):
            raise _refuse(
                "must be one of boolean, int, long, float, double, decimal(p, s), date, time, timestamp, timestamptz, string, binary"
            )
        return type


class FormatInput(InputModel):
    type: FormatType
    options: Mapping[str, Any] = Field(default_factory=dict)
    hints: tuple[ColumnHintInput, ...] = Field(default=(), max_length=1_000)

    @model_validator(mode="after")
    def _options(self) -> Self:
        check_format_options(self.type, self.options)
        if len({hint.column for hint in self.hints}) != len(self.hints):
            raise _wrong_field("hints", "a column is hinted twice", self.hints)
        return self

    def to_format(self) -> FormatSpec:
        options = OPTION_MODELS[self.type].model_validate(self.options).model_dump(mode="json", exclude_unset=True)
        return FormatSpec(self.type, options, tuple(ColumnHint(h.column, h.type) for h in self.hints))


def check_format_options(type: FormatType, options: Mapping[str, Any]) -> None:
    """Raise pydantic's error, below the field `options`, for an unknown or unacceptable option."""
    try:
        OPTION_MODELS[type].model_validate(options)
    except pydantic.ValidationError as error:
        raise pydantic.ValidationError.from_exception_data(
            "options",
            [
                {
                    "type": _refuse(f"unknown option of {type}" if e["type"] == "extra_forbidden" else e["msg"]),
                    "loc": ("options", *e["loc"]),
                    "input": e["input"],
                }
                for e in error.errors()
            ],
        ) from None


class DestinationInput(InputModel):
    catalog: Identifier = DEFAULT_CATALOG
    database: Identifier
    table: Identifier
    partition_by: tuple[Text, ...] = Field(default=(), max_length=16)
    sort_by: tuple[Identifier, ...] = Field(default=(), max_length=16)

    @field_validator("catalog")
    @classmethod
    def _catalog(cls, catalog: str) -> str:
        if catalog != DEFAULT_CATALOG:
            raise _refuse(f"unknown catalog; there is {DEFAULT_CATALOG}")
        return catalog

    @field_validator("partition_by")
    @classmethod
    def _partition_by(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(check_partition_field(field) for field in fields)

    def to_destination(self) -> Destination:
        return Destination(self.catalog, self.database, self.table, self.partition_by, self.sort_by)


class ScheduleInput(InputModel):
    cron: Text
    timezone: Text = "UTC"

    @field_validator("cron")
    @classmethod
    def _cron(cls, cron: str) -> str:
        check_cron(cron)
        return cron

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, timezone: str) -> str:
        check_timezone(timezone)
        return timezone

    def to_schedule(self) -> Schedule:
        return Schedule(self.cron, self.timezone)


class PoliciesInput(InputModel):
    schema_evolution: SchemaEvolution = SchemaEvolution.ADD_NEW_COLUMNS
    bad_rows: BadRowPolicy = BadRowPolicy.FAIL_FILE
    changed_files: ChangedFilePolicy = ChangedFilePolicy.IGNORE
    max_file_retries: int = Field(default=3, ge=0, le=100)
    max_files_per_run: int | None = Field(default=None, ge=1, le=10_000_000)
    max_bytes_per_run: int | None = Field(default=None, ge=1, le=2**60)
    timeout_seconds: int | None = Field(default=None, ge=1, le=7 * 86_400)
    late_after_seconds: int | None = Field(default=None, ge=60, le=90 * 86_400)

    def to_policies(self) -> Policies:
        return Policies(**self.model_dump())


class ExecutionInput(InputModel):
    engine: EngineType = EngineType.EMBEDDED
    cluster_size: ClusterSize = ClusterSize.SMALL
    mode: ExecutionMode = ExecutionMode.BATCH

    def to_execution(self) -> Execution:
        return Execution(self.engine, self.cluster_size, self.mode)


class IngestionCreate(InputModel):
    name: Name
    source: SourceInput
    format: FormatInput
    destination: DestinationInput
    schedule: ScheduleInput | None = None
    policies: PoliciesInput = PoliciesInput()
    execution: ExecutionInput = ExecutionInput()
    activate: bool = False
    idempotency_key: IdempotencyKey | None = None


class IngestionUpdate(InputModel):
    """Only what may change; a field that is not set stays as it is, and None clears it where there is something to clear."""

    expected_version: int | None = Field(default=None, ge=1, le=2**31 - 1)
    name: Name | None = None
    glob: Text | None = None
    format_options: Mapping[str, Any] | None = None
    hints: tuple[ColumnHintInput, ...] | None = Field(default=None, max_length=1_000)
    credential: Name | None = None
    discovery: DiscoveryMode | None = None
    queue: QueueName | None = None
    list_every_seconds: int | None = None
    schedule: ScheduleInput | None = None
    policies: Mapping[str, Any] | None = None

    @field_validator("name")
    @classmethod
    def _name(cls, name: str | None) -> str:
        if name is None:
            raise _refuse("cannot be cleared")
        return name

    @field_validator("glob")
    @classmethod
    def _glob(cls, glob: str | None) -> str | None:
        if glob is not None:
            compile_glob(glob)
        return glob

    def applied_to(self, source: Source, format: FormatSpec, policies: Policies) -> tuple[Source, FormatSpec, Policies]:
        """The parts of an ingestion with this update in them. Raises `ValidationError` for what they cannot take."""
        given = self.model_fields_set
        new_source = self._source(source)
        hints = (self.hints or ()) if "hints" in given else tuple(ColumnHintInput(column=h.column, type=h.type) for h in format.hints)
        try:
            new_format = FormatInput.parse(
                {
                    "type": format.type,
                    "options": (self.format_options or {}) if "format_options" in given else format.options,
                    "hints": [h.model_dump() for h in hints],
                }
            ).to_format()
        except ValidationError as error:
            renamed = {"options": "format_options"}
            raise ValidationError([FieldError((renamed.get(f.path[0], f.path[0]), *f.path[1:]), f.message) for f in error.fields]) from None
        new_policies = policies
        if "policies" in given:
            try:
                new_policies = PoliciesInput.parse(_merged(policies, self.policies)).to_policies()
            except ValidationError as error:
                raise ValidationError([FieldError(("policies", *f.path), f.message) for f in error.fields]) from None
        return new_source, new_format, new_policies

    def _source(self, present: Source) -> Source:
        """`queue_id` stays only while the same credential leads to the queue."""
        given = self.model_fields_set
        discovery = self.discovery or DiscoveryMode.LISTING if "discovery" in given else present.discovery
        # What EVENTS needed goes with it.
        kept = present if discovery is DiscoveryMode.EVENTS else Source(present.type, present.path)
        source = SourceInput.parse(
            {
                "type": present.type,
                "path": present.path,
                "glob": self.glob if "glob" in given else present.glob,
                "modified_after": present.modified_after,
                "min_age_seconds": present.min_age_seconds,
                "discovery": discovery,
                "credential": self.credential if "credential" in given else present.credential,
                "queue": self.queue if "queue" in given else kept.queue,
                "list_every_seconds": self.list_every_seconds if "list_every_seconds" in given else kept.list_every_seconds,
            }
        ).to_source()
        same = (source.queue, source.credential) == (present.queue, present.credential)
        return dataclasses.replace(source, queue_id=present.queue_id if same else None)


def _merged(policies: Policies, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Absent: unchanged; None: back to the default; all None: all back."""
    if given is None:
        return {}
    return {name: value for name, value in (dataclasses.asdict(policies) | dict(given)).items() if name not in given or value is not None}
