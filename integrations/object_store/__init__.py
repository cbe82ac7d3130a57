"""Where files land: S3, S3-compatible stores and local folders, behind the port `domain.ports.object_store`."""
