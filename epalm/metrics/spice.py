"""SPICE (Anderson et al., ECCV 2016) by its own Java program, and SPIDEr (Liu et al., ICCV 2017), its mean with CIDEr.

The program parses captions with Stanford CoreNLP 3.6.0, which is not part of any Python package: two jars out of its
release are to be put beside the program once.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from epalm.metrics.cider import cider
from epalm.metrics.java import run_java
from epalm.metrics.ngrams import Tokens
from epalm.metrics.registry import FloatArray, metric

_JARS = (
    "spice/spice-1.0.jar",
    "spice/lib/stanford-corenlp-3.6.0.jar",
    "spice/lib/stanford-corenlp-3.6.0-models.jar",
)


@metric("spice", "spider", reads="tokens", jars=_JARS)
def spice(predictions: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> FloatArray:
    """SPICE in percent and SPIDEr of each row, `(N, 2)`.

    Raises:
        ConfigError: Java, the program or its parser is missing, or fails.
    """
    rows = [
        {"image_id": row, "test": " ".join(prediction), "refs": [" ".join(reference) for reference in captions]}
        for row, (prediction, captions) in enumerate(zip(predictions, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        captions_file, scores_file = Path(folder, "captions.json"), Path(folder, "scores.json")
        captions_file.write_text(json.dumps(rows), encoding="utf-8")
        run_java(
            "SPICE", ("-jar", "-Xmx8G", "spice-1.0.jar", str(captions_file), "-out", str(scores_file), "-silent"), _JARS
        )
        scores = {
            item["image_id"]: item["scores"]["All"]["f"] for item in json.loads(scores_file.read_text(encoding="utf-8"))
        }
    agreement = 100 * np.array([[scores[row["image_id"]]] for row in rows], dtype=np.float64)
    return np.hstack([agreement, (agreement + cider(predictions, references)) / 2])
