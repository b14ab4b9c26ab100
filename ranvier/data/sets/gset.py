import csv
import gzip
import io
from typing import ClassVar

import numpy as np

from ranvier.core.checks import Refusal
from ranvier.data.graph import Graph
from ranvier.data.origin import File
from ranvier.data.parsing import read_npz, read_text, reading
from ranvier.data.sets.dataset import Dataset

_GRAPHS = {
    "G1.txt.gz": (52421, "78d689fcda673604ab1b0c8d92364515a38c4420524175d8f0ab2190a1bba63d"),
    "G2.txt.gz": (52436, "c9ddd933f802d0bb7e80c49d2d42a9fead671a47b8a80c42447c12b86c9b7159"),
    "G3.txt.gz": (52282, "24874088fed4c125a175f89cf405d8555f0b7fe4a934e2a09a7fc90d949bdb70"),
    "G4.txt.gz": (52349, "d9ba967e32756cde9c961834fb33b1e06df6823d06308977cb9478c9bf0172f8"),
    "G5.txt.gz": (52279, "2785cfbe607005e82f54f13c78b912af14b48a1bccdca964c062e65cc6eb111c"),
    "G6.txt.gz": (57313, "6e8b117c8f1220532c78958fa6bc1699e0386ca526e454f79cfb942543bad959"),
    "G7.txt.gz": (57408, "8dc4814bdd82e2b59e1367abb024456295f6d41065fed719211cea853906ee21"),
    "G8.txt.gz": (57193, "48ba3d8405730943ce92a4ce5ad990aee0380e0977dd44b970f2fec4a5253554"),
    "G9.txt.gz": (57273, "986d384a4644e0a2b29725313ecff0aaf9f817896fd47e59deb2faeb54b3b7ed"),
    "G10.txt.gz": (57312, "44665ca578081a152487968b8880d71ea9c2ec70d88245820849e23ade5f61b5"),
    "G11.txt.gz": (5197, "3c69df79286721fb63504fc62e44bc089a4aa979e19d4b18aa25e40950ea81bf"),
    "G12.txt.gz": (5361, "c7cada391699387346f7b49bc9c43cd65d1f6d6991987cccd50d220a1f2a75c0"),
    "G13.txt.gz": (5508, "cefa5dc68914ae89be368cf8bf9042c95113602d930bc44afd14ba60f959b18a"),
    "G14.txt.gz": (13555, "a9fbd55d8a622c58207d3160a9af8deaef1b834384086b7281725a8ac7670dc8"),
    "G15.txt.gz": (13384, "b37eea096330a8fbd0efb2f0ef1503e27fff3017fcf4e0180ea005997df00a6e"),
    "G16.txt.gz": (13443, "eae28cf071edd13cd126f163cdcf9778261c2f0f6bf10e457783b27537c4f80e"),
    "G17.txt.gz": (13444, "5433dc62b6898207a59fcb8ebc681397f4eecd4bde49bd2114b957d3c2bcf09d"),
    "G18.txt.gz": (14620, "b70349851e5268fa311c8e2ad080473287da1477e71eddd0de3600c3a7042e39"),
    "G22.txt.gz": (63910, "11c744197d5a746f62a10f4540a6a5bea0b095204bb09014a1059358f1ca3eaa"),
    "G32.txt.gz": (13311, "e10dfbe852d58fae59895aeec6a0b919626d89b11c83108b9b78fc218e2887fa"),
    "G35.txt.gz": (36619, "e66a0986965abc4a18185405ca6c094aa6e24253664d8b6b243fe2f06baa17a9"),
    "G43.txt.gz": (29940, "072e4dd58078e2e41c8056a6a729ca4aad8dcdcc4e60d0a4cbb879619b511671"),
    "G48.txt.gz": (17548, "15e984d074fad4975d1e03d320b9b693ce845a5a25656ece43cd8ec3ac9dbd93"),
    "G49.txt.gz": (14303, "80f69a6a2c09794c8165cd54c7c306a73a31800cb1f7e426ac30a60faa5ab78f"),
    "G50.txt.gz": (17722, "610d38a0717243ceb737f6897c950a5ba5f9c40904f16bb54084e4061b700566"),
    "G51.txt.gz": (17361, "3e8abfd85655df308bb7d89588cb7ddd7cfedf493c7046604572b7553699b460"),
    "G55.txt.gz": (48115, "d60bca54ef092da58cb8b335bfbf5a23adc93449a4c194077defce1ad9e00da9"),
    "G60.txt.gz": (67449, "38ba2f53f61d8ad074b2f99c96540b0fd354a66863883078ed70ce899909c775"),
    "G63.txt.gz": (142717, "2702f8fbda808395ac956e915c0b775d23527101baefae3215056bc81a9c1f60"),
    "G70.txt.gz": (43302, "a16a32247bf63297d6e028ab26844d8817346c1ebdd6b9e342b579f2ba817e94"),
    "G81.txt.gz": (134277, "cec104f03a2408d284da23fab14d67f2814ba7bda32397219f455b6faee71b34"),
    "be100.1.mc.gz": (17221, "583499ef9592da7a91d9c2285f7d6b91ea31ebde58db1f8292df8eb700075417"),
    "be100.2.mc.gz": (17223, "f1fd58768fbdef100b473c96d723dba1421a7c8e76d3e9929bd1b675ad16913b"),
    "be100.3.mc.gz": (17170, "92810237597ac4224f9896617238f1c12006ddebf39e70a07ca88457d17010a4"),
    "be100.4.mc.gz": (17218, "4b8280e2b70a19e179490ed67e57fb821486e490575fe9e3cf2f4a1e30822e38"),
    "be100.5.mc.gz": (17224, "3426f593a2af1f7a78012a1486338bef09a44916b94ab16e323b8d54802e05b3"),
    "be100.6.mc.gz": (17146, "0f25a03cf65a64d6aff11d721c2f3a59c0ba9dab12cd868142aac9d181111979"),
    "be100.7.mc.gz": (17250, "c62af950c0f06001175a043f275e2edd350dace5d981dfd40e78e05e5f0771a6"),
    "be100.8.mc.gz": (17262, "9302e8cc475b390942503ee76e32c21cfa9d97833afef16396262517d1f0240a"),
    "be100.9.mc.gz": (17200, "4bb16d4ff1f64eb48691d5e33477f664e7f57a9438181b91ce29fb4faea6b619"),
    "be100.10.mc.gz": (17208, "50e941323ea68ee4dee1f7c848d41c99e2674cce008178f616b39176ce880023"),
    "bqp500-1.mc.gz": (50041, "e25cf9144c6cbfde0d6a8c3e42f55eea43b907c3c968aa5603c46f6a81cb198e"),
    "bqp500-2.mc.gz": (49681, "b530b8fa1048fa9874f27cf6f52a964e9b11f5a8deadea4500d4e8446908212e"),
    "bqp500-3.mc.gz": (50556, "ccbd34962f60b7ced4042e3310244900b7f299c71202723f035b38bd4d2aa098"),
    "bqp500-4.mc.gz": (49709, "b614fff599f3733ec268a1e0780c79746c164ab07b6f28d034021c0d2c237afc"),
    "bqp500-5.mc.gz": (49942, "0f33c0d64cb6dcb44dcf56f66980fe71363d7865ddb3e84055726fb3647fe98e"),
    "bqp500-6.mc.gz": (49881, "52fe092699e68b72f317e1b7f4bf9f9b1edcfa274123226a6828f20ac6944e19"),
    "bqp500-7.mc.gz": (50118, "0becccb1322b3dfcc27e22ee1f29100d6812325a4e2ab946755d6e393e448420"),
    "bqp500-8.mc.gz": (49691, "fefed8e3f4526bbbd23c11d282eb72252927d24312ef1f91658280ee7200301b"),
    "bqp500-9.mc.gz": (49919, "03650f0334da247ea6a305854bc21bc8e481ba3b40807412a36c19a309503eec"),
    "bqp500-10.mc.gz": (50198, "a5986457ac0a967db620f4f51932aa9a91e6dbbae12a254ba4f0dd9f27bae18f"),
}
_NOTE = "It comes from https://github.com/romank-rudolfovo/MaxCut_benchmarkdata, commit 899680c264"


class GSet(Dataset[Graph]):
    """Graphs to be cut in two, with the best cuts known: 31 of the G-set, 10 of Billionnet and Elloumi, 10 of Beasley.

    Splits: one for each graph, by its name: "G1" ... "G81" (800 to 20,000 nodes, weights 1, or -1 and 1), "be100.1" ...
    "be100.10" (101 nodes) and "bqp500-1" ... "bqp500-10" (501 nodes), the latter two quadratic
    unconstrained binary problems turned into cuts, with weights from -1,365 to 1,550.
    Output: a `Graph` with integer weights; `best_cut`, the best known in the literature where the file of best cuts
    states one, else that of the source; and `assignment`, a cut of the source, which falls short of `best_cut` by up to
    0.9 % in the G-set.

    Source: Y. Ye's G-set, made with G. Rinaldi's rudy; A. Billionnet and S. Elloumi 2007; J. Beasley 1998.

    >>> len(GSet.splits), GSet.splits[0], GSet.splits[-1]
    (51, 'G1', 'bqp500-10')
    """

    licence: ClassVar[str] = "not stated by the source (public benchmark instances): they may not be passed on"
    citation: ClassVar[str] = (
        "Y. Ye. The G-set, https://web.stanford.edu/~yyye/yyye/Gset/. A. Billionnet, S. Elloumi. Using a mixed integer "
        "quadratic programming solver for the unconstrained quadratic 0-1 problem. Mathematical Programming 109, 2007. "
        "J. Beasley. Heuristic algorithms for the unconstrained binary quadratic programming problem. Imperial College "
        "London, 1998."
    )
    files: ClassVar[tuple[File, ...]] = (
        *(File(f"maxcut/{name}", sha256, bytes=size, note=f"{_NOTE}.") for name, (size, sha256) in _GRAPHS.items()),
        File(
            "maxcut/best_known.csv",
            "db9853a5167112a90ac33dffd2d3b108751bda5e7a2f91274325bdd4acd9c612",
            bytes=2180,
            note=f"{_NOTE}, and from https://github.com/microsoft/AOCoptimizer.jl, commit aed4efb3da.",
        ),
        File(
            "maxcut/best_cut_assignments.npz",
            "c23d5505422c3e9cec6c190b77de797d31a87b6ad22c0899081b0eafa62b3619",
            bytes=24603,
            note=f"{_NOTE}.",
        ),
    )
    splits: ClassVar[tuple[str, ...]] = tuple(name.removesuffix(".gz").rpartition(".")[0] for name in _GRAPHS)

    def read(self, split: str) -> Graph:
        """One graph."""
        *graphs, best, assignments = self.files
        path = graphs[self.splits.index(split)].find()
        best_path = best.find()
        with reading(best_path):
            known = {row["instance"]: row for row in csv.DictReader(io.StringIO(read_text(best_path)))}[split]
            best_cut = round(float(known["literature_best"] or known["cut_recomputed"]))
        assignment = read_npz(assignments.find(), split)[split].astype(np.int64)
        with reading(path):
            text = gzip.decompress(path.read_bytes()).decode("ascii")
            head, _, body = text.partition("\n")
            nodes, count = (int(word) for word in head.split())
            rows = np.loadtxt(io.StringIO(body), dtype=np.int64, ndmin=2)
        if rows.shape != (count, 3):
            raise Refusal(
                path.name,
                expected=f"{count} lines of two nodes and a weight, as its first line says",
                got=f"{len(rows)} lines of {rows.shape[1]} numbers",
                do="Copy it anew from where it comes from.",
            )
        return Graph(nodes=nodes, edges=rows[:, :2] - 1, weights=rows[:, 2], best_cut=best_cut, assignment=assignment)

    def smoke(self, split: str) -> Graph:
        """The nodes that the first hundred edges join; no cut of it is known."""
        return self.load(split).around(100)
