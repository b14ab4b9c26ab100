from typing import ClassVar

from ranvier.data.origin import File
from ranvier.data.parsing import read_text
from ranvier.data.sets.dataset import Dataset
from ranvier.data.text import Text

_URL = "https://raw.githubusercontent.com/pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8/word_language_model/data/wikitext-2"


class WikiText2(Dataset[Text]):
    """Articles of Wikipedia, cut into words with rare ones as <unk>: what WikiText-2 validates and tests on.

    Splits: "valid" (213,886 words, 1,120,192 characters) and "test" (241,211 words, 1,255,018 characters), as published.
    There is no "train": its file lies beside them at the origin, but its sha256 is not known here, and nothing is opened
    unverified.
    Output: a `Text` whose symbols, in order of their code points, are those of both files; `text.split()` gives words.

    Source: S. Merity, C. Xiong, J. Bradbury and R. Socher 2016.

    >>> WikiText2.splits
    ('valid', 'test')
    """

    licence: ClassVar[str] = "CC BY-SA 3.0 (text of Wikipedia): it may be redistributed under the same terms"
    citation: ClassVar[str] = (
        "S. Merity, C. Xiong, J. Bradbury, R. Socher. Pointer sentinel mixture models. arXiv:1609.07843, 2016."
    )
    files: ClassVar[tuple[File, ...]] = (
        File(
            "text/wikitext2_valid.txt",
            "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
            urls=(f"{_URL}/valid.txt",),
            bytes=1121681,
        ),
        File(
            "text/wikitext2_test.txt",
            "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
            urls=(f"{_URL}/test.txt",),
            bytes=1256449,
        ),
    )
    splits: ClassVar[tuple[str, ...]] = ("valid", "test")

    def read(self, split: str) -> Text:
        """The file of a split."""
        texts = [read_text(file.find()) for file in self.files]
        return Text(texts[self.splits.index(split)], symbols="".join(sorted(set().union(*texts))))

    def smoke(self, split: str) -> Text:
        """The first thousand characters."""
        whole = self.load(split)
        return Text(whole.text[:1000], whole.symbols)
