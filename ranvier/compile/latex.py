"""A program as formulas: what is used more than once gets a name and a line of its own."""

from collections import Counter

from ranvier.compile.program import Program
from ranvier.compile.symbol import RANDOM, Symbol, topological

_GREEK = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "eta",
    "theta",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "rho",
    "sigma",
    "tau",
    "phi",
    "chi",
    "psi",
    "omega",
)
_RENAMED = {"threshold": r"\theta", "x": "x_t", "gy": r"\bar z_t", "t": "t"}
_SUM, _PRODUCT, _POWER, _ATOM = 1, 2, 3, 4
"""How tightly a formula holds together, for its brackets."""

# the formula of each operation, how tightly it holds, and how tightly its arguments must
_OPERATIONS = {
    "add": ("{0} + {1}", _SUM, (_SUM, _SUM)),
    "sub": ("{0} - {1}", _SUM, (_SUM, _PRODUCT)),
    "mul": (r"{0}\,{1}", _PRODUCT, (_PRODUCT, _PRODUCT)),
    "div": (r"\frac{{{0}}}{{{1}}}", _ATOM, (0, 0)),
    "neg": ("-{0}", _SUM, (_PRODUCT,)),
    "lt": ("{0} < {1}", 0, (_SUM, _SUM)),
    "le": (r"{0} \le {1}", 0, (_SUM, _SUM)),
    "gt": ("{0} > {1}", 0, (_SUM, _SUM)),
    "ge": (r"{0} \ge {1}", 0, (_SUM, _SUM)),
    "eq": ("{0} = {1}", 0, (_SUM, _SUM)),
    "ne": (r"{0} \ne {1}", 0, (_SUM, _SUM)),
    "and": (r"{0} \land {1}", 0, (_SUM, _SUM)),
    "or": (r"{0} \lor {1}", 0, (_SUM, _SUM)),
    "not": (r"\lnot ({0})", _ATOM, (0,)),
    "where": (r"\begin{{cases}} {1} & \text{{if }} {0} \\ {2} & \text{{else}} \end{{cases}}", _PRODUCT, (0, 0, 0)),
    "maximum": (r"\max({0}, {1})", _ATOM, (0, 0)),
    "minimum": (r"\min({0}, {1})", _ATOM, (0, 0)),
    "exp": (r"e^{{{0}}}", _ATOM, (0,)),
    "log": (r"\ln({0})", _ATOM, (0,)),
    "tanh": (r"\tanh({0})", _ATOM, (0,)),
    "sigmoid": (r"\sigma({0})", _ATOM, (0,)),
    "sqrt": (r"\sqrt{{{0}}}", _ATOM, (0,)),
    "sin": (r"\sin({0})", _ATOM, (0,)),
    "cos": (r"\cos({0})", _ATOM, (0,)),
    "atan": (r"\arctan({0})", _ATOM, (0,)),
    "erf": (r"\operatorname{{erf}}({0})", _ATOM, (0,)),
    "abs": (r"|{0}|", _ATOM, (0,)),
    "sign": (r"\operatorname{{sign}}({0})", _ATOM, (0,)),
    "floor": (r"\lfloor {0} \rfloor", _ATOM, (0,)),
    "round": (r"\lfloor {0} \rceil", _ATOM, (0,)),
    "spike": (r"\Theta({0})", _ATOM, (0,)),
    "uniform": (r"u_{{{value},t}}", _ATOM, ()),
    "normal": (r"n_{{{value},t}}", _ATOM, ()),
}


def latex(program: Program) -> list[str]:
    """One formula a line: what several use, the output z_t, and each state after the step.

    Theta is the step function (1 from 0 on); u and n are uniform and normal random numbers.

    >>> from ranvier.compile.program import program
    >>> for line in latex(program(lambda x, p, s, draws: [s["v"] + p["tau"] * x] * 2, ["tau"], ["v"])): print(line)
    h_1 = v_{t-1} + \\tau\\,x_t
    z_t = h_1
    v_t = h_1
    """
    outputs = [program.output, *program.after]
    used = Counter(a.number for s in topological(outputs) for a in _shown(s).args) + Counter(
        _shown(o).number for o in outputs
    )
    names: dict[int, str] = {}
    lines: list[str] = []

    def formula(symbol: Symbol, tightness: int = 0) -> str:
        symbol = _shown(symbol)
        if symbol.number in names:
            return names[symbol.number]
        if symbol.op == "constant":
            text = f"{symbol.value:g}"
            return f"({text})" if symbol.value < 0 and tightness > _SUM else text
        if symbol.op == "input":
            return _name(symbol.value)
        pattern, holds, needs = _OPERATIONS[symbol.op]
        args = [formula(a, n) for a, n in zip(symbol.args, needs, strict=False)]
        text = pattern.format(*args, value=symbol.value)
        if used[symbol.number] > 1 and not symbol.fixed:
            names[symbol.number] = f"h_{{{len(names) + 1}}}" if len(names) > 8 else f"h_{len(names) + 1}"
            lines.append(f"{names[symbol.number]} = {text}")
            return names[symbol.number]
        return f"({text})" if holds < tightness else text

    results = [formula(o) for o in outputs]
    left = ["z_t", *(f"{_plain(k)}_t" if "_" not in _plain(k) else f"{_plain(k)[:-1]},t}}" for k in program.states)]
    return lines + [f"{name} = {text}" for name, text in zip(left, results, strict=True)]


def _shown(symbol: Symbol) -> Symbol:
    """What a reader sees in place of a symbol: that no gradient passes is not part of the value."""
    while symbol.op == "detach":
        symbol = symbol.args[0]
    return symbol


def _name(value: str) -> str:
    kind, _, name = value.rpartition(":")
    if kind == "p" and name in RANDOM:
        return ""
    text = _plain(name)
    if kind == "s":
        return f"{text}_{{t-1}}" if "_" not in text else f"{text[:-1]},t-1}}"
    return text


def _plain(name: str) -> str:
    if name in _RENAMED:
        return _RENAMED[name]
    head, _, rest = name.partition("_")
    first = f"\\{head}" if head in _GREEK else head if len(head) == 1 else rf"\mathrm{{{head}}}"
    return rf"{first}_{{\mathrm{{{rest.replace('_', ' ')}}}}}" if rest else first
