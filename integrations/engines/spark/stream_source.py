"""A folder as a stream of files, as it is told to Spark; and to Databricks, whose own source of that kind is `cloudFiles`.

Of files that Spark has seen it keeps the paths, in the checkpoint: each is read once, whatever becomes of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from domain.ingestions.entities import FormatSpec, Source
from domain.ingestions.formats import JsonLayout, JsonOptions
from domain.ingestions.streaming import stream_glob
from integrations.engines.spark.source_files import s3_options, s3_scheme
from integrations.object_store.credentials import S3Credential

_GLOB = re.compile(r"[\\{}\[\]*?]")
_OF_THE_SOURCE = {"maxFilesPerTrigger": "cloudFiles.maxFilesPerTrigger"}
_NOT_OF_CLOUD_FILES = {"maxFileAge"}
_NEVER = "36500d"


@dataclass(frozen=True, slots=True)
class FileStream:
    """What `SparkConnectClient.read_stream` reads: a path or Hadoop's pattern of some, and the reader's options, by Spark's names.

    `session` are settings that the session needs to reach the files; they may be secret.
    """

    format: str
    path: str
    schema: str
    options: Mapping[str, str]
    session: Mapping[str, str] = field(default_factory=dict, repr=False)


def cloud_files(stream: FileStream) -> FileStream:
    """The same for Databricks' Auto Loader. It never forgets a file either, and here reads no file a second time."""
    own = {
        "cloudFiles.format": stream.format,
        "cloudFiles.includeExistingFiles": "true",
        "cloudFiles.allowOverwrites": "false",
        # Patterns mean the same as for Spark's own source.
        "cloudFiles.useStrictGlobber": "true",
    }
    given = {_OF_THE_SOURCE.get(name, name): value for name, value in stream.options.items() if name not in _NOT_OF_CLOUD_FILES}
    return replace(stream, format="cloudFiles", options={**given, **own})


def lines_of(source: Source, format_: FormatSpec, credential: S3Credential | None, *, max_files: int) -> FileStream:
    """The source's JSON files as text: a row for each line, or for each file where that holds an array."""
    path, any_folder = _pattern(source)
    options = {
        "maxFilesPerTrigger": str(max_files),
        # A file that has an old date and lands now is as new as any other.
        "maxFileAge": _NEVER,
        "recursiveFileLookup": str(any_folder).lower(),
        # A file that has gone since it was listed would stop the stream for good; the ledger tells of it.
        "ignoreMissingFiles": "true",
    }
    glob = stream_glob(source.glob) if source.glob is not None else None
    if glob is not None and glob.any_folder:
        options["pathGlobFilter"] = glob.pattern
    layout = JsonOptions.model_validate(dict(format_.options)).layout
    options |= {"wholetext": "true"} if layout is JsonLayout.ARRAY else {"lineSep": "\n"}
    if credential is None:
        return FileStream("text", f"file://{path}", "value STRING", options)
    scheme = s3_scheme(credential)
    rest = path.removeprefix("s3://")
    return FileStream("text", f"{scheme}://{rest}", "value STRING", options, _s3_session(credential, scheme, rest.partition("/")[0]))


def path_sql(uri: str, stream: FileStream) -> str:
    """The ledger's path, from a SQL expression of the URI that Spark gives in rows of the stream."""
    decoded = f"url_decode(replace({uri}, '+', '%2B'))"
    scheme = stream.path.partition("://")[0]
    return f"regexp_replace({decoded}, '^file:/+', '/')" if scheme == "file" else f"regexp_replace({decoded}, '^{scheme}:', 's3:')"


def checkpoint_uri(checkpoint: str) -> str:
    """Where the checkpoint is, as Hadoop names it. It is reached with the server's own credential."""
    return re.sub("^s3://", "s3a://", checkpoint)


def _pattern(source: Source) -> tuple[str, bool]:
    """The source's path with what its glob adds, as Hadoop's pattern, and whether folders below are meant."""
    folder = _GLOB.sub(r"\\\g<0>", source.path)
    glob = stream_glob(source.glob) if source.glob is not None else None
    if glob is None or glob.any_folder:
        return folder, True
    return f"{folder.rstrip('/')}/{glob.pattern}", False


def _s3_session(credential: S3Credential, scheme: str, bucket: str) -> Mapping[str, str]:
    """For this bucket alone: the checkpoint may be in another, which the server reaches with its own credential."""
    return {re.sub(r"^fs\.s3a\.", f"fs.s3a.bucket.{bucket}.", name): value for name, value in s3_options(credential, scheme).items()}
