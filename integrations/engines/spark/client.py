"""A connection to a Spark Connect server and the session behind it. Everything here blocks."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
from pyspark.errors import PySparkException, PySparkValueError
from pyspark.errors.exceptions.connect import SparkConnectGrpcException
from pyspark.sql import DataFrame
from pyspark.sql.connect.client.core import DefaultChannelBuilder
from pyspark.sql.connect.client.retries import DefaultPolicy
from pyspark.sql.connect.session import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from integrations.engines.spark.errors import SparkUnavailableError
from integrations.engines.spark.settings import SESSION_SETTINGS, SparkServer
from integrations.engines.spark.stream_source import FileStream, cloud_files

_MESSAGE_BYTES = 256 << 20
_LOOPBACK = re.compile(r"^sc://(127\.0\.0\.1|\[::1\])(?=[:/]|$)")
_RETRIES_IN_A_SESSION = 3
_CHECKPOINTS_IN_S3 = (
    "spark.sql.streaming.checkpointFileManagerClass",
    "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager",
)
"""Spark's choice opens the bucket several times for each query, and never closes it; this one takes what is open."""
_TRANSIENT = {SparkUnavailableError.TIMEOUT, SparkUnavailableError.UNREACHABLE}


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """What a server says of itself."""

    version: str
    session_id: str


class SparkConnectClient:
    """One session, opened when it is first needed and kept; opened anew when it has ended. Not to be shared between threads."""

    def __init__(self, server: SparkServer, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._server = server
        self._sleep = sleep
        self._session: SparkSession | None = None

    def connect(self) -> SparkSession:
        """The session. What may pass is tried again, with a growing pause; raises `SparkUnavailableError`."""
        if self._session is not None and not self._session.is_stopped:
            return self._session
        for attempt in range(1, self._server.tries + 1):
            try:
                self._session = self._open()
                return self._session
            except SparkUnavailableError as error:
                if error.reason not in _TRANSIENT or attempt == self._server.tries:
                    raise
                self._sleep(self._server.backoff_seconds * 2 ** (attempt - 1))
        raise AssertionError("at least one try")

    def test_connection(self) -> ConnectionReport:
        """Ask the server something small. Raises `SparkUnavailableError`."""
        session = self.connect()
        try:
            return ConnectionReport(_version(session), session.session_id)
        except Exception as error:
            raise unavailable(error) from error

    def is_alive(self) -> bool:
        """Whether there is a session that answers."""
        if self._session is None or self._session.is_stopped:
            return False
        try:
            _version(self._session)
        except Exception:
            return False
        return True

    def read_stream(self, stream: FileStream) -> DataFrame:
        """The files as a streaming DataFrame, by Spark's file source, or by `cloudFiles` where the server is Databricks'."""
        session = self.connect()
        told = cloud_files(stream) if self._server.is_databricks else stream
        store = told.store
        if store is not None:
            for name, value in store.session.items():
                session.conf.set(name, value)
            # The stream's own listing goes without the options: by then the file system has to be open under its scheme. A stream's
            # path that is no pattern is looked at when it is resolved; nothing is listed for that.
            options = {**store.options, "__globPaths__": "false"}
            _ = session.readStream.format("text").options(**options).load(store.folder).schema
        reader = session.readStream.format(told.format).options(**told.options, **(store.options if store else {}))
        return reader.schema(told.schema).load(told.path)

    def write_stream(self, rows: DataFrame, table: str, *, checkpoint: str, properties: Mapping[str, str]) -> StreamingQuery:
        """Start appending the rows to an Iceberg table, in its partitions, until all that is there now is in it.

        `checkpoint` is a URI of the stream's own; each commit's snapshot gets the `properties`.
        """
        if checkpoint.startswith("s3a://") and not self._server.is_databricks:
            self.connect().conf.set(*_CHECKPOINTS_IN_S3)
        writer = rows.writeStream.format("iceberg").outputMode("append").trigger(availableNow=True)
        # Rows of an epoch come in no order of their partitions.
        writer = writer.option("checkpointLocation", checkpoint).option("fanout-enabled", "true")
        for name, value in properties.items():
            writer = writer.option(f"snapshot-property.{name}", value)
        return writer.toTable(table)

    def interrupt(self) -> None:
        """Have the server stop what it does for this session; from any thread, and without waiting for it."""
        session = self._session
        if session is not None and not session.is_stopped:
            threading.Thread(target=_interrupt, args=(session,), name="spark-interrupt", daemon=True).start()

    def close(self) -> None:
        """Let the server forget the session."""
        session, self._session = self._session, None
        if session is not None:
            _end(session)

    def _open(self) -> SparkSession:
        channel = _Channel(self._server)
        channel.await_ready(self._server.connect_seconds)
        session = _Session(connection=channel, userId="autoloader")
        session.client.set_retry_policies([DefaultPolicy(max_retries=_RETRIES_IN_A_SESSION)])
        try:
            for name, value in {**SESSION_SETTINGS, **self._server.session}.items():
                session.conf.set(name, value)
        except Exception as error:
            _end(session)
            raise unavailable(error) from error
        return session


class _Session(SparkSession):
    """Ends when it is told to, and not when it is collected.

    pyspark's own closes the thread pool that all sessions of the process share, under a lock. The collector may run it in a
    thread for which the owner of that lock waits, and then both wait for ever.
    """

    def __del__(self) -> None:
        pass


class _Channel(DefaultChannelBuilder):
    """Builds one channel, whose unary calls end in time. Raises `SparkUnavailableError` for what is no URL."""

    def __init__(self, server: SparkServer) -> None:
        try:
            # The client takes the token without TLS for this name of the loopback address alone.
            super().__init__(_LOOPBACK.sub("sc://localhost", server.url), [("grpc.max_receive_message_length", _MESSAGE_BYTES)])
            if server.token is not None:
                self.set("token", server.token)
            self.add_interceptor(_Deadline(server.request_seconds))
            self._channel: grpc.Channel = super().toChannel()
        except (PySparkValueError, ValueError) as error:
            words = str(error).partition("] ")[2] or "it has to look like sc://host:15002"
            raise SparkUnavailableError(SparkUnavailableError.BAD_URL, f"Spark's URL cannot be used: {words}") from None

    def toChannel(self) -> grpc.Channel:
        return self._channel

    def await_ready(self, seconds: float) -> None:
        try:
            grpc.channel_ready_future(self._channel).result(timeout=seconds)
        except grpc.FutureTimeoutError:
            self._channel.close()
            message = f"Spark at {self.endpoint} did not answer within {seconds:g} seconds"
            raise SparkUnavailableError(SparkUnavailableError.TIMEOUT, message) from None


class _Deadline(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """A server that has stopped answering is not waited for without end."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(details._replace(timeout=details.timeout or self._seconds), request)


def _interrupt(session: SparkSession) -> None:
    # A server that does not hear of it is gone, or ends the work by itself when the session has been idle.
    with suppress(Exception):
        session.interruptAll()


def _end(session: SparkSession) -> None:
    # The session's own `stop` complains to the user's terminal when the server has gone first.
    with suppress(Exception):
        session.client.release_session()
    session.release_session_on_close = False
    session.stop()


def _version(session: SparkSession) -> str:
    # `session.version` would ask the server once and then remember.
    return str(session.client._analyze(method="spark_version").spark_version)


def unavailable(error: Exception) -> SparkUnavailableError:
    """What an error of the client or the server means to whoever needed Spark."""
    if isinstance(error, SparkUnavailableError):
        return error
    code = error.getGrpcStatusCode() if isinstance(error, SparkConnectGrpcException) else None
    if code in {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}:
        return SparkUnavailableError(SparkUnavailableError.BAD_TOKEN, "Spark refuses the token")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return SparkUnavailableError(SparkUnavailableError.TIMEOUT, "Spark did not answer in time")
    if code is grpc.StatusCode.UNAVAILABLE:
        return SparkUnavailableError(SparkUnavailableError.UNREACHABLE, "the connection to Spark was lost")
    kind = error.getCondition() if isinstance(error, PySparkException) else None
    message = f"Spark failed ({kind or type(error).__name__}); the server's log tells more"
    return SparkUnavailableError(SparkUnavailableError.FAILED, message)
