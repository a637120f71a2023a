"""What a class-parallel training takes, by formula: memory by part, messages a step. Imports no torch."""

from .plan import DTYPES, Plan, Setup, plan

__all__ = ["DTYPES", "Plan", "Setup", "plan"]
