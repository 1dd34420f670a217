"""Pictures of pages to look at, light, dark and on a phone: `python tests/screenshots.py OUT [PAGE ...]`."""

import sys
from pathlib import Path

from playwright.sync_api import sync_playwright
from site_checks import DESKTOP, PHONE, launch, visit
from test_site import SITE, pages

LOOKS = {
    "light": ("light", DESKTOP),
    "dark": ("dark", DESKTOP),
    "phone": ("light", PHONE),
    "phone-dark": ("dark", PHONE),
}


def main(out: str, *wanted: str) -> None:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        for name in wanted or pages():
            with visit(browser, (SITE / f"{name}.html").as_uri()) as seen:
                for look, (theme, viewport) in LOOKS.items():
                    path = folder / f"{name.replace('/', '-')}-{look}.png"
                    seen.look(theme, viewport).screenshot(path=path, full_page=True)
                    print(path, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
