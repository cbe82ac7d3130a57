"""One configured S3 account: its clients, made once and on first use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials, RefreshableCredentials
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.session import Session
from obstore.store import S3Store

from integrations.object_store.credentials import S3Credential

if TYPE_CHECKING:
    from obstore.store import RetryConfig
    from obstore.store import S3Credential as ObstoreCredential

RAW_LISTING = "RawListing"
"""Where a `list_objects_v2` answer of our clients carries its body, unparsed."""
_KEY_LIFETIME = timedelta(minutes=10)
_DEFAULT_REGION = "us-east-1"
PATIENT: dict[str, Any] = {"connect_timeout": 5, "read_timeout": 30, "retries": {"mode": "standard", "total_max_attempts": 4}}
QUICK: dict[str, Any] = {"connect_timeout": 2, "read_timeout": 3, "retries": {"mode": "standard", "total_max_attempts": 1}}
RETRIES: RetryConfig = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}


class S3Account:
    """Clients signed with one credential. Its methods block: sessions read files and may ask a metadata service.

    `name` is how errors call the credential.
    """

    def __init__(self, name: str, credential: S3Credential) -> None:
        self.name = name
        self.endpoint = credential.endpoint_url
        self._credential = credential
        self._lock = threading.RLock()
        self._clients: dict[bool, Any] = {}
        self._stores: dict[str, S3Store] = {}

    @property
    def queue_endpoint(self) -> str | None:
        """Where SQS answers; None for AWS's own. Where nobody has said otherwise it is where the store is: its keys go nowhere else."""
        return self._credential.sqs_endpoint_url or self.endpoint

    def queue_region(self) -> str:
        """S3 notifies queues of the bucket's own region."""
        return self._credential.region or self._session.get_config_variable("region") or _DEFAULT_REGION

    def client(self, *, quick: bool = False) -> Any:
        """A botocore S3 client, whose `list_objects_v2` leaves the body unparsed; `quick` fails within seconds."""
        with self._lock:
            if quick not in self._clients:
                self._clients[quick] = self._new_client(QUICK if quick else PATIENT)
            return self._clients[quick]

    def bucket_store(self, bucket: str) -> S3Store:
        """obstore's view of a bucket, in the bucket's own region."""
        with self._lock:
            if bucket not in self._stores:
                self._stores[bucket] = self._new_store(bucket)
            return self._stores[bucket]

    def keys(self) -> S3Credential:
        """The keys as they are now, endpoint and region with them."""
        given = self._credential
        found = self._session.get_credentials()
        frozen = None if found is None else found.get_frozen_credentials()
        if frozen is None:
            return S3Credential(given.endpoint_url, given.region)
        return S3Credential(given.endpoint_url, given.region, frozen.access_key, frozen.secret_key, frozen.token)

    @cached_property
    def _session(self) -> Session:
        given = self._credential
        session = Session(profile=given.profile)
        if given.access_key_id is not None:
            session.set_credentials(given.access_key_id, given.secret_access_key, given.session_token)
        if given.role_arn is None:
            return session
        assumed = Session(profile=given.profile)
        assumed.register_component("credential_provider", _AssumedRole(session, given.role_arn, given.region or _DEFAULT_REGION))
        return assumed

    def _new_client(self, options: dict[str, Any]) -> Any:
        client = self._session.create_client(
            "s3",
            region_name=self._credential.region,
            endpoint_url=self._credential.endpoint_url,
            config=Config(max_pool_connections=32, **options),
        )
        client.meta.events.register("before-parse.s3.ListObjectsV2", _keep_listing_raw)
        return client

    def _new_store(self, bucket: str) -> S3Store:
        client = self.client()
        return S3Store(
            bucket,
            config={
                "endpoint": client.meta.endpoint_url,
                "region": self._region_of(bucket),
                "virtual_hosted_style_request": False,
                "skip_signature": False,
            },
            client_options={
                "allow_http": client.meta.endpoint_url.startswith("http://"),
                "connect_timeout": "5s",
                "read_timeout": "30s",
                "timeout": "12h",
            },
            retry_config=RETRIES,
            credential_provider=self._key_source(),
        )

    def _region_of(self, bucket: str) -> str:
        """Where AWS keeps the bucket; for another store, the region that its client signs for."""
        client = self.client()
        if self.endpoint is None:
            try:
                answer = client.head_bucket(Bucket=bucket)
            except ClientError as error:
                answer = error.response
            region = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("x-amz-bucket-region")
            if isinstance(region, str):
                return region
        return client.meta.region_name or _DEFAULT_REGION

    def _key_source(self) -> Callable[[], ObstoreCredential]:
        """What obstore asks for keys, and asks again: botocore keeps keys that end valid for ten minutes ahead."""
        credentials = self._session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        renewed = isinstance(credentials, RefreshableCredentials)

        def keys() -> ObstoreCredential:
            frozen = credentials.get_frozen_credentials()
            return {
                "access_key_id": frozen.access_key,
                "secret_access_key": frozen.secret_key,
                "token": frozen.token,
                "expires_at": datetime.now(UTC) + _KEY_LIFETIME if renewed else None,
            }

        return keys


class _AssumedRole:
    """A botocore credential resolver: the role's short-lived keys, renewed by STS."""

    def __init__(self, session: Session, role_arn: str, region: str) -> None:
        self._session = session
        self._role_arn = role_arn
        self._region = region

    def load_credentials(self) -> Any:
        source = self._session.get_credentials()
        if source is None:
            return None
        fetcher = AssumeRoleCredentialFetcher(
            partial(self._session.create_client, region_name=self._region),
            source,
            self._role_arn,
            extra_args={"RoleSessionName": "autoloader"},
        )
        return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


def _keep_listing_raw(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    """Hand a good listing's body on as it is, and an empty one to botocore's own parser, which is slow."""
    if response_dict["status_code"] == HTTPStatus.OK:
        customized_response_dict[RAW_LISTING] = response_dict["body"]
        response_dict["body"] = b"<ListBucketResult/>"
