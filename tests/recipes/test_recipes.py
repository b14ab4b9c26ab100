"""Every discovered recipe, at its smoke size."""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from ranvier.core.checks import MissingPackage, Refusal
from ranvier.core.discovery import discover
from ranvier.lab.recipe import Session
from ranvier.lab.run import prepare, run_recipe

RECIPES = list(discover("ranvier.recipes"))


@cache
def missing(name: str) -> str:
    """Why a recipe's data can't be read here; empty where they can."""
    try:
        prepare(name, {"smoke": "true"})[1].data(0)
    except (Refusal, MissingPackage) as why:
        if os.environ.get("RANVIER_DATA"):
            raise  # the folder of copies holds all of them
        return str(why)
    return ""


@pytest.fixture(autouse=True)
def needs_data(request: pytest.FixtureRequest) -> None:
    if "smoke" in request.node.name or "same_seed" in request.node.name:
        name = request.node.callspec.params["name"]
        if why := missing(name):
            pytest.skip(f"{name}: {why}")


@pytest.mark.parametrize("name", RECIPES)
def test_smoke_size_runs_holds_its_claims_and_writes_a_report(name: str, tmp_path: Path) -> None:
    done = run_recipe(
        name, {"smoke": "true"}, Session(Path(), progress=False, accelerator="cpu"), tmp_path, "ranvier run"
    )
    assert done.facts["status"] == "finished"
    assert done.facts["claims"] and all(row["held"] for row in done.facts["claims"])
    assert (done.folder / "report.html").stat().st_size > 100_000
    assert list((done.folder / "weights").glob("network-*.safetensors"))


@pytest.mark.parametrize("name", RECIPES)
def test_full_size_has_claims_with_an_origin_and_a_source(name: str) -> None:
    _, recipe, _ = prepare(name, {})
    assert recipe.source and all(claim.origin for claim in recipe.claims)
    assert recipe.claims or name == "classify", "only one's own data come without claims"
    assert len(recipe.seeds) >= 3


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_seed_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    session = Session(Path(), progress=False, accelerator="cpu")
    first, second = (run_recipe(name, {"smoke": "true"}, session, tmp_path / k, "").facts for k in "ab")
    assert first["curves"] == second["curves"] and first["metrics"] == second["metrics"]
    third = run_recipe(name, {"smoke": "true"}, replace(session, seed=1), tmp_path / "c", "").facts
    assert third["curves"] != first["curves"]


@pytest.mark.parametrize("name", [n for n in RECIPES if prepare(n, {})[1].validation])
@pytest.mark.parametrize("size", ["smoke", "full"])
def test_validation_cuts_the_train_part_in_two(name: str, size: str) -> None:
    if why := missing(name):
        pytest.skip(f"{name}: {why}")
    recipe = prepare(name, {"smoke": "true"} if size == "smoke" else {})[1]
    assert recipe.validation is not None
    for fold in range(recipe.fit.folds):  # type: ignore[attr-defined]
        learnt, judged = (set(part.group.tolist()) for part in recipe.validation(fold))
        assert learnt and judged and not learnt & judged
        assert learnt | judged == set(recipe.data(fold).train.group.tolist())


def test_smartwatch_is_validated_on_people_that_are_not_learnt_from() -> None:
    if why := missing("smartwatch"):
        pytest.skip(why)
    from ranvier.data.sets.smartwatch import Smartwatch

    validation = prepare("smartwatch", {})[1].validation
    assert validation is not None
    everyone = Smartwatch().people()
    for fold in range(5):
        learnt, judged = (set(everyone[part.group].tolist()) for part in validation(fold))
        assert len(learnt) == 6 and len(judged) == 2 and not learnt & judged


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_file_under_100_lines(name: str) -> None:
    path = Path(__file__).parents[2] / "ranvier" / "recipes" / f"{name.replace('-', '_')}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100
