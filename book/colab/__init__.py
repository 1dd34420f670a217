"""From a chapter's page to the notebook that Colab opens: what `book/export.py` is made of."""
