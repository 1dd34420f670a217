"""Figures and explorables of the book. Needs the extra `viz`; the core never imports it."""
