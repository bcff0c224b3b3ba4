"""Published data sets: one file each, from official files to rows.

A new data set is one new file with one `register(...)` and one line below.
"""

from epalm.data.published import (
    audiocaps,
    clotho,
    clotho_aqa,
    coco_captions,
    flickr8k,
    flickr30k,
    gqa,
    msrvtt_captions,
    msrvtt_qa,
    msvd_qa,
    nocaps,
    okvqa,
    textcaps,
    vatex,
    vizwiz,
    vqav2,
)
from epalm.data.published.base import Published, PublishedSplit, dataset_names, get_dataset, read_split
from epalm.data.published.folder import Folder

__all__ = [
    "Folder",
    "Published",
    "PublishedSplit",
    "audiocaps",
    "clotho",
    "clotho_aqa",
    "coco_captions",
    "dataset_names",
    "flickr8k",
    "flickr30k",
    "get_dataset",
    "gqa",
    "msrvtt_captions",
    "msrvtt_qa",
    "msvd_qa",
    "nocaps",
    "okvqa",
    "read_split",
    "textcaps",
    "vatex",
    "vizwiz",
    "vqav2",
]
