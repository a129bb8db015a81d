"""The names of TFDS's own data sets, read from its installed code: no network, no TensorFlow.

``tfds.list_builders`` asks the register of community data sets in the cloud, through TensorFlow. What that is made
of, the import of all builders, stops without TensorFlow at the first that needs it, and knows 245 of 445 names.
"""

import importlib.util
import re
from pathlib import Path

_CLASS = re.compile(r"^class (\w+)\(\s*([\w.]+)", re.MULTILINE)
_LAZY = re.compile(r"LazyBuilderImport\(\s*['\"](\w+)")
_NO_BUILDERS = {"core", "testing", "scripts", "datasets", "dataset_collections"}


def stock_names() -> set[str]:
    """Returns the names of all data sets in the installed package tensorflow-datasets."""
    from tensorflow_datasets.core.naming import camelcase_to_snakecase

    spec = importlib.util.find_spec("tensorflow_datasets")
    if spec is None or spec.origin is None:
        return set()
    root = Path(spec.origin).parent
    names = {path.parent.name for path in root.glob("datasets/*/*_dataset_builder.py")}
    bases: dict[str, str] = {}
    for path in root.rglob("*.py"):
        if path.relative_to(root).parts[0] not in _NO_BUILDERS and not path.name.endswith("_test.py"):
            text = path.read_text(encoding="utf-8")
            names.update(_LAZY.findall(text))
            bases.update((name, base.rsplit(".", 1)[-1]) for name, base in _CLASS.findall(text))
    return names | {camelcase_to_snakecase(name) for name in bases if _is_builder(name, bases)}


def _is_builder(name: str, bases: dict[str, str]) -> bool:
    """Tells whether a class is a data set: it descends from a builder, and is none for others to descend from."""
    if name.endswith("Builder") or name not in bases:
        return False
    seen: set[str] = set()
    while name in bases and name not in seen:
        seen.add(name)
        name = bases[name]
    return name.endswith("Builder")
