from typing import ClassVar

from ranvier.data.graph import Graph
from ranvier.data.planetoid import planetoid
from ranvier.data.sets.dataset import Dataset


class Citations(Dataset[Graph]):
    """The base of Planetoid's graphs of papers: one file holds the graph, the fields and the public split."""

    licence: ClassVar[str] = "MIT (kimiyoung/planetoid): it may be redistributed with the notice"
    citation: ClassVar[str] = (
        "P. Sen, G. Namata, M. Bilgic, L. Getoor, B. Gallagher, T. Eliassi-Rad. Collective classification in network "
        "data. AI Magazine 29(3), 2008. Z. Yang, W. Cohen, R. Salakhutdinov. Revisiting semi-supervised learning with "
        "graph embeddings. ICML 2016."
    )
    splits: ClassVar[tuple[str, ...]] = ("all",)
    classes: ClassVar[tuple[str, ...]]

    def read(self, split: str) -> Graph:
        """The whole graph."""
        return planetoid(self.files[0].find(), self.classes)

    def smoke(self, split: str) -> Graph:
        """The nodes that the first hundred edges join."""
        return self.load(split).around(100)
