"""Descriptions of plans for clients: what a plan takes, as data and as JSON schema.

`create_plan_spec` looks at a plan, `validate_arguments` checks what a client gave for it,
`resolve_arguments` and `collect_arguments` make that into the arguments of the call.
"""

from milonga.engine._spec import ParamDescription, ParamKind, PlanSpec, create_plan_spec
from milonga.engine._spec_schema import argument_model, json_schema, validate_arguments
from milonga.engine._spec_values import collect_arguments, resolve_arguments
from milonga.errors import UnresolvableAnnotationError

__all__ = [
    "ParamDescription",
    "ParamKind",
    "PlanSpec",
    "UnresolvableAnnotationError",
    "argument_model",
    "collect_arguments",
    "create_plan_spec",
    "json_schema",
    "resolve_arguments",
    "validate_arguments",
]
