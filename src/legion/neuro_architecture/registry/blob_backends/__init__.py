"""Where the bytes of blobs lie: a folder of this machine, or whatever fsspec reaches by URL."""

from legion.neuro_architecture.registry.blob_backends.address import BlobAddress, parse_address
from legion.neuro_architecture.registry.blob_backends.folder import FolderBackend
from legion.neuro_architecture.registry.blob_backends.opening import open_remote
from legion.neuro_architecture.registry.blob_backends.port import BlobBackend, ByteSource, StoredBlob
from legion.neuro_architecture.registry.blob_backends.remote import RemoteBackend

__all__ = [
    "BlobAddress",
    "BlobBackend",
    "ByteSource",
    "FolderBackend",
    "RemoteBackend",
    "StoredBlob",
    "open_remote",
    "parse_address",
]
