"""Executes ahead, several notebooks at a time and into its cache, what the site's builder would take one by one.

Run from the repository's root. A notebook that fails is not cached: the builder meets it again, and says what is wrong.
"""

import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import yaml
from build import BUILD, ROOT
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from sphinx_external_toc.parsing import parse_toc_yaml

MARKDOWN = {"name": "myst_nb_md", "type": "plugin"}  # how the builder has jupyter-cache read a page
WORKERS = min(4, os.cpu_count() or 1)


def pages() -> list[Path]:
    """What the table of contents lists and has cells."""
    found = [ROOT / f"{name}.md" for name in parse_toc_yaml(ROOT / "_toc.yml")]
    return [page for page in found if page.is_file() and "{code-cell}" in page.read_text(encoding="utf-8")]


def execute(page: Path, notebook, timeout: int):
    print(f"    running {page.relative_to(ROOT).with_suffix('')} ...", flush=True)
    return single_nb_execution(notebook, cwd=str(page.parent), timeout=timeout, allow_errors=False)


def main() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8")).get("execute", {})
    if config.get("execute_notebooks") != "cache":
        return
    cache, waiting = get_cache(BUILD / ".jupyter_cache"), {}
    with ThreadPoolExecutor(WORKERS) as pool:
        for page in pages():
            record = cache.add_nb_to_project(str(page), read_data=MARKDOWN)
            if cache.get_cached_project_nb(record.uri) is None:
                notebook = cache.get_project_notebook(record.pk).nb
                waiting[pool.submit(execute, page, notebook, config.get("timeout", 30))] = page, notebook
        for done in as_completed(waiting):
            (page, notebook), result = waiting[done], done.result()
            if result.err is None:
                bundle = CacheBundleIn(notebook, str(page), data={"execution_seconds": result.time})
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
                print(f"      {page.relative_to(ROOT).with_suffix('')} done in {result.time:.0f} s", flush=True)


if __name__ == "__main__":
    main()
