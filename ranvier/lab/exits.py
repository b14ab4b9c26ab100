"""What is measured of a trained network that stops early: by calibrated confidence, or by the gap of its two best classes."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ranvier.core.running import run
from ranvier.deploy.early_exit.calibrate import calibrate
from ranvier.deploy.early_exit.curves import (
    anytime_accuracy,
    expected_calibration_error,
    fixed_curve,
    latency_accuracy_curve,
    optimal_cutoff_time,
    oracle_curve,
    oracle_exit,
    reached,
)
from ranvier.deploy.early_exit.dynamic_confidence import DynamicConfidence
from ranvier.deploy.early_exit.early_exit import Exit
from ranvier.deploy.early_exit.record import record
from ranvier.deploy.early_exit.top_k_gap import TopKGap
from ranvier.lab.anytime import Found, Judged, inputs, stopped
from ranvier.learn.rcs_regulariser import RCSRegulariser

_ERROR = 0.01
_ERRORS = (0.0, 0.002, 0.005, _ERROR, 0.02, 0.05, 0.1, 0.2)
_AWAY = 0.1


def by_confidence(judged: Judged, tolerance: float = 0.0) -> Found:
    """DynamicConfidence calibrated on what was kept: what it saves on the test, how much its threshold matters, its ends."""
    scores, labels, steps = judged.scores, judged.labels, len(judged.scores)
    kept = record(judged.model, inputs(judged.kept))
    chosen = calibrate(kept, torch.from_numpy(judged.kept.y), tolerance).policy

    def policies(thresholds: np.ndarray) -> list[DynamicConfidence]:
        return [DynamicConfidence(c, chosen.temperature) for c in thresholds.tolist()]

    exits = stopped(judged.model, chosen, judged.test)
    never = stopped(judged.model, DynamicConfidence(1.0, chosen.temperature), judged.test)
    line = latency_accuracy_curve(policies(np.linspace(0, 1, 51)), scores, labels)
    near = np.clip(chosen.threshold + np.linspace(-_AWAY, _AWAY, 21), 0, 1)
    around = latency_accuracy_curve(policies(near), scores, labels)
    here = reached(chosen.steps(scores), scores, labels).accuracy
    oracle = reached(oracle_exit(scores, labels), scores, labels)
    confidence, right = chosen.confidence(scores), scores.argmax(2) == labels
    metrics = {
        **_summary("early exit", exits, labels, steps),
        "threshold": chosen.threshold,
        "temperature": chosen.temperature,
        "calibration error": expected_calibration_error(confidence[-1], right[-1]),
        "calibration error over all steps": expected_calibration_error(confidence, right),
        "change of accuracy when the threshold moves by 0.1": max(abs(p.accuracy - here) for p in around),
        "answers changed at threshold 1": _share(never.scores.argmax(1) != scores[-1].argmax(1)),
        "mean steps at threshold 1": never.steps.double().mean().item(),
        "mean steps at threshold 0": line[0].steps,
        "least steps that a higher threshold adds": min(b.steps - a.steps for a, b in pairwise(line)),
        "oracle: accuracy": oracle.accuracy,
        "oracle: share of the steps": oracle.steps / steps,
    }
    curves = {"dynamic confidence": line, "fixed": fixed_curve(scores, labels), "oracle": oracle_curve(scores, labels)}
    return Found(metrics, curves)


def by_gap(judged: Judged) -> Found:
    """TopKGap fitted on what was learnt, with dropout at work: what it saves on the test; and the regulariser's costs."""
    model, scores, labels, steps = judged.model, judged.scores, judged.labels, len(judged.scores)
    learnt = torch.from_numpy(judged.learnt.y)
    fitting = record(model, inputs(judged.learnt))
    strict = TopKGap.fit(fitting, learnt).steps(fitting)
    wrong = fitting[strict - 1, torch.arange(len(learnt))].argmax(1) != learnt
    dropped = record(model, inputs(judged.learnt), dropout=True)
    policies = [TopKGap.fit(dropped, learnt, error) for error in _ERRORS]
    exits = stopped(model, policies[_ERRORS.index(_ERROR)], judged.test)
    least, constant = _costs(judged)
    metrics = {
        **_summary("cutoff", exits, labels, steps),
        "accuracy at T/4": anytime_accuracy(scores, labels)[max(steps // 4, 1) - 1].item(),
        "oracle: share of the steps": optimal_cutoff_time(scores, labels).double().mean().item() / steps,
        "fitting set: accuracy": anytime_accuracy(fitting, learnt)[-1].item(),
        "fitting set, cut off: accuracy": reached(strict, fitting, learnt).accuracy,
        "fitting set, cut off: share of the steps": strict.double().mean().item() / steps,
        "stopped early and wrong on the fitting set": _share(wrong & (strict < steps)),
        "smallest cost of a layer": least,
        "distance from 1 of constant activity's cost": constant,
    }
    line = sorted(latency_accuracy_curve(policies, scores, labels))
    curves = {"cutoff": line, "fixed": fixed_curve(scores, labels), "oracle": oracle_curve(scores, labels)}
    return Found(metrics, curves)


def _summary(name: str, exits: Exit, labels: Tensor, steps: int) -> dict[str, float]:
    return {
        f"{name}: accuracy": _share(exits.scores.argmax(1) == labels),
        f"{name}: share of the steps": exits.steps.double().mean().item() / steps,
    }


def _costs(judged: Judged) -> tuple[float, float]:
    """The regulariser's smallest cost on a batch of the test, and how far from 1 it is when the last step lasts."""
    regulariser = RCSRegulariser(judged.model)
    with torch.no_grad():
        _, _, recorded = run(judged.model.eval(), next(inputs(judged.test)), record=regulariser.records)
        costs = regulariser.costs(recorded)
        lasting = regulariser.costs({name: value[-1:].expand_as(value) for name, value in recorded.items()})
    return costs.min().item(), (lasting - 1).abs().max().item()


def _share(true: Tensor) -> float:
    return true.double().mean().item()
