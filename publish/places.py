"""Which hub the settings mean. Each kind is imported only where it is asked for: boto3 alone takes a third of a second."""

from __future__ import annotations

from publish.directory import DirectoryHub
from publish.hub import Hub, ReadableHub
from publish.pace import Bucket
from publish.settings import FollowSettings, PublishSettings


def publishers_hub(settings: PublishSettings) -> Hub:
    """Where versions go; made where there is none. Raises HubUnavailable where a remote one cannot be reached."""
    limit = settings.upload_bytes_per_second
    if settings.repository is not None:
        from publish.hugging_face import HuggingFaceHub

        return HuggingFaceHub(
            settings.repository,
            endpoint=settings.endpoint,
            token=settings.token,
            create=True,
            commits_per_hour=settings.commits_per_hour,
            upload=None if limit is None else Bucket(limit, limit),
        )
    if settings.bucket is not None:
        from publish.s3 import S3Hub

        return S3Hub(settings.bucket, endpoint=settings.endpoint, create=True, upload_bytes_per_second=limit)
    return DirectoryHub(settings.hub, create=True)


def followers_hub(settings: FollowSettings) -> ReadableHub:
    """Where versions come from."""
    if settings.url is not None:
        from publish.http_hub import HttpHub

        return HttpHub(settings.url, settings.token)
    if settings.repository is not None:
        from publish.hugging_face import HuggingFaceHub

        return HuggingFaceHub(settings.repository, endpoint=settings.endpoint, token=settings.token or None)
    if settings.bucket is not None:
        from publish.s3 import S3Hub

        return S3Hub(settings.bucket, endpoint=settings.endpoint)
    return DirectoryHub(settings.hub)
