"""Folders of one's own recordings: every kind is read, and every mistake is named with its file."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from ranvier.core.checks import NonFinite, Refusal
from ranvier.data import folder as place
from ranvier.data.events import events
from ranvier.data.folder import Format, read_file, read_folder, read_labelled
from ranvier.data.lazy import Mapped
from ranvier.data.sets.smartwatch import Smartwatch
from ranvier.data.split import stratified

Write = Callable[[Path, int], None]


def csv(path: Path, seed: int, names: str = "time,ax,ay", rows: int = 260, rate: float = 50.0) -> None:
    x = np.random.default_rng(seed).normal(size=(rows, len(names.split(",")) - 1))
    table = np.column_stack([np.arange(rows) / rate, x])
    np.savetxt(path.with_suffix(".csv"), table, delimiter=",", header=names, comments="", fmt="%.6f")


def npy(path: Path, seed: int) -> None:
    np.save(path.with_suffix(".npy"), np.random.default_rng(seed).normal(size=300))


def npz(path: Path, seed: int) -> None:
    np.savez(path.with_suffix(".npz"), x=np.random.default_rng(seed).normal(size=(300, 3)), rate=100)


def wav(path: Path, seed: int, rate: int = 8000, seconds: float = 0.3) -> None:
    x = np.random.default_rng(seed).integers(-9999, 9999, (round(seconds * rate), 2))
    wavfile.write(path.with_suffix(".wav"), rate, x.astype(np.int16))


def camera(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    t, x, y, p = (
        np.sort(rng.integers(0, 9999, 500)),
        rng.integers(0, 100, 500),
        rng.integers(0, 80, 500),
        rng.integers(0, 2, 500),
    )
    np.savez(path.with_suffix(".npz"), t=t, x=np.append(x[:-1], 99), y=np.append(y[:-1], 79), p=p)


def atis(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = np.column_stack([rng.integers(0, 34, 300), rng.integers(0, 34, 300), np.zeros(300), np.arange(300) // 256])
    raw = np.column_stack([raw, np.arange(300) % 256])
    raw[:, 2] = 128 * rng.integers(0, 2, 300)
    raw[0, :2] = 33
    path.with_suffix(".bin").write_bytes(raw.astype(np.uint8).tobytes())


def cochlea(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.append(rng.integers(0, 700, 499), 699).astype(np.int16)
    array = events(np.sort(rng.integers(0, 99999, 500)), x)
    np.save(path.with_suffix(".npy"), array)


def fill(root: Path, write: Write, classes: tuple[str, ...] = ("go", "stop"), count: int = 3) -> Path:
    for i, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for k in range(count):
            write(root / name / f"r{k}", 100 * i + k)
    return root


@pytest.mark.parametrize(
    ("write", "kind", "steps", "shape", "pool"),
    [
        (csv, "signal", 260, (2,), 2),
        (npy, "signal", 300, (1,), 2),
        (npz, "signal", 300, (3,), 2),
        (wav, "sound", 28, (40,), 1),
        (camera, "events", 10, (2, 27, 34), 1),
        (atis, "events", 10, (2, 34, 34), 1),
        (cochlea, "events", 128, (117,), 1),
    ],
    ids=["csv", "npy", "npz", "wav", "camera", "atis", "cochlea"],
)
def test_every_kind_is_read_and_a_new_file_is_read_in_the_same_way(
    write: Write, kind: str, steps: int, shape: tuple[int, ...], pool: int, tmp_path: Path
) -> None:
    samples, form, files, digests = read_folder(fill(tmp_path, write))
    assert (form.kind, form.shape, form.pool, form.classes) == (kind, shape, pool, ("go", "stop"))
    assert samples.x[0].shape == (steps, *shape) and samples.x[0].dtype == np.float32
    assert samples.y.tolist() == [0, 0, 0, 1, 1, 1] and len(set(digests)) == 6
    kept = Format.of(json.loads(json.dumps(form.entries())))
    assert kept == form
    for i, file in enumerate(files):
        assert np.array_equal(read_file(tmp_path / file, kept), samples.x[i])
    assert np.array_equal(read_labelled(tmp_path, kept).samples.x[4], samples.x[4])


def test_real_recordings_come_back_as_they_were(tmp_path: Path) -> None:
    watch = Smartwatch().smoke("test0")
    for i, x in enumerate(watch.x):
        file = tmp_path / watch.classes[watch.y[i]] / f"{i}.csv"
        file.parent.mkdir(exist_ok=True)
        table = np.column_stack([np.arange(len(x)) / 50, x])
        np.savetxt(file, table, delimiter=";", header="t;" + ";".join(watch.channels), comments="", fmt="%.9g")
    samples, form, _, _ = read_folder(tmp_path)
    assert form.rate == 50.0 and form.channels == watch.channels and form.classes == tuple(sorted(watch.classes))
    first = watch.x[int(np.flatnonzero(watch.y == watch.classes.index("ABD"))[0])]
    assert np.array_equal(samples.x[0], first[: len(first) - len(first) % form.pool])


def test_events_are_summed_into_larger_pixels_and_none_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples, form, _, _ = read_folder(fill(tmp_path, camera))
    assert form.sensor and (form.sensor.width, form.sensor.height, form.shrink) == (100, 80, 3)
    assert form.shape == (2, 27, 34) and all(x.sum() == 500 for x in samples.x)
    assert "100 x 80 is taken" in caplog.text


def test_large_data_are_read_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, wav)
    whole = read_folder(tmp_path).samples
    monkeypatch.setattr(place, "_LARGE", 1)
    lazy = read_folder(tmp_path).samples
    assert isinstance(lazy.x, Mapped) and all(np.array_equal(a, b) for a, b in zip(lazy.x, whole.x, strict=True))


def test_hidden_files_are_skipped_links_are_followed_and_copies_stay_together(tmp_path: Path) -> None:
    fill(tmp_path / "data", csv, count=4)
    (tmp_path / "data" / ".git").mkdir()
    (tmp_path / "data" / "README.md").write_text("what this is")
    (tmp_path / "data" / "go" / ".DS_Store").write_text("")
    (tmp_path / "data" / "go" / "link.csv").symlink_to(tmp_path / "data" / "go" / "r0.csv")
    csv(tmp_path / "out", 999)
    (tmp_path / "data" / "stop" / "outside.csv").symlink_to(tmp_path / "out.csv")
    samples, _, files, _ = read_folder(tmp_path / "data")
    assert len(files) == 10 and samples.group[files.index("go/r0.csv")] == samples.group[files.index("go/link.csv")]
    for seed in range(20):
        train, test = stratified(samples, seed=seed)
        assert not set(samples.group[train]) & set(samples.group[test])
        assert set(samples.y[test]) == set(samples.y[train]) == {0, 1}


BREAKS: dict[str, tuple[Write, Callable[[Path], object], str]] = {
    "unlabelled": (csv, lambda p: csv(p / "loose", 1), r"folders of recordings; got 1 .* loose.csv.*FOLDER/CLASS"),
    "one class": (csv, lambda p: [f.unlink() for f in (p / "go").iterdir()] and (p / "go").rmdir(), "one class, 'stop'"),
    "one file": (csv, lambda p: [(p / "go" / f"r{k}.csv").unlink() for k in (0, 1)], r"go: expected 2 .*; got 1"),
    "copies": (csv, lambda p: [(p / "go" / f"r{k}.csv").write_bytes((p / "go/r0.csv").read_bytes()) for k in (1, 2)],
               "go: expected two different recordings; got copies"),
    "two classes": (csv, lambda p: (p / "go/r1.csv").write_bytes((p / "stop/r1.csv").read_bytes()),
                    r"stop/r1.csv = go/r1.csv"),
    "mixed kinds": (csv, lambda p: wav(p / "go" / "s", 1), r"one kind .*signal: go/r0.csv and 5 more; sound: go/s.wav"),
    "mixed rates": (wav, lambda p: wav(p / "go" / "s", 1, rate=16000), r"8000.0: go/r0.wav and 5 more; 16000.0: go/s"),
    "channels": (csv, lambda p: csv(p / "go" / "s", 1, "time,ax,az"), r"one set of channels .*go/s.csv"),
    "empty csv": (csv, lambda p: (p / "go/r1.csv").write_text(""), r"r1.csv: expected a recording; got no steps"),
    "no rows": (csv, lambda p: (p / "go/r1.csv").write_text("time,ax,ay\n"), r"r1.csv: expected a recording"),
    "text": (csv, lambda p: (p / "go/r1.csv").write_text("time,ax,ay\n0,1,2\n0.02,oops,3\n"), r"r1.csv, line 3: .*'oops'"),
    "gap": (csv, lambda p: (p / "go/r1.csv").write_text("time,ax,ay\n0,1,2\n0.02,,3\n"), r"line 3: .*an empty cell"),
    "cut csv": (csv, lambda p: (p / "go/r1.csv").write_text("time,ax,ay\n0,1,2\n0.02,1"), r"line 3: expected 3 columns; got 2"),
    "bytes": (csv, lambda p: (p / "go/r1.csv").write_bytes(b"a,b\n1,\xff\n"), r"r1.csv at byte 6"),
    "irregular": (csv, lambda p: (p / "go/r1.csv").write_text("time,ax,ay\n0,1,2\n1,1,2\n2,1,2\n4,1,2\n"),
                  r"time: expected times evenly spaced to 1 %; got 2 before row 4"),
    "cut npy": (npy, lambda p: (p / "go/r1.npy").write_bytes((p / "go/r1.npy").read_bytes()[:-9]), r"r1.npy: .*cut off"),
    "pickle": (npy, lambda p: np.save(p / "go/r1.npy", np.array([{}]), allow_pickle=True), r"r1.npy: expected numpy arrays"),
    "cube": (npy, lambda p: np.save(p / "go/r1.npy", np.zeros((2, 2, 2))), r"r1.npy: expected numbers \[T, C\]"),
    "cut npz": (npz, lambda p: (p / "go/r1.npz").write_bytes((p / "go/r1.npz").read_bytes()[:-99]), r"r1.npz: .*cut off"),
    "cut wav": (wav, lambda p: (p / "go/r1.wav").write_bytes((p / "go/r1.wav").read_bytes()[:-99]), r"r1.wav: "),
    "no wav": (wav, lambda p: (p / "go/r1.wav").write_bytes(b"RIFFoops"), r"r1.wav: expected a wav file"),
    "empty wav": (wav, lambda p: wavfile.write(p / "go/r1.wav", 8000, np.zeros(0, np.int16)), r"r1.wav: "),
    "cut events": (atis, lambda p: (p / "go/r1.bin").write_bytes((p / "go/r1.bin").read_bytes()[:-2]),
                   r"r1.bin at byte 1495.*cut off"),
    "no events": (atis, lambda p: (p / "go/r1.bin").write_bytes(b""), r"r1.bin: expected events"),
    "unknown kind": (csv, lambda p: (p / "go/r1.mp3").write_text("x"), r"r1.mp3: expected a recording; got another kind"),
    "nested": (csv, lambda p: (p / "go" / "more").mkdir(), r"more: expected a recording; got a folder"),
    "broken link": (csv, lambda p: (p / "go" / "x.csv").symlink_to(p / "none"), r"x.csv: .*a broken link"),
    "several": (csv, lambda p: [(p / "go" / f"r{k}.csv").write_text("") for k in (0, 1)], r"2 that are none"),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKS)
def test_every_mistake_is_named_and_nothing_is_touched(name: str, tmp_path: Path) -> None:
    write, damage, message = BREAKS[name]
    damage(fill(tmp_path, write))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(Refusal, match=f"(?s){message}"):
        read_folder(tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("write", "suffix", "text", "message"),
    [
        (csv, "csv", "time,ax,ay\n0,1,2\n0.02,nan,3\n", r"r1.csv, line 3: expected finite numbers"),
        (npy, "npy", None, r"r1.npy, row 7: expected finite numbers"),
    ],
)
def test_nan_is_named_with_its_row(write: Write, suffix: str, text: str | None, message: str, tmp_path: Path) -> None:
    file = fill(tmp_path, write) / "go" / f"r1.{suffix}"
    if text:
        file.write_text(text)
    else:
        np.save(file, np.where(np.arange(300) == 7, np.inf, 0.0))
    with pytest.raises(NonFinite, match=message):
        read_folder(tmp_path)


def test_a_csv_without_names_and_times_rounded_to_milliseconds_are_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for k in (1, 2):
            t = np.round(np.arange(90 + k) / 30, 3)
            table = np.column_stack([t, np.full(len(t), k + 10 * ord(name))])
            np.savetxt(tmp_path / name / f"{k}.csv", table, delimiter="\t", header="Time (s)\tf", comments="")
    _, form, _, _ = read_folder(tmp_path)
    assert form.rate == pytest.approx(30, abs=0.01) and form.channels == ("f",)
    (tmp_path / "c.csv").write_text("1,2\n3,4\n")
    with pytest.raises(Refusal, match=r"sampling rate: expected 30.*; got None"):
        read_file(tmp_path / "c.csv", form)


@pytest.mark.parametrize(
    ("written", "read"),
    [(np.array([0, 128, 255], np.uint8), [-1, 0, 127 / 128]), (np.array([-(2**31), 2**30], np.int32), [-1, 0.5]),
     (np.array([[0.5, 0.1], [0.25, 0.25]], np.float32), [0.3, 0.25])],
)  # fmt: skip
def test_wav_of_any_numbers_is_from_minus_1_to_1(written: np.ndarray, read: list[float], tmp_path: Path) -> None:
    wavfile.write(tmp_path / "a.wav", 8000, written)
    from ranvier.data.signal_files import read_wav

    assert read_wav(tmp_path / "a.wav").x[:, 0] == pytest.approx(np.array(read))


def test_new_files_that_differ_are_refused(tmp_path: Path) -> None:
    form = read_folder(fill(tmp_path / "data", atis)).format
    wav(tmp_path / "a", 0)
    with pytest.raises(Refusal, match=r"kind: expected events.*; got sound"):
        read_file(tmp_path / "a.wav", form)
    camera(tmp_path / "b", 0)
    with pytest.raises(Refusal, match=r"b.npz: sensor: expected Sensor\(width=34"):
        read_file(tmp_path / "b.npz", form)
    with pytest.raises(Refusal, match=r"none.wav: expected a file"):
        read_file(tmp_path / "none.wav", form)
    fill(tmp_path / "more", atis, classes=("go", "run"))
    with pytest.raises(Refusal, match=r"known classes; got run.*go, stop"):
        read_labelled(tmp_path / "more", form)
    with pytest.raises(Refusal, match="what a run writes"):
        Format.of({**form.entries(), "kind": "smell"})
