from typing import ClassVar

from ranvier.data.idx_format import image_samples
from ranvier.data.origin import File, any_of
from ranvier.data.samples import Samples
from ranvier.data.sets.dataset import Labelled

_HOSTS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
)


def _official(name: str, size: int, checksum: str) -> File:
    return File(f"fashion_mnist/{name}", checksum, urls=tuple(f"{host}/{name}" for host in _HOSTS), bytes=size)


def _rebuilt(name: str, size: int, checksum: str) -> File:
    note = "The same images compressed anew; the official file serves as well."
    return File(f"fashion_mnist/{name}", checksum, bytes=size, note=note)


class FashionMNIST(Labelled):
    """Pictures of clothes: 70,000 grey images of 28x28 pixels in ten kinds.

    Splits: "train" (60,000 images, 6,000 of a class) and "test" (10,000, 1,000 of a class), the official ones. `group`
    is the image's number, the test's after those of the training.
    Output: x[i] is [1, 1, 28, 28], a static image as a sequence of one step ([T, C, H, W]) from 0 (ground) to 1, so that
    how often it is shown, and how it becomes spikes, is left to an encoder. Images stay bytes until they are asked for.

    The four official files, or in place of the images rebuilds of them that were compressed anew.

    Source: H. Xiao, K. Rasul and R. Vollgraf 2017.

    >>> FashionMNIST.splits, FashionMNIST.classes[:3]
    (('train', 'test'), ('T-shirt/top', 'Trouser', 'Pullover'))
    """

    licence: ClassVar[str] = "MIT: may be redistributed with attribution"
    citation: ClassVar[str] = (
        "H. Xiao, K. Rasul, R. Vollgraf. Fashion-MNIST: a novel image dataset for benchmarking machine learning "
        "algorithms, 2017. arXiv:1708.07747"
    )
    files: ClassVar[tuple[File, ...]] = (
        _official(
            "train-images-idx3-ubyte.gz", 26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        _official(
            "train-labels-idx1-ubyte.gz", 29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        _official(
            "t10k-images-idx3-ubyte.gz", 4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        _official(
            "t10k-labels-idx1-ubyte.gz", 5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
        ),
        _rebuilt(
            "train-images-idx3-ubyte.gz", 26_421_880, "8ce9f3fc1dce4bb3518a1639d02ef66352df93642ed67c4ae6f6b9d9f7dcb9d3"
        ),
        _rebuilt(
            "t10k-images-idx3-ubyte.gz", 4_422_102, "f738191433882d04a121ad8bfd66f372463076adcdbc4989d862bdb7baf56799"
        ),
    )
    whole_numbers: ClassVar[bool] = True
    classes: ClassVar[tuple[str, ...]] = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def read(self, split: str) -> Samples:
        """The images of a split, in the order of the file."""
        part, first = ("train", 0) if split == "train" else ("t10k", 60_000)
        folder = "fashion_mnist"
        images = any_of(self.files, f"{folder}/{part}-images-idx3-ubyte.gz")
        labels = any_of(self.files, f"{folder}/{part}-labels-idx1-ubyte.gz")
        return image_samples(images, labels, self.classes, first)
