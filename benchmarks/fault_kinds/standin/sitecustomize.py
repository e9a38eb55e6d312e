"""Python loads this module in every process whose path has this folder: workers then train with `standin_training`.

Of the product only `dpo_tui.train.__main__._train` is replaced, and only where FAULTS_WORKER names the options of the
stand-in. Everything else is the product's: the worker's signals, journal, checkpoints, exit codes and failures.
"""

import importlib.machinery
import os
import sys
from types import CodeType

_WORKER = "dpo_tui.train.__main__"
_END = 'if __name__ == "__main__":'
_REPLACEMENT = "from standin_training import train as _train\n\n"


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        # Not the cached code, which is the product's own.
        source = self.get_data(self.path).decode("utf-8")
        if source.count(_END) != 1:
            raise ImportError(f"{self.path} has another form than the stand-in expects")
        return compile(source.replace(_END, _REPLACEMENT + _END), self.path, "exec", dont_inherit=True)


class _Finder:
    @staticmethod
    def find_spec(
        name: str, path: list[str] | None = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _WORKER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(name, spec.origin)
        return spec


if os.environ.get("FAULTS_WORKER"):
    sys.meta_path.insert(0, _Finder())
