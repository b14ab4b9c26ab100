import copy
import pickle

import pytest

from ranvier.core.checks import MissingPackage, Refusal, nearest


def test_a_refusal_says_what_was_expected_what_came_and_what_to_do():
    error = Refusal("LIF.tau", expected="2", got="3", do="Give 2.")
    assert str(error) == "LIF.tau: expected 2; got 3. Give 2."
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("error", [Refusal("a", expected="b", got="c", do="d"), MissingPackage("nir", "nir>=1")])
@pytest.mark.parametrize("way", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_errors_keep_kind_and_text_on_the_way_out_of_a_worker_process(error, way):
    assert type(way(error)) is type(error)
    assert str(way(error)) == str(error)


def test_a_missing_package_gives_the_line_that_installs_it():
    assert "pip install 'nir>=1'" in str(MissingPackage("nir", "nir>=1"))
    assert isinstance(MissingPackage("nir", "nir>=1"), ImportError)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tua", "Did you mean 'tau'? There are: surrogate, tau."),
        ("xyzzy", "There are: surrogate, tau."),
    ],
)
def test_nearest_guesses_only_what_is_near_and_lists_all(name, text):
    assert nearest(name, ["tau", "surrogate"]) == text


def test_nearest_says_when_there_is_nothing():
    assert nearest("tau", []) == "There are: none."
