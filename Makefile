# make book    build the book: environment, execution of every chapter, site          (seconds when nothing changed)
# make serve   the same, then serve it at http://localhost:8000
# make test    the same, then run every test
# make clean   remove the built book and the environment
#
# PYTHON=/path/to/python chooses the interpreter; otherwise book/environment.sh finds one.

.PHONY: book serve test clean build-book environment

VENV_PYTHON := .venv/bin/python
REASON := _build/.reason
PORT ?= 8000

book: build-book

serve: build-book
	@echo "Serving the book at http://localhost:$(PORT)/book/index.html (stop with Ctrl-C)"
	@$(VENV_PYTHON) -m http.server --directory _build/html $(PORT)

# Two workers, one thread each: no test waits for another's threads.
test: build-book
	@echo "==> Running the tests"
	@OMP_NUM_THREADS=1 $(VENV_PYTHON) -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

clean:
	rm -rf _build .venv

# A recipe that fails ends in make's own line. Here the step leaves its reason in a file, so that the reason is the last line.
environment:
	@mkdir -p _build && rm -f $(REASON)
	@sh book/environment.sh || test -s $(REASON) || echo "the environment could not be made, see above" > $(REASON)

build-book: attempt-book
	$(if $(shell cat $(REASON) 2>/dev/null),$(error $(shell cat $(REASON))))

.PHONY: attempt-book
attempt-book: environment
	@test -s $(REASON) || $(VENV_PYTHON) book/build.py || test -s $(REASON) \
		|| echo "book/build.py stopped without a reason, see above" > $(REASON)
