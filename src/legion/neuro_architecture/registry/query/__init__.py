"""The registry's query language: `accuracy > 0.82 and latency_ms < 12 and tag:production`."""

from legion.neuro_architecture.registry.query.parser import parse_query
from legion.neuro_architecture.registry.query.terms import (
    And,
    Everything,
    Field,
    FieldIs,
    Latest,
    MetricIs,
    Not,
    Operator,
    Or,
    Query,
    RevisionIs,
    Term,
)
from legion.neuro_architecture.registry.query.words import refuse_unknown_metrics

__all__ = [
    "And",
    "Everything",
    "Field",
    "FieldIs",
    "Latest",
    "MetricIs",
    "Not",
    "Operator",
    "Or",
    "Query",
    "RevisionIs",
    "Term",
    "parse_query",
    "refuse_unknown_metrics",
]
