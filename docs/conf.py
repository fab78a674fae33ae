"""Builds the documentation: `make docs`. Needs no network."""

import os
import tempfile

# Reading the docstrings imports Airflow, which must neither read nor make the reader's own AIRFLOW_HOME.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-bifrost-docs-")

from airflow_bifrost import __version__  # noqa: E402

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
