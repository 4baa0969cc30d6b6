"""What an analysis gets of the environment, and what of that is written down (LD-05).

The two are kept apart: whoever may read a record must not learn from it what the process of an
analysis may know. What is written down is a list of names, not of beginnings of names, as
``SLURM_JWT`` and ``MILONGA_WEBHOOK_SECRET`` begin like others.
"""

from collections.abc import Iterable, Mapping

__all__ = [
    "NOT_RECORDED",
    "RECORDED_NAMES",
    "process_environment",
    "recorded_environment",
    "select_environment",
]

RECORDED_NAMES = frozenset(
    (
        *("LANG", "LC_ALL", "OMP_NUM_THREADS", "TZ"),
        *("LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "VIRTUAL_ENV"),
        "TANGO_HOST",
        *("LUTE_CONFIGPATH", "LUTE_PATH", "LUTE_PORT", "LUTE_SOCKET", "LUTE_USE_TCP"),
        *("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CLUSTER_NAME"),
        *("SLURM_CPUS_ON_NODE", "SLURM_CPUS_PER_TASK", "SLURM_GPUS_ON_NODE"),
        *("SLURM_JOB_ID", "SLURM_JOB_NAME", "SLURM_JOB_NODELIST", "SLURM_JOB_NUM_NODES"),
        *("SLURM_JOB_PARTITION", "SLURM_LOCALID", "SLURM_MEM_PER_NODE", "SLURM_NODEID"),
        *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_ID", "SLURM_SUBMIT_DIR"),
    )
)
"""Variables whose values are written down: they tell where and how an analysis ran."""

NOT_RECORDED = "(not recorded)"
"""What is written down in place of the value of any other variable."""

_NEEDED = RECORDED_NAMES | {"HOME", "TMPDIR", "USER"}
_NEEDED_PREFIXES = ("LUTE_", "SLURM_")
_TOKENS = frozenset({"SLURM_JWT"})


def process_environment(
    environment: Mapping[str, str], named: Iterable[str] = ()
) -> dict[str, str]:
    """Return the variables that the process of an analysis gets, in order.

    Parameters
    ----------
    environment : mapping
        That of this process.
    named : iterable of str, optional
        Names of variables that it gets beside the usual ones.
    """
    wanted = _NEEDED | frozenset(named)
    return {
        name: environment[name]
        for name in sorted(environment)
        if name in wanted or (name.startswith(_NEEDED_PREFIXES) and name not in _TOKENS)
    }


def select_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables whose values may be written down, in order."""
    return {name: environment[name] for name in sorted(environment) if name in RECORDED_NAMES}


def recorded_environment(
    environment: Mapping[str, str], named: Iterable[str] | None = None
) -> dict[str, str]:
    """Return what is written down of an environment: some values, and names of others.

    Parameters
    ----------
    environment : mapping
        The variables.
    named : iterable of str, optional
        Of which others the names are written down; default: of all.

    Examples
    --------
    >>> recorded_environment({"LANG": "C", "TOKEN": "x", "HOME": "/root"}, ["TOKEN"])
    {'LANG': 'C', 'TOKEN': '(not recorded)'}
    """
    shown = environment if named is None else RECORDED_NAMES | frozenset(named)
    return {
        name: environment[name] if name in RECORDED_NAMES else NOT_RECORDED
        for name in sorted(environment)
        if name in shown
    }
