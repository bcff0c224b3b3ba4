"""The feature store: what encoders gave, on disk, built by any number of processes and read from anywhere in it."""

from epalm.data.store.cache_directory import default_place, stores_below
from epalm.data.store.cached_features import CachedFeatures
from epalm.data.store.description import StoreDescription, describe_encoder
from epalm.data.store.imported_features import ImportedFeatures
from epalm.data.store.store import FeatureStore

__all__ = [
    "CachedFeatures",
    "FeatureStore",
    "ImportedFeatures",
    "StoreDescription",
    "default_place",
    "describe_encoder",
    "stores_below",
]
