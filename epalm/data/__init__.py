"""Rows of data: manifests of one's own, and batches made of them. Nothing here knows a language model."""

from epalm.data.manifest import read_manifest, write_manifest
from epalm.data.rows import MODALITIES, Row, TaskName

__all__ = ["MODALITIES", "Row", "TaskName", "read_manifest", "write_manifest"]
