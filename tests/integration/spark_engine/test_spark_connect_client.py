"""The client against a real server, and against what is no server."""

from __future__ import annotations

import gc
import socket
import threading
from dataclasses import replace

import pytest
from pyspark.sql.connect.client.reattach import ExecutePlanResponseReattachableIterator

from autoloader.spark.server import SparkFacts
from integrations.engines.spark.client import SparkConnectClient
from integrations.engines.spark.errors import SparkUnavailableError
from integrations.engines.spark.settings import SESSION_SETTINGS, SparkServer


@pytest.fixture
def server(spark_server: SparkFacts) -> SparkServer:
    return SparkServer(spark_server.url, spark_server.token)


@pytest.mark.scenario(85)
def test_connecting_opens_a_session_with_our_settings(server: SparkServer) -> None:
    client = SparkConnectClient(replace(server, session={"spark.sql.shuffle.partitions": "3"}))

    session = client.connect()

    assert session.range(3).count() == 3
    assert {name: session.conf.get(name) for name in SESSION_SETTINGS} == SESSION_SETTINGS
    assert session.conf.get("spark.sql.shuffle.partitions") == "3"
    client.close()


@pytest.mark.scenario(86)
def test_an_open_session_is_used_again_and_a_closed_one_is_not(server: SparkServer) -> None:
    client = SparkConnectClient(server)
    first = client.connect()

    assert client.connect() is first
    assert client.is_alive()
    client.close()
    assert not client.is_alive()
    second = client.connect()
    assert second.session_id != first.session_id
    client.close()


def test_collecting_a_session_waits_for_no_other(server: SparkServer) -> None:
    client = SparkConnectClient(server)
    client.connect()

    def forget() -> None:
        nonlocal client
        del client
        gc.collect()

    collector = threading.Thread(target=forget, daemon=True)
    # As whoever starts a thread of the pool holds it, until the thread has started: the collector may run in that one.
    with ExecutePlanResponseReattachableIterator._lock:
        collector.start()
        collector.join(timeout=10)
        assert not collector.is_alive()


def test_a_session_that_the_server_has_ended_is_not_alive(server: SparkServer) -> None:
    client = SparkConnectClient(server)
    client.connect().client.release_session()

    assert not client.is_alive()
    client.close()


@pytest.mark.scenario(47, 87)
def test_testing_the_connection_tells_the_version(server: SparkServer) -> None:
    client = SparkConnectClient(server)

    report = client.test_connection()

    assert report.version.startswith("4.1.")
    assert report.session_id == client.connect().session_id
    client.close()


def test_the_loopback_address_is_as_good_as_its_name(server: SparkServer) -> None:
    client = SparkConnectClient(replace(server, url=server.url.replace("localhost", "127.0.0.1")))

    assert client.test_connection().version.startswith("4.1.")
    client.close()


@pytest.mark.scenario(48, 143)
@pytest.mark.parametrize("token", ["wrong", None])
def test_a_wrong_token_is_refused_at_once(server: SparkServer, token: str | None) -> None:
    pauses: list[float] = []

    with pytest.raises(SparkUnavailableError) as refused:
        SparkConnectClient(replace(server, token=token), sleep=pauses.append).test_connection()

    assert (refused.value.reason, refused.value.message) == ("bad token", "Spark refuses the token")
    assert pauses == []


@pytest.mark.scenario(142)
def test_silence_is_tried_again_with_a_growing_pause_and_then_given_up() -> None:
    pauses: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        nobody = SparkServer(f"sc://localhost:{port}", connect_seconds=0.1, tries=3, backoff_seconds=0.5)

        with pytest.raises(SparkUnavailableError) as silence:
            SparkConnectClient(nobody, sleep=pauses.append).connect()

    assert silence.value.reason == "timeout"
    assert silence.value.message == f"Spark at localhost:{port} did not answer within 0.1 seconds"
    assert pauses == [0.5, 1.0]


@pytest.mark.scenario(142)
def test_a_server_that_comes_late_is_met_by_a_retry(server: SparkServer) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    port = silent.getsockname()[1]
    pauses: list[float] = []
    late = SparkServer(f"sc://localhost:{port}", server.token, connect_seconds=0.2)
    client = SparkConnectClient(late)

    def come(seconds: float) -> None:
        pauses.append(seconds)
        silent.close()
        client._server = server

    client._sleep = come

    assert client.test_connection().version.startswith("4.1.")
    assert pauses == [0.5]
    client.close()


@pytest.mark.parametrize("url", ["http://localhost:15002", "sc://", "sc://localhost/path", "sc://localhost:port", "sc://localhost/;token"])
def test_what_is_no_url_is_said_so(url: str) -> None:
    with pytest.raises(SparkUnavailableError, match=r"^Spark's URL cannot be used: ") as refused:
        SparkConnectClient(SparkServer(url)).connect()

    assert refused.value.reason == "bad URL"
