"""Builds the documentation: `make docs`. Needs no network."""

import os
import re
import sys
import tempfile
from pathlib import Path

# Reading the docstrings imports Airflow, which must neither read nor make the reader's own AIRFLOW_HOME.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-bifrost-docs-")

sys.path.insert(0, str(Path(__file__).parent))

import architecture_diagram
from pydantic import BaseModel
from sphinx.errors import ConfigError
from sphinx.util.typing import stringify_annotation

from airflow_bifrost import __version__

project = "airflow-provider-bifrost"
author = "The airflow-provider-bifrost authors"
copyright = "the airflow-provider-bifrost authors. Apache License 2.0"  # noqa: A001 - Sphinx calls it so
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "images"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"airflow-provider-bifrost {__version__}"
html_show_sphinx = False


def short_signature(app, what, name, obj, options, signature, return_annotation):
    """Pydantic's signatures fill a page, and errors inherit one that is shown already: both are left out."""
    is_model = isinstance(obj, type) and issubclass(obj, BaseModel)
    inherits = what == "exception" and "__init__" not in vars(obj)
    return ("", None) if signature and (is_model or inherits) else None


def list_fields(app, what, name, obj, options, lines):
    """The fields of a pydantic model, with their types as a reader needs them."""
    if isinstance(obj, type) and issubclass(obj, BaseModel) and obj.model_fields:
        lines += ["", ".. hlist::", "   :columns: 2", ""]
        for field_name, field in obj.model_fields.items():
            kind = re.sub(r"[\w.]+\.(?=\w)", "", stringify_annotation(field.annotation))
            lines.append(f"   * ``{field_name}``: {kind}")
        lines.append("")


def setup(app):
    if not architecture_diagram.is_current():
        raise ConfigError("The imports have changed. Run: python docs/architecture_diagram.py")
    app.connect("autodoc-process-signature", short_signature)
    app.connect("autodoc-process-docstring", list_fields)
