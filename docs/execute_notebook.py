"""Runs the cells of docs/phase8-tune.ipynb anew and keeps what comes out of them.

    .venv/bin/pip install -c constraints.txt -e '.[docs]'
    .venv/bin/python -m phase8_tune.docs.execute_notebook

It plans, and so needs no GPU; the first time takes minutes. An empty folder is the present one meanwhile.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).with_name("phase8-tune.ipynb")
_TIMEOUT_S = 3600


def execute(path: Path) -> None:
    """Run all cells and write the notebook with their outputs.

    Raises: nbclient.exceptions.CellExecutionError where a cell fails; the notebook stays as it was.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=_TIMEOUT_S,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            record_timing=False,
        )
        client.execute()
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    nbformat.write(notebook, path)


if __name__ == "__main__":
    execute(NOTEBOOK)
