"""Readers of event files: real samples where they are, and files written here byte by byte."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.recfunctions import repack_fields

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.data import aedat4, lz4_frames
from ranvier.data.event_files import read_events
from ranvier.data.events import Sensor, events

FOLDER = Path(os.environ.get("RANVIER_DATA") or "/nowhere", "event_file_samples")
CAMERAS = {
    "tonic_sample.aedat4": (111_954, Sensor(320, 240), 0.589917),
    "aestream_davis.aedat4": (117_667, Sensor(346, 260), 0.129999),
    "jaer_dvs128_short.aedat": (130_114, Sensor(128, 128), 6.181499),
    "jaer_dvs128_long.aedat": (370_039, Sensor(128, 128), 23.503035),
    "expelliarmus_evt2_sample.raw": (539_481, Sensor(640, 480), 0.05),
    "expelliarmus_evt3_sample.raw": (219_596, Sensor(1280, 720), 0.008801),
    "tonic_sample_ncars_td.dat": (2_009, None, 0.099952),
    "tonic_sample_nmnist.bin": (4_325, None, 0.310521),
}


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", CAMERAS)
def test_real_recordings(name: str) -> None:
    if not (FOLDER / name).is_file():
        pytest.skip(f"needs RANVIER_DATA with event_file_samples/{name} in it")
    count, sensor, seconds = CAMERAS[name]
    e, found = read_events(FOLDER / name)
    assert len(e) == count and found == sensor and e.dtype.names == ("t", "x", "y", "p")
    assert (np.diff(e["t"]) >= 0).all() and (e["t"][-1] - e["t"][0]) / 1e6 == pytest.approx(seconds)
    if sensor:
        assert e["x"].max() < sensor.width and e["y"].max() < (sensor.height or 0)
    assert 0.2 < e["p"].mean() < 0.8


def test_numpy_files(tmp_path: Path) -> None:
    e = events(t=[1, 2], x=[3, 4], y=[5, 6], p=[0, 1])
    np.save(tmp_path / "a.npy", repack_fields(e[["y", "p", "t", "x"]]))
    np.savez(tmp_path / "b.npz", **{name: e[name] for name in "txyp"})
    np.savez(tmp_path / "c.npz", events=e)
    for name in ("a.npy", "b.npz", "c.npz"):
        assert np.array_equal(read_events(tmp_path / name)[0], e)
    np.save(tmp_path / "plain.npy", np.zeros((3, 4)))
    with pytest.raises(Refusal, match="fields t, x, y, p; got no fields"):
        read_events(tmp_path / "plain.npy")
    np.save(tmp_path / "pickle.npy", np.array([{}], dtype=object))
    with pytest.raises(Refusal, match="numpy arrays"):
        read_events(tmp_path / "pickle.npy")
    (tmp_path / "half.npz").write_bytes((tmp_path / "b.npz").read_bytes()[:200])
    with pytest.raises(Refusal, match=r"half\.npz: expected numpy arrays"):
        read_events(tmp_path / "half.npz")


def test_atis_overflow_moves_the_time(tmp_path: Path) -> None:
    content = bytes([1, 2, 0x80, 0, 9, 0, 240, 0, 0, 0, 3, 4, 0x00, 0x1F, 0xFF, 0, 240, 0, 0, 0, 5, 6, 0x81, 0, 0])
    e, sensor = read_events(written(tmp_path, "a.bin", content))
    assert e.tolist() == [(9, 1, 2, True), (8192 + 8191, 3, 4, False), (2 * 8192 + 65536, 5, 6, True)]
    assert sensor is None


def test_dat(tmp_path: Path) -> None:
    def record(t: int, x: int, y: int, p: int) -> bytes:
        return struct.pack("<II", t, x | y << 14 | p << 28)

    header = b"% Data file\n% Version 2\n% Width 304\n% Height 240\n\x00\x08"
    body = record(5, 303, 239, 1) + record(2**32 - 1, 0, 7, 0) + record(3, 1, 1, 1)
    e, sensor = read_events(written(tmp_path, "a.dat", header + body))
    assert e.tolist() == [(5, 303, 239, True), (2**32 - 1, 0, 7, False), (2**32 + 3, 1, 1, True)]
    assert sensor == Sensor(304, 240)
    with pytest.raises(Refusal, match=rf"a\.dat at byte {len(header) + 24}: .*got 3 bytes before the end"):
        read_events(written(tmp_path, "a.dat", header + body + b"abc"))
    with pytest.raises(Refusal, match=r"events of 8 bytes.*got 280c"):
        read_events(written(tmp_path, "a.dat", b"% x\n\x28\x0c"))


def test_evt2(tmp_path: Path) -> None:
    def cd(on: int, low: int, x: int, y: int) -> int:
        return on << 28 | low << 22 | x << 11 | y

    top = 2**28 - 1
    words = [cd(1, 3, 1, 1), 8 << 28 | 2, cd(1, 3, 600, 400), 0xA << 28, cd(0, 63, 7, 8), 8 << 28 | top, cd(0, 0, 1, 2)]
    words += [8 << 28 | 1, cd(1, 1, 3, 4)]
    header = b"% evt 2.0\n% plugin_name hal_plugin_gen3_fx3\n"
    e, sensor = read_events(written(tmp_path, "a.raw", header + struct.pack("<9I", *words)))
    late = (2**28 + 1) * 64 + 1
    assert e.tolist() == [
        (131, 600, 400, True),
        (191, 7, 8, False),
        (top * 64, 1, 2, False),
        (late, 3, 4, True),
    ]
    assert sensor == Sensor(640, 480)
    with pytest.raises(Refusal, match=rf"a\.raw at byte {len(header) + 4}: expected a word of EVT 2.0; got 0x30000000"):
        read_events(written(tmp_path, "a.raw", header + struct.pack("<2I", 8 << 28, 3 << 28)))
    with pytest.raises(Refusal, match="got 2 bytes before the end"):
        read_events(written(tmp_path, "a.raw", header + bytes(6)))
    with pytest.raises(Refusal, match="inside"):
        read_events(written(tmp_path, "a.raw", header + struct.pack("<2I", 8 << 28, cd(1, 0, 700, 1))))


def evt3_looped(words: list[int]) -> list[tuple[int, int, int, bool]]:
    """The state machine of the format's description, word by word."""
    out: list[tuple[int, int, int, bool]] = []
    high = y = base = None
    low = turns = polarity = 0
    for word in words:
        kind, value = word >> 12, word & 0xFFF
        if kind == 8:
            turns += high is not None and value < high - 2048
            high, low = value, 0
        elif kind == 6:
            low = value
        elif kind == 0:
            y = value & 0x7FF
        elif kind == 3:
            base, polarity = value & 0x7FF, value >> 11
        elif kind == 2 and high is not None and y is not None:
            out.append(((turns << 24) + (high << 12) + low, value & 0x7FF, y, bool(value >> 11)))
        elif kind in (4, 5):
            size = 12 if kind == 4 else 8
            if base is not None:
                if high is not None and y is not None:
                    t = (turns << 24) + (high << 12) + low
                    out += [(t, base + b, y, bool(polarity)) for b in range(size) if value >> b & 1]
                base += size
    return out


@pytest.mark.parametrize("seed", range(8))
def test_evt3_is_the_state_machine_of_its_description(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.choice(
        [0, 2, 3, 4, 5, 6, 8, 0xA, 0xE, 7, 0xF],
        size=600,
        p=[0.1, 0.3, 0.1, 0.15, 0.1, 0.1, 0.11, 0.01, 0.01, 0.01, 0.01],
    )
    words = [int(k) << 12 | int(v) for k, v in zip(kinds, rng.integers(0, 4096, 600), strict=True)]
    header = b"% date x\n% evt 3.0\n% format EVT3;height=2048;width=9000\n% end\n"
    e, sensor = read_events(written(tmp_path, "a.raw", header + struct.pack("<600H", *words)))
    assert e.tolist() == evt3_looped(words) and len(e) > 300
    assert sensor == Sensor(9000, 2048)


def test_evt3_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    header = b"% evt 3.0\n"
    with pytest.raises(Refusal, match=r"at byte 12: expected a word of EVT 3.0; got 0x9001"):
        read_events(written(tmp_path, "a.raw", header + struct.pack("<2H", 0x8000, 0x9001)))
    with pytest.raises(Refusal, match=r"EVT 2.0 or 3.0; got EVT 2.1.*metavision"):
        read_events(written(tmp_path, "a.raw", b"% evt 2.1\n"))
    with pytest.raises(Refusal, match=r"EVT 2.0 or 3.0; got none"):
        read_events(written(tmp_path, "a.raw", b"\x00\x01"))


def test_aedat2(tmp_path: Path) -> None:
    header = b"#!AER-DAT2.0\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
    words = [(127 << 1 | 127 << 8 | 0, 2**32 - 2), (1 << 15, 2**32 - 1), (5 << 1 | 3 << 8 | 1, 4)]
    body = b"".join(struct.pack(">II", *pair) for pair in words)
    e, sensor = read_events(written(tmp_path, "a.aedat", header + body))
    assert e.tolist() == [(2**32 - 2, 0, 0, True), (2**32 + 4, 122, 124, False)] and sensor == Sensor(128, 128)
    with pytest.raises(Refusal, match=rf"at byte {len(header) + 24}: .*got 5 bytes"):
        read_events(written(tmp_path, "a.aedat", header + body + b"12345"))
    with pytest.raises(Refusal, match=rf"at byte {len(header)}: .*16 bits; got 0x10000"):
        read_events(written(tmp_path, "a.aedat", header + struct.pack(">II", 1 << 16, 0)))
    with pytest.raises(Refusal, match=r"expected AEDAT 2; got AEDAT 3\.1"):
        read_events(written(tmp_path, "a.aedat", b"#!AER-DAT3.1\r\n"))
    with pytest.raises(Refusal, match=r"a DVS128; got eu\.seebetter\.DAVIS240C"):
        read_events(written(tmp_path, "a.aedat", b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.DAVIS240C\r\n"))


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"got \.aedt.*Did you mean '\.aedat"):
        read_events(tmp_path / "a.aedt")
    with pytest.raises(Refusal, match="a file; got none"):
        read_events(tmp_path / "a.bin")
    with pytest.raises(Refusal, match="an empty file"):
        read_events(written(tmp_path, "a.bin", b""))


@pytest.mark.parametrize("compression", [0, 1])
def test_aedat4(
    tmp_path: Path, compression: int, monkeypatch: pytest.MonkeyPatch, aedat4_file: Callable[..., bytes]
) -> None:
    monkeypatch.setattr(lz4_frames, "_fast", None)  # a header's checksum is not made here
    e = events(
        t=[1_600_000_000_000_000, 1_600_000_000_000_001, 1_600_000_000_000_009], x=[1, 2, 3], y=[4, 5, 6], p=[0, 1, 1]
    )
    sizes = '<attr key="sizeX" type="int">8</attr><attr key="sizeY" type="int">9</attr>'
    whole = aedat4_file(e, compression, sizes)
    found, sensor = read_events(written(tmp_path, "a.aedat4", whole))
    assert np.array_equal(found, e) and sensor == Sensor(8, 9)
    assert read_events(written(tmp_path, "a.aedat4", aedat4_file(e, compression)))[1] is None
    header = 18 + struct.unpack_from("<I", whole, 14)[0]
    between = {header, whole.index(b"image") + 5, whole.index(b"image") - 8}  # nothing says that more should follow
    for cut in set(range(14, len(whole) - 1, 3)) - between:  # wherever it is cut off
        with pytest.raises(Refusal, match=r"a\.aedat4"):
            read_events(written(tmp_path, "a.aedat4", whole[:cut]))


@pytest.mark.parametrize("name", CAMERAS)
def test_damage_is_read_or_refused(tmp_path: Path, name: str, aedat4_file: Callable[..., bytes]) -> None:
    """Whatever is in a file, nothing but a refusal comes out of reading it."""
    if name.endswith("aedat4"):
        content = aedat4_file(events(t=range(9), x=range(9), y=range(9), p=[1] * 9), 1)
    elif (FOLDER / name).is_file():
        content = (FOLDER / name).read_bytes()[:4000]
    else:
        pytest.skip(f"needs RANVIER_DATA with event_file_samples/{name} in it")
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(content)
        for place in rng.integers(0, len(damaged), 4):
            damaged[place] = rng.integers(256)
        try:
            read_events(written(tmp_path, name, bytes(damaged)))
        except (Refusal, MissingPackage):
            continue


def test_aedat4_refuses_what_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aedat4_file: Callable[..., bytes]
) -> None:
    e = events(t=[1, 2], x=[1, 2], y=[4, 5], p=[0, 1])
    with pytest.raises(Refusal, match="compression 9"):
        read_events(written(tmp_path, "a.aedat4", aedat4_file(e, 9)))
    monkeypatch.setattr(aedat4, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(MissingPackage, match="zstandard"):
        read_events(written(tmp_path, "a.aedat4", aedat4_file(e, 3)))
    with pytest.raises(Refusal, match=r"AEDAT 4\.0; got b'#!AER-DAT3\.1"):
        read_events(written(tmp_path, "a.aedat4", b"#!AER-DAT3.1\r\n"))
    with pytest.raises(Refusal, match="a stream of events; got none"):
        read_events(written(tmp_path, "a.aedat4", aedat4_file(e).replace(b"EVTS<", b"IMUS<")))


def test_lz4_copies_overlap_and_long_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lz4_frames, "_fast", None)
    start = bytes.fromhex("04224d18604082")
    # 20 literals, a copy of 300 bytes 3 back, then 2 literals
    block = bytes([0xFF, 5, *range(20), 3, 0, 255, 300 - 4 - 15 - 255, 0x20, 7, 8])
    expected = bytearray(range(20))
    for _ in range(300):
        expected.append(expected[-3])
    expected += bytes([7, 8])
    frame = start + struct.pack("<I", len(block)) + block + bytes(4)
    assert lz4_frames.decompressed(frame) == bytes(expected)
    for cut in range(len(frame)):
        with pytest.raises(ValueError, match="LZ4"):
            lz4_frames.decompressed(frame[:cut])
    with pytest.raises(ValueError, match="before the beginning"):
        lz4_frames.decompressed(start + struct.pack("<I", 4) + bytes([0x10, 1, 9, 0]) + bytes(4))
