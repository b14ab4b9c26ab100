"""Early exit: a network runs no longer than its answer needs, by a policy chosen on samples kept for that."""

from ranvier.deploy.early_exit.calibrate import Calibration, calibrate, fit_temperature
from ranvier.deploy.early_exit.curves import (
    Point,
    anytime_accuracy,
    expected_calibration_error,
    fixed_curve,
    latency_accuracy_curve,
    optimal_cutoff_time,
    oracle_curve,
    oracle_exit,
    pareto,
    reached,
)
from ranvier.deploy.early_exit.dynamic_confidence import DynamicConfidence
from ranvier.deploy.early_exit.early_exit import EarlyExit, Exit
from ranvier.deploy.early_exit.entropy_exit import EntropyExit
from ranvier.deploy.early_exit.policy import ExitPolicy
from ranvier.deploy.early_exit.record import accumulated, record
from ranvier.deploy.early_exit.top_k_gap import TopKGap
