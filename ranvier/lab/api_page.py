"""docs/api.md from the public names: `python -m ranvier.lab.api_page docs` writes it; mkdocstrings fills in the docstrings."""

import sys
from pathlib import Path

import ranvier
from ranvier.core.files import write_text

RENEW = "python -m ranvier.lab.api_page docs"

GROUPS = {
    "Running": "ranvier.core.running ranvier.core.files ranvier.compile.scan",
    "Neurons": "ranvier.nn.neurons",
    "Surrogates": "ranvier.nn.surrogates",
    "Synapses": "ranvier.nn.synapses ranvier.nn.fold ranvier.ops.spike_pack",
    "Norms": "ranvier.nn.norms",
    "Coding": "ranvier.nn.coding",
    "Units that mix neurons or time": "ranvier.nn.units",
    "Writing neurons and modules": "ranvier.nn.neurons.neuron ranvier.core.declarations ranvier.core.state",
    "Refusals": "ranvier.core.checks",
}
"""Headings, and the modules and packages whose public names stand under them; the longest that fits decides."""

NOTES = {
    "Neurons": "Formulas, parameters with their bounds, and drawings are on [the page of neurons](neurons.md). Options common to all "
    "are under [Neuron](#ranvier.Neuron).",
    "Surrogates": "Drawings and slopes are on [the page of surrogates](concepts/surrogates.md).",
}
MEMBERS = {
    "Neuron": "step decay spike reset floor round uniform normal bernoulli",
    "Stateful": "rest advance records",
    "Surrogate": "step slope primitive derivative",
}
"""What of a base is for those who write a class of their own."""


def page() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    for group, names in grouped().items():
        parts += [f"## {group}\n", *([f"{NOTES[group]}\n"] if group in NOTES else []), *map(_entry, names)]
    return "\n".join(parts)


def grouped() -> dict[str, list[str]]:
    """The public names by heading; what fits no heading stands under "More".

    >>> grouped()["Refusals"]
    ['NonFinite', 'Refusal']
    """
    groups: dict[str, list[str]] = {group: [] for group in (*GROUPS, "More")}
    for name in sorted(ranvier.__all__, key=str.lower):
        module = getattr(vars(ranvier).get(name), "__module__", "")
        fits = {
            len(place): group
            for group, places in GROUPS.items()
            for place in places.split()
            if f"{module}.".startswith(f"{place}.")
        }
        groups[fits[max(fits)] if fits else "More"].append(name)
    return {group: names for group, names in groups.items() if names}


_HEAD = f"""# Public names

What `import ranvier` gives. Other modules (`ranvier.data`, `ranvier.lab`) are imported by their names, as the pages on
[data sets](adding/dataset.md) and [recipes](adding/recipe.md) show. The list is made by `{RENEW}`, the text from the docstrings.
"""


def _entry(name: str) -> str:
    members = f"    options:\n      members: [{', '.join(MEMBERS[name].split())}]\n" if name in MEMBERS else ""
    return f"::: ranvier.{name}\n{members}"


if __name__ == "__main__":
    write_text(Path(sys.argv[1], "api.md"), page())
