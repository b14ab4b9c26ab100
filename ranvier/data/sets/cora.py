from typing import ClassVar

from ranvier.data.graph import Graph
from ranvier.data.origin import File
from ranvier.data.planetoid import planetoid
from ranvier.data.sets.dataset import Dataset


class Cora(Dataset[Graph]):
    """Papers on machine learning that cite each other: 2,708 in seven fields, by 5,278 citations and 1,433 words.

    Splits: "all", since a graph is one thing: `masks` say which nodes are for "train" (140, 20 of each class), "valid"
    (500) and "test" (1,000), Planetoid's public split; the other nodes have their labels but belong to none.
    Output: a `Graph` with edges [5,278, 2] of weight 1, x [2,708, 1,433] with 1 where a paper contains a word, and y
    [2,708]. The file numbers the fields; their names are found by how many papers each has.

    Source: P. Sen et al. 2008; split of Z. Yang, W. Cohen and R. Salakhutdinov 2016.

    >>> Cora.splits, len(Cora.classes)
    (('all',), 7)
    """

    licence: ClassVar[str] = "MIT (kimiyoung/planetoid): it may be redistributed with the notice"
    citation: ClassVar[str] = (
        "P. Sen, G. Namata, M. Bilgic, L. Getoor, B. Gallagher, T. Eliassi-Rad. Collective classification in network "
        "data. AI Magazine 29(3), 2008. Z. Yang, W. Cohen, R. Salakhutdinov. Revisiting semi-supervised learning with "
        "graph embeddings. ICML 2016."
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "graphs/cora/cora.npz",
            "6a19a102e95e16edc9a876fc7868d16840614a8af59ba7b61d69fb343a15625a",
            bytes=102576,
            note="Made from the pickles ind.cora.* of https://github.com/kimiyoung/planetoid, commit af6abf468a.",
        ),
    )
    splits: ClassVar[tuple[str, ...]] = ("all",)
    classes: ClassVar[tuple[str, ...]] = (
        "theory",
        "reinforcement learning",
        "genetic algorithms",
        "neural networks",
        "probabilistic methods",
        "case based",
        "rule learning",
    )

    def read(self, split: str) -> Graph:
        """The whole graph."""
        return planetoid(self.files[0].find(), self.classes)

    def smoke(self, split: str) -> Graph:
        """The nodes that the first hundred edges join."""
        return self.load(split).around(100)
