"""The domain's enums as the API shows them. The classes are the domain's own: nothing is converted."""

from __future__ import annotations

from enum import StrEnum

import strawberry

from domain.activity.entities import ActivityKind
from domain.errors import ConflictReason, ErrorCode
from domain.ingestions.entities import (
    BadRowPolicy,
    ChangedFilePolicy,
    ClusterSize,
    DiscoveryMode,
    EngineType,
    ExecutionMode,
    FormatType,
    IngestionStatus,
    SchemaEvolution,
    SourceType,
)
from domain.ledger.completeness import DifferenceKind
from domain.ledger.entities import FileStatus
from domain.ledger.explanation import FileState
from domain.ledger.schema_proposals import SchemaChangeVerdict
from domain.notifications.entities import DeliveryStatus, WebhookEvent
from domain.runs.entities import RefreshMode, RunStatus, RunTrigger
from domain.schema_changes import SchemaChangeDecision
from domain.system import ComponentStatus
from domain.tenants import Role

_DESCRIPTIONS: dict[type[StrEnum], tuple[str, dict[str, str]]] = {
    ErrorCode: (
        "What kind of refusal an error is.",
        {
            "VALIDATION": "The input is not acceptable; nothing was stored.",
            "NOT_FOUND": "There is no such thing, or it is not yours.",
            "CONFLICT": "The present state does not allow it.",
            "CONFIRMATION_REQUIRED": "The operation destroys something and asks for `confirm: true`.",
            "FORBIDDEN": "Your role does not allow it.",
            "UNSUPPORTED": "This combination does not work yet.",
            "UNAVAILABLE": "A component does not answer; trying again later may help.",
            "LIMIT_EXCEEDED": "A limit of the server was reached.",
        },
    ),
    ConflictReason: (
        "Which fact of the present state stands against a request.",
        {
            "DUPLICATE_NAME": "Another ingestion of yours has this name.",
            "DESTINATION_TAKEN": "The destination table belongs to another ingestion.",
            "QUEUE_TAKEN": "The queue of notifications belongs to another ingestion.",
            "RUN_ACTIVE": "The ingestion has a run that is queued or under way.",
            "WRONG_STATE": "Its status does not allow it.",
            "IDEMPOTENCY_KEY_REUSED": "The idempotency key was used for another request.",
            "STALE_VERSION": "It has changed since you read it.",
            "LAST_ADMIN_KEY": "Without this API key nobody could create another one.",
        },
    ),
    IngestionStatus: (
        "Where an ingestion is in its life.",
        {
            "DRAFT": "Created; it can be run by hand, and its schedule does not fire yet.",
            "ACTIVE": "Its schedule fires.",
            "PAUSED": "Runs are refused until it is resumed.",
            "ERROR": "Several runs failed one after the other; resume it when the cause is gone.",
            "DELETING": "It is being deleted.",
        },
    ),
    SourceType: (
        "What kind of store the files land in.",
        {
            "S3": "Amazon S3 or a store that speaks its protocol.",
            "LOCAL": "A folder of the server, below a granted root.",
            "AZURE_BLOB": "Azure Blob Storage; not supported yet.",
            "GCS": "Google Cloud Storage; not supported yet.",
        },
    ),
    DiscoveryMode: (
        "How new files are found.",
        {"LISTING": "Each run lists the source.", "EVENTS": "By the store's notifications, and by a listing now and then."},
    ),
    FormatType: (
        "What the files are.",
        {
            "JSON": "JSON lines, or arrays of objects.",
            "CSV": "Delimited text.",
            "PARQUET": "Apache Parquet.",
            "AVRO": "Apache Avro object container files.",
            "ORC": "Apache ORC.",
        },
    ),
    SchemaEvolution: (
        "What happens when a file brings columns that the table does not have.",
        {
            "ADD_NEW_COLUMNS": "The table gets them, and types widen where that is safe.",
            "RESCUE": "They are kept, raw, in `_rescued_data`.",
            "FAIL_ON_NEW_COLUMNS": "The file fails and names them.",
            "IGNORE": "They are left out.",
            "REQUIRE_APPROVAL": "The files that need a change wait until somebody has decided on it; see `schemaChanges`.",
        },
    ),
    BadRowPolicy: (
        "What happens to a row that cannot be read as the table's types.",
        {
            "FAIL_FILE": "Its whole file fails, and nothing of it is in the table.",
            "SKIP_ROW": "It is left out, and counted.",
            "RESCUE": "It is kept, raw, in `_rescued_data`.",
        },
    ),
    ChangedFilePolicy: (
        "What happens when a path that was loaded holds other content than it did.",
        {
            "IGNORE": "Nothing: what was loaded stays.",
            "APPEND": "It is loaded as well: its rows are added to those of what it held before.",
            "REPLACE": "It is loaded instead: the old rows leave the table in the commit that brings the new ones.",
        },
    ),
    EngineType: (
        "What reads the files and writes the table.",
        {"EMBEDDED": "DuckDB and PyIceberg, in the server's own process.", "SPARK": "Apache Spark, where one is configured."},
    ),
    ExecutionMode: (
        "How files are handed to the engine.",
        {
            "BATCH": "In batches that the ledger keeps.",
            "STREAMING": "By Spark's structured streaming, which keeps what it has seen in a checkpoint; for backlogs of JSON.",
        },
    ),
    ClusterSize: ("How much a run asks for.", {"SMALL": "Little.", "MEDIUM": "More.", "LARGE": "Much."}),
    RunStatus: (
        "Where a run is in its life.",
        {
            "QUEUED": "It waits for a worker.",
            "RUNNING": "It is under way.",
            "CANCELLING": "It has been asked to stop.",
            "SUCCESS": "It ended and every file of it was loaded (or was empty).",
            "PARTIAL": "It ended, and some files failed, or wait for a schema change to be approved; each says why.",
            "FAILED": "It could not go on, or no file of it could be loaded.",
            "NO_NEW_FILES": "It ended and there was nothing to do.",
            "CANCELLED": "It was stopped.",
        },
    ),
    RefreshMode: (
        "What is loaded again once the table is gone.",
        {
            "FULL": "Everything: the ledger forgets the files, and what lies at the source is found anew.",
            "NEW_ONLY": "Only what was never loaded: what was loaded before stays out of the new table.",
        },
    ),
    RunTrigger: (
        "Why a run came to be.",
        {
            "MANUAL": "Somebody asked for it.",
            "SCHEDULED": "The schedule fired.",
            "EVENT": "The store has sent notifications, or the source was due to be listed again.",
            "RETRY": "An earlier run is tried again.",
            "REFRESH": "The table is loaded anew.",
        },
    ),
    FileStatus: (
        "Where a file is in its life.",
        {
            "PENDING": "It waits to be loaded.",
            "PROCESSING": "A run has it in hand.",
            "HELD": "It waits for a schema change to be approved.",
            "SUCCESS": "Its rows are in the table.",
            "FAILED": "It could not be loaded; nothing of it is in the table.",
            "SKIPPED": "It was left out: it is empty, or a person said so.",
            "SUPERSEDED": "A newer version of it took its place; its rows have left the table.",
        },
    ),
    FileState: (
        "Where a path stands between the source and the table.",
        {
            "LOADED": "Its rows are in the table.",
            "ABSENT_BY_REFRESH": "It was loaded; a later refresh has begun the table anew without it.",
            "LOADED_THEN_CHANGED": "Its rows are in the table, and the source holds other content by now.",
            "LOADING": "A run has it in hand.",
            "WAITING": "The next run loads it.",
            "WAITING_FOR_AGE": "It is younger than the source's `minAgeSeconds`.",
            "WAITING_FOR_RETRY": "It has failed, and is tried again by itself.",
            "WAITING_FOR_APPROVAL": "It is not loaded until somebody has decided on a schema change; `file.schemaChange` says which.",
            "WAITING_FOR_PERSON": "It is not loaded until a person acts, such as by resuming a paused ingestion.",
            "SKIPPED": "It was left out: it is empty, or a person said so.",
            "NOT_LISTED_YET": "It has come since the last listing.",
            "FILTERED_OUT": "A filter of the source leaves it out.",
            "OUTSIDE_SOURCE": "It is not below the source's path.",
            "NOT_AT_SOURCE": "There is no such file.",
            "UNKNOWN": "It was never listed, and the source does not answer.",
        },
    ),
    ActivityKind: (
        "What has happened.",
        {
            "INGESTION_CREATED": "An ingestion was created.",
            "INGESTION_UPDATED": "An ingestion was changed.",
            "INGESTION_STATUS_CHANGED": "An ingestion has another status.",
            "INGESTION_RESET_BEGUN": "A refresh, a clear or a deletion was decided: its table or files go before anything more is loaded.",
            "INGESTION_RESET_DONE": "What a refresh, a clear or a deletion has decided is done.",
            "INGESTION_DELETED": "An ingestion is gone.",
            "RUN_QUEUED": "A run was asked for.",
            "RUN_STARTED": "A worker took a run up.",
            "RUN_PROGRESSED": "A run has found files, or is done with some: once for each batch.",
            "RUN_CANCELLING": "A run was asked to stop.",
            "RUN_ENDED": "A run ended; its status says how.",
            "FILES_RETRIED": "Somebody has files loaded again by the next run.",
            "FILES_SKIPPED": "Somebody has files left out.",
            "FILES_FORGOTTEN": "Files are gone from the ledger.",
            "SCHEMA_CHANGE_PROPOSED": "Files need a change of the table's columns, and wait for somebody to decide on it.",
            "SCHEMA_CHANGE_DECIDED": "Somebody has approved or rejected a schema change.",
            "SCHEMA_CHANGE_WITHDRAWN": "No file needs a proposed schema change any more, and it is gone.",
            "SCHEMA_CHANGED": "The table has other columns.",
        },
    ),
    DifferenceKind: (
        "What two of source, ledger and table say differently of a path. The kinds from ROWS_MISSING on should never be.",
        {
            "NOT_IN_LEDGER": "It lies at the source and is found by the next run.",
            "NOT_LOADED": "The ledger knows it, and it is not in the table; its status and its attempts say why.",
            "WAITING_FOR_APPROVAL": "The ledger knows it, and it waits for a schema change to be approved.",
            "CHANGED_AT_SOURCE": "It was loaded, and the source holds other content by now.",
            "GONE_FROM_SOURCE": "The ledger knows it, and the source does not list it any more.",
            "ABSENT_BY_REFRESH": "It was loaded; a later refresh has begun the table anew without it.",
            "ROWS_MISSING": "The table has fewer rows of it than were loaded.",
            "ROWS_TOO_MANY": "The table has more rows of it than were loaded.",
            "ROWS_OF_UNLOADED_FILE": "The table has rows of it, and the ledger says that it is not loaded.",
            "ROWS_OF_UNKNOWN_FILE": "The table has rows of it, and the ledger does not know it.",
        },
    ),
    SchemaChangeDecision: (
        "What was decided about a schema change.",
        {
            "PENDING": "Nothing yet.",
            "APPROVED": "The table gets it with the first rows that bring it.",
            "REJECTED": "Files are loaded without it; what they hold beyond the table's columns is kept, raw, in `_rescued_data`.",
        },
    ),
    SchemaChangeVerdict: (
        "What to make of a schema change.",
        {
            "APPROVE": "Let the table have it.",
            "REJECT": "Load files without it; what they hold beyond the table's columns is kept, raw, in `_rescued_data`.",
        },
    ),
    WebhookEvent: (
        "What a webhook can be told of.",
        {
            "RUN_FAILED": "A run ended FAILED.",
            "RUN_PARTIAL": "A run ended PARTIAL: some of its files failed, or wait for a schema change to be approved.",
            "INGESTION_ERROR": "An ingestion is in ERROR, after several runs that failed in a row; its schedule rests.",
            "DATA_LATE": "Nothing has been loaded for longer than the policy `lateAfterSeconds` allows. Told once, until data come.",
            "SCHEMA_CHANGED": "The table has a new schema version; the first one too.",
            "SCHEMA_CHANGE_PROPOSED": "A schema change waits for somebody's decision.",
            "TEST": "Somebody has asked for it, by `testWebhook`. It cannot be subscribed to.",
        },
    ),
    DeliveryStatus: (
        "Where a delivery is.",
        {
            "PENDING": "It is to be tried, for the first time or again.",
            "DELIVERED": "The receiver has answered 2xx.",
            "GIVEN_UP": "It has failed as often as it may. `redeliverWebhook` sends it once more.",
        },
    ),
    ComponentStatus: ("Whether a component answers.", {"UP": "It does.", "DOWN": "It does not."}),
    Role: (
        "What a credential may do; each role may do what the ones before it may.",
        {"VIEWER": "Read.", "OPERATOR": "Run, pause, retry.", "ADMIN": "Create, change, delete, and hand out keys."},
    ),
}


def _register(enum: type[StrEnum], description: str, values: dict[str, str]) -> None:
    assert set(values) == {member.name for member in enum}, enum
    strawberry.enum(enum, description=description)
    definition = enum.__strawberry_definition__  # type: ignore[attr-defined]  # set by strawberry.enum
    for value in definition.values:
        value.description = values[value.name]


for _enum, (_description, _values) in _DESCRIPTIONS.items():
    _register(_enum, _description, _values)
