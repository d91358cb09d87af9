from importlib import metadata

project = "sapool"
author = "the sapool authors"
release = metadata.version("sapool")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns: list[str] = []

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Pages link to files of the repository, which a site hasn't: tests/test_docs.py looks those up.
suppress_warnings = ["myst.xref_missing"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True

html_theme = "furo"
html_title = f"sapool {release}"
copybutton_prompt_text = "$ "
