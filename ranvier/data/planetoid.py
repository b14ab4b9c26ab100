"""Graphs of papers that cite each other, with the words they contain."""

from pathlib import Path

import numpy as np

from ranvier.core.checks import Refusal
from ranvier.data.graph import Graph
from ranvier.data.parsing import read_npz, reading


def planetoid(path: Path, classes: tuple[str, ...]) -> Graph:
    """The graph of a file that holds one of Planetoid's: words as CSR, labels, edges, and the numbers of three sets.

    Raises: Refusal for a file that holds anything else.
    """
    file = read_npz(
        path, "x_indices", "x_indptr", "x_data", "x_shape", "labels", "edges", "train_idx", "val_idx", "test_idx"
    )
    with reading(path):
        nodes, words = file["x_shape"].tolist()
        x = np.zeros((nodes, words), dtype=np.float32)
        x[np.repeat(np.arange(nodes), np.diff(file["x_indptr"])), file["x_indices"]] = file["x_data"]
        masks = {}
        for name, key in (("train", "train_idx"), ("valid", "val_idx"), ("test", "test_idx")):
            masks[name] = np.zeros(nodes, dtype=bool)
            masks[name][file[key]] = True
        y = file["labels"].astype(np.int64)
        if len(y) and (y.min() < -1 or y.max() >= len(classes)):
            raise Refusal(
                path.name,
                expected=f"labels from -1 to {len(classes) - 1}",
                got=f"{y.min()} to {y.max()}",
                do="Copy it anew from where it comes from.",
            )
        edges = file["edges"].astype(np.int64)
        return Graph(
            nodes=nodes,
            edges=edges,
            weights=np.ones(len(edges), dtype=np.float32),
            x=x,
            y=y,
            classes=classes,
            masks=masks,
        )
