"""``python -I main.py FD``: loads this folder as a package of another name, so that ``worker`` stays the user's."""

import importlib
import importlib.util
import sys
from pathlib import Path

_NAME = "roost_isolate"


def main() -> None:
    """Be an isolate; FD is its end of a socket to roost."""
    here = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(_NAME, here / "__init__.py", submodule_search_locations=[str(here)])
    assert spec is not None
    sys.modules[_NAME] = importlib.util.module_from_spec(spec)
    importlib.import_module(f"{_NAME}.bootstrap").run(int(sys.argv[1]))


if __name__ == "__main__":
    main()
