"""The data sets of events that are downloaded, each from a miniature of its archive in the official format."""

import io
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.data import spikes_h5
from ranvier.data.events import events, frames
from ranvier.data.origin import File, digest
from ranvier.data.sets._recorded import Recorded
from ranvier.data.sets.asl_dvs import ASLDVS
from ranvier.data.sets.cifar10_dvs import CIFAR10DVS
from ranvier.data.sets.dvs_gesture import DVSGesture
from ranvier.data.sets.ncaltech101 import NCaltech101
from ranvier.data.sets.nmnist import NMNIST
from ranvier.data.sets.shd import SHD
from ranvier.data.sets.ssc import SSC


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of copies; the cache is beside it."""
    monkeypatch.setenv("RANVIER_DATA", str(tmp_path / "copies"))
    monkeypatch.setenv("RANVIER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "copies").mkdir()
    return tmp_path / "copies"


def place(kind: type[Recorded], contents: list[bytes], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archives where the data set looks for them, and their checksums in place of the official ones."""
    files = []
    for file, content in zip(kind.files, contents, strict=True):
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        files.append(File(file.path, digest(path, "md5"), urls=file.urls))
    monkeypatch.setattr(kind, "files", tuple(files))


def zipped(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def tarred(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            file.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def drawn(seed: int, width: int, height: int, count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corners = [0, width - 1], [0, height - 1]
    x, y = (np.concatenate([c, rng.integers(0, c[1] + 1, count - 2)]) for c in corners)
    return events(np.sort(rng.integers(0, 300_000, count)), x, y, rng.integers(0, 2, count))


def atis(e: np.ndarray) -> bytes:
    t = e["t"].astype(np.int64)
    columns = [e["x"], e["y"], e["p"].astype(np.int64) << 7 | t >> 16, t >> 8 & 255, t & 255]
    return np.stack(columns, 1).astype(np.uint8).tobytes()


def saved(save: Callable[..., Any], *what: Any, **more: Any) -> bytes:
    out = io.BytesIO()
    save(out, *what, **more)
    return out.getvalue()


def agrees(dataset: Recorded, split: str, expected: list[np.ndarray], y: list[int]) -> None:
    """The split holds these recordings, raw and binned, in this order; lazily, in a worker process too."""
    whole, raw = dataset.load(split), dataset.events(split)
    assert whole.y.tolist() == y and len(raw) == len(expected) and len(set(whole.group)) == len(y)
    for i, e in enumerate(expected):
        assert all(np.array_equal(raw[i][name], e[name]) for name in raw[i].dtype.names or ())
        assert np.array_equal(whole.x[i], frames(e, dataset.sensor, **dataset.binning)) and whole.x[i].sum() == len(e)
    assert np.array_equal(pickle.loads(pickle.dumps(whole)).x[0], whole.x[0])
    assert whole.batch([0, 1]).x.shape[1] == 2


def test_nmnist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {k: drawn(k, 34, 34) for k in range(20)}
    names = {k: f"{part}/{k % 10}/{k + 1:05}.bin" for k in made for part in ["Train"]}
    train = zipped({names[k]: atis(e) for k, e in made.items()})
    test = zipped({f"Test/{9 - k % 10}/{k + 1:05}.bin": atis(e) for k, e in made.items()})
    place(NMNIST, [train, test], folder, monkeypatch)
    agrees(NMNIST(steps=4), "train", list(made.values()), [k % 10 for k in made])
    assert NMNIST().load("test").group.tolist() == list(range(60_000, 60_020))
    assert NMNIST().load("test").y[:3].tolist() == [9, 8, 7]
    shutil.rmtree(folder)  # unpacked once, the archive is needed no more
    folder.mkdir()
    agrees(NMNIST(), "train", list(made.values()), [k % 10 for k in made])


def test_ncaltech101(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = {
        f"Caltech101/{name}/image_{k:04}.bin": drawn(100 * i + k, 240 - k, 180 - i % 7)
        for i, name in enumerate(NCaltech101.classes)
        for k in range(5)
    }
    inner = zipped({name: atis(e) for name, e in made.items()})
    place(NCaltech101, [zipped({"Caltech101.zip": inner, "annotations.txt": b"none"})], folder, monkeypatch)
    order = list(made.values())
    agrees(
        NCaltech101(), "train", [e for i, e in enumerate(order) if i % 5 < 4], [i for i in range(101) for _ in "four"]
    )
    agrees(NCaltech101(), "test", order[4::5], list(range(101)))


def test_the_part_of_a_recording_with_events_is_moved_to_the_corner(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    e = drawn(0, 100, 90)
    away = e.copy()
    away["x"] += 30
    away["y"] += 7
    inner = zipped({f"Caltech101/{c}/image_{k}.bin": atis(away) for c in NCaltech101.classes for k in range(2)})
    place(NCaltech101, [zipped({"Caltech101.zip": inner})], folder, monkeypatch)
    assert np.array_equal(NCaltech101().events("train")[0], e)


def test_dvs_gesture(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def member(e: np.ndarray) -> bytes:
        return saved(np.save, np.stack([e["x"], e["y"], e["p"], e["t"] // 1000], 1).astype(np.float64))

    def parts(people: list[int], seed: int) -> dict[str, np.ndarray]:
        made = {}
        for person in people:
            for gesture in range(11):
                e = drawn(seed + 100 * person + gesture, 128, 128)
                e["t"] -= e["t"] % 1000
                made[f"ibmGesture/user{person:02}_fluorescent_led/{gesture}.npy"] = e
        return made

    train, test = parts([1, 2, 23], 0), parts([24], 1)
    archives = [tarred({name: member(e) for name, e in part.items()}) for part in (train, test)]
    place(DVSGesture, archives, folder, monkeypatch)
    agrees(DVSGesture(), "train", list(train.values()), list(range(11)) * 3)
    agrees(DVSGesture(steps=3), "test", list(test.values()), list(range(11)))
    people = DVSGesture().people()
    assert set(people[DVSGesture().load("train").group]) == {1, 2, 23}
    assert set(people[DVSGesture().load("test").group]) == {24}


def test_cifar10_dvs(folder: Path, monkeypatch: pytest.MonkeyPatch, aedat4_file: Callable[..., bytes]) -> None:
    made = {(c, k): drawn(100 * i + k, 128, 128) for i, c in enumerate(CIFAR10DVS.classes) for k in range(10)}
    inner = {
        f"{c}.zip": zipped({f"{c}/cifar10_{c}_{k}.aedat4": aedat4_file(made[c, k]) for k in range(10)})
        for c in CIFAR10DVS.classes
    }
    place(CIFAR10DVS, [zipped(inner)], folder, monkeypatch)
    train = [e for (_, k), e in made.items() if k < 9]
    agrees(CIFAR10DVS(), "train", train, [i for i in range(10) for _ in range(9)])
    agrees(CIFAR10DVS(), "test", [e for (_, k), e in made.items() if k == 9], list(range(10)))
    groups = [set(CIFAR10DVS().load(split).group) for split in ("train", "test")]
    assert groups[0].isdisjoint(groups[1]) and groups[0] | groups[1] == set(range(100))


def test_asl_dvs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    made = {(c, k): drawn(100 * i + k, 240, 180) for i, c in enumerate(ASLDVS.classes) for k in range(5)}

    def member(e: np.ndarray) -> bytes:
        columns = {"ts": e["t"].astype(np.int32), "x": e["x"], "y": 179 - e["y"], "pol": e["p"].astype(np.uint8)}
        return saved(savemat, {name: c[:, None] for name, c in columns.items()})

    people = {
        f"Yin{part}.zip": zipped({f"{c}/{c}_{k:04}.mat": member(e) for (c, k), e in made.items() if k in chosen})
        for part, chosen in ((1, (0, 1, 2)), (2, (3, 4)))
    }
    place(ASLDVS, [zipped(people)], folder, monkeypatch)
    agrees(ASLDVS(), "train", [e for (_, k), e in made.items() if k < 4], [i for i in range(24) for _ in "four"])
    agrees(ASLDVS(), "test", [e for (_, k), e in made.items() if k == 4], list(range(24)))


@pytest.mark.parametrize("kind", [SHD, SSC])
def test_spoken_words(kind: type[SHD] | type[SSC], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    archives, made, count = [], {}, len(kind.classes)
    for split, file in zip(kind.splits, kind.files, strict=True):
        y = rng.permutation(np.arange(2 * count) % count)
        t = [np.sort(rng.uniform(0, 1.2, 30 + i)).astype(np.float16) for i in range(len(y))]
        x = [rng.integers(0, 700, len(times)).astype(np.uint16) for times in t]
        path = folder / "made.h5"
        with h5py.File(path, "w") as out:
            for name, columns, dtype in (("times", t, np.float16), ("units", x, np.uint16)):
                data = out.create_dataset(f"spikes/{name}", (len(y),), h5py.vlen_dtype(dtype))
                for i, column in enumerate(columns):
                    data[i] = column
            out["labels"] = y.astype(np.uint16)
            out["extra/speaker"] = (np.arange(len(y)) % 12).astype(np.uint16)
        archives.append(zipped({Path(file.path).name.removesuffix(".zip"): path.read_bytes()}))
        made[split] = [events(times.astype(float) * 1e6, units) for times, units in zip(t, x, strict=True)], y
    place(kind, archives, folder, monkeypatch)
    groups: list[int] = []
    for split, (recordings, y) in made.items():
        agrees(kind(), split, recordings, y.tolist())
        agrees(kind(window=4_000), split, recordings, y.tolist())
        groups += kind().load(split).group.tolist()
    assert len(set(groups)) == len(groups)
    if isinstance(people := kind(), SHD):
        assert people.people()[SHD().load("test").group].tolist() == [i % 12 for i in range(40)]


def test_without_h5py_the_line_that_installs_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(SHD, [zipped({f"shd_{split}.h5": b""}) for split in SHD.splits], folder, monkeypatch)
    with pytest.raises(Refusal, match=r"shd_train\.h5: expected labels and spikes in HDF5"):
        SHD().load("train")
    monkeypatch.setattr(spikes_h5, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(MissingPackage, match=r"h5py is not installed.*ranvier\[events\]"):
        SHD().load("train")


@pytest.mark.parametrize("kind", [NMNIST, NCaltech101, DVSGesture, CIFAR10DVS, ASLDVS, SHD, SSC])
def test_what_is_not_there_is_refused_with_what_to_do(kind: type[Recorded], folder: Path) -> None:
    with pytest.raises(Refusal, match=r"the file on this machine; got none.*ranvier data get.*Set RANVIER_DATA"):
        kind().load(kind.splits[0])


def test_a_class_without_files_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(NMNIST, [zipped({"Train/3/00001.bin": atis(drawn(0, 34, 34))})] * 2, folder, monkeypatch)
    with pytest.raises(Refusal, match=r"\.bin files of each class; got none of 0, 1, 2, 4"):
        NMNIST().load("train")


def test_another_archive_is_not_unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(NMNIST, [zipped({}), zipped({})], folder, monkeypatch)
    (folder / NMNIST.files[0].path).write_bytes(zipped({"x": b""}))
    with pytest.raises(Refusal, match=r"train\.zip: expected a file with md5"):
        NMNIST().load("train")
