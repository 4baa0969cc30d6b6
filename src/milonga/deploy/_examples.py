"""Where the example systems are: beside a checkout's sources, inside the package of a wheel."""

from pathlib import Path

import milonga
from milonga.errors import DeploymentError

__all__ = ["examples_folder"]


def examples_folder() -> Path:
    """Find the folder of the example systems.

    Raises
    ------
    DeploymentError
        If this installation has none.
    """
    package = Path(milonga.__file__).parent
    # a checkout comes first: an editable install may have left a copy from its first day
    places = (package.parent.parent / "examples", package / "examples")
    for place in places:
        if (place / "mid-csp" / "topology.yaml").is_file():
            return place
    looked = " and ".join(map(str, places))
    raise DeploymentError(f"the example systems are not installed; looked in {looked}")
