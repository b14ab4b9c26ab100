import sys

import pytest

from ranvier.core.checks import Refusal
from ranvier.core.discovery import discover, find


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A room to put files into, as a package of its own."""
    (tmp_path / "someroom").mkdir()
    (tmp_path / "someroom" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "someroom"
    for name in [name for name in sys.modules if name.startswith("someroom")]:
        del sys.modules[name]


def test_a_file_is_found_by_its_name_without_being_imported(room):
    (room / "cuba_lif.py").write_text('class CuBa:\n    """One line.\n\n    More.\n    """\n\nraise SystemExit')
    (found,) = discover("someroom").values()
    assert (found.name, found.attribute, found.summary) == ("cuba-lif", "CuBa", "One line.")
    assert "someroom.cuba_lif" not in sys.modules


def test_what_is_found_can_be_loaded(room):
    (room / "one.py").write_text("def run(): return 1")
    assert find("thing", "one", "someroom").load()() == 1


def test_the_base_private_files_and_private_names_are_no_members(room):
    (room / "base.py").write_text("class A: ...\nclass B: ...")
    (room / "_private.py").write_text("")
    (room / "one.py").write_text("class _Helper: ...\ndef _f(): ...\nlimit = 3\nclass One: ...")
    assert list(discover("someroom", base="base")) == ["one"]


@pytest.mark.parametrize(
    ("text", "got"),
    [("class A: ...\ndef b(): ...", "A, b"), ("_x = 1", "none"), ("class A: ...\nclass B: ...", "A, B")],
)
def test_a_file_with_two_public_things_or_none_is_refused_by_name(room, text, got):
    (room / "two.py").write_text(text)
    with pytest.raises(Refusal, match=rf"two\.py: expected one public class or function; got {got}\."):
        discover("someroom")


def test_an_unknown_name_is_refused_with_the_nearest(room):
    (room / "smartwatch.py").write_text("class Smartwatch: ...")
    with pytest.raises(
        Refusal, match=r"data set: expected a known name; got 'smartwach'\. Did you mean 'smartwatch'\?"
    ):
        find("data set", "smartwach", "someroom")
