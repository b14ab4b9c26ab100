import pytest

from ranvier.core.checks import Refusal
from ranvier.lab.recipe import Claim, Recipe, settings


def _recipe(lr: float = 0.1, epochs: int = 3, smoke: bool = False, name: str = "x") -> Recipe:
    raise AssertionError("only its signature is read")


def test_settings_come_as_text_and_get_the_type_of_the_default() -> None:
    given = {"lr": "1e-3", "epochs": "5", "smoke": "true", "name": "y"}
    assert settings(_recipe, given) == {"lr": 1e-3, "epochs": 5, "smoke": True, "name": "y"}


def test_an_unknown_setting_gives_the_nearest_name() -> None:
    with pytest.raises(Refusal, match=r"'epoch'.*Did you mean 'epochs'"):
        settings(_recipe, {"epoch": "5"})


@pytest.mark.parametrize(("name", "text"), [("lr", "fast"), ("epochs", "2.5"), ("smoke", "maybe")])
def test_a_text_that_is_no_such_value_is_refused(name: str, text: str) -> None:
    with pytest.raises(Refusal, match=rf"setting {name}: expected a value of type"):
        settings(_recipe, {name: text})


@pytest.mark.parametrize(
    ("comparison", "value", "held"), [(">=", 0.5, True), (">=", 0.49, False), ("<=", 0.5, True), ("<=", 0.51, False)]
)
def test_a_claim_holds_at_its_bound_and_not_past_it(comparison: str, value: float, held: bool) -> None:
    assert Claim("a", comparison, 0.5, "here").check({"a": value}) == (value, held)  # type: ignore[arg-type]


def test_a_margin_claim_compares_the_difference() -> None:
    claim = Claim("accuracy", ">=", 0.03, "here", beside="forest: accuracy")
    measured, held = claim.check({"accuracy": 0.9, "forest: accuracy": 0.88})
    assert measured == pytest.approx(0.02) and not held
    assert str(claim) == "accuracy minus forest: accuracy >= 0.03"
