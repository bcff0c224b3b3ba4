"""The feature store: what encoders gave, on disk, built by any number of processes and read from anywhere in it."""

from epalm.data.store.description import StoreDescription, describe_encoder
from epalm.data.store.place import default_place, stores_below
from epalm.data.store.ready import ReadyFeatures
from epalm.data.store.store import FeatureStore
from epalm.data.store.stored import StoredFeatures

__all__ = [
    "FeatureStore",
    "ReadyFeatures",
    "StoreDescription",
    "StoredFeatures",
    "default_place",
    "describe_encoder",
    "stores_below",
]
