import csv
import gzip
import io
from typing import ClassVar

import numpy as np

from ranvier.core.checks import Refusal
from ranvier.data.connectome import Connectome
from ranvier.data.origin import File
from ranvier.data.parsing import read_npz, reading
from ranvier.data.sets.dataset import Dataset

_NOTE = (
    "Made from data/elife in https://github.com/neurodata/bilateral-connectome, commit 2f56a81187, columns selected."
)


class LarvalDrosophila(Dataset[Connectome]):
    """The brain of a fly larva: 3,591 neurons, 119,010 connections, 376,091 chemical synapses.

    Splits: "all".
    Output: a `Connectome` with the neurons' names (some have the same), their groups (18, such as "KCs", "sensories"
    and "dVNCs"; "unk" where unknown), and in `columns`, by neuron: "skeleton_id", "hemisphere" (L, R or C), "io"
    (input, inter or output), "merge_class", "pair_id" (the same for a neuron and its twin on the other side, -1 for
    none), "sum_walk_sort" (from 0, close to the senses, to 1; NaN where unknown) and "selected_lcc" (the 2,952 neurons
    of the published analysis).

    Source: M. Winding, B. Pedigo et al. 2023; B. Pedigo et al. 2023.

    >>> LarvalDrosophila.splits
    ('all',)
    """

    licence: ClassVar[str] = (
        "MIT (neurodata/bilateral-connectome): it may be redistributed with the notice; cite the papers"
    )
    citation: ClassVar[str] = (
        "M. Winding, B. Pedigo et al. The connectome of an insect brain. Science 379, 2023. "
        "doi:10.1126/science.add9330. B. Pedigo, M. Powell, E. Bridgeford, M. Winding, C. Priebe, J. Vogelstein. "
        "Generative network modeling reveals quantitative definitions of bilateral symmetry exhibited by a whole insect "
        "brain connectome. eLife 12, 2023."
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "connectome_larval_drosophila/edges.npz",
            "f212ee5219ba32e9dbc3a4cd234a2ac9e942c95f617fb534b0f68cea9e55b91f",
            bytes=313781,
            note=_NOTE,
        ),
        File(
            "connectome_larval_drosophila/nodes.csv.gz",
            "5532bed4b4ad14a0f8739587bf78302f410ef0e29d0e0e1944a48b92a139053b",
            bytes=85900,
            note=_NOTE,
        ),
    )
    splits: ClassVar[tuple[str, ...]] = ("all",)

    def read(self, split: str) -> Connectome:
        """The whole brain, neurons in the order of the file."""
        edges_path, nodes_path = (file.find() for file in self.files)
        edges = read_npz(edges_path, "pre", "post", "synapses", "skeleton_id")
        with reading(nodes_path):
            rows = list(csv.DictReader(io.StringIO(gzip.decompress(nodes_path.read_bytes()).decode("utf-8"))))
            columns = {
                "skeleton_id": np.array([int(row["skeleton_id"]) for row in rows], dtype=np.int64),
                "hemisphere": np.array([row["hemisphere"] for row in rows]),
                "io": np.array([row["io"] for row in rows]),
                "merge_class": np.array([row["merge_class"] for row in rows]),
                "pair_id": np.array([int(row["pair_id"]) for row in rows], dtype=np.int64),
                "sum_walk_sort": np.array([float(row["sum_walk_sort"] or "nan") for row in rows]),
                "selected_lcc": np.array([row["selected_lcc"] == "True" for row in rows], dtype=bool),
            }
            names, groups = tuple(row["name"] for row in rows), tuple(row["simple_group"] for row in rows)
        if not np.array_equal(columns["skeleton_id"], edges["skeleton_id"]):
            raise Refusal(
                nodes_path.name,
                expected=f"the neurons of {edges_path.name} in the same order",
                got="others",
                do="Copy both anew from where they come from.",
            )
        return Connectome(
            pre=edges["pre"].astype(np.int64),
            post=edges["post"].astype(np.int64),
            synapses=edges["synapses"].astype(np.int64),
            neurons=names,
            groups=groups,
            columns=columns,
        )

    def smoke(self, split: str) -> Connectome:
        """The first hundred neurons."""
        return self.load(split).part(range(100))
