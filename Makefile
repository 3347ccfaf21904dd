# make reproduce   the environment, then the whole workflow        make reproduce ARGS="--dry-run"
# make demo        the environment, then one circuit of a language model, on the screen
# make test        the environment, then the tests                 make test ARGS="-k graph"
# make gpu-report  what acdc does on this machine's GPU, in gpu_report.md, to paste into an issue
# make docs-images the figures and screenshots of the docs, from a finished run of the default study
# make api         the reference of the package, from its docstrings, in docs/api
# make env         the environment alone (.venv), made again whenever requirements.txt changes
#
# PYTHON=/path/to/python   the Python (3.11 or newer) to make .venv from; without it the first that runs is taken.
#                          From 3.14 on a C compiler is needed too: immutables, which Snakemake needs, has no wheel.
# TORCH_INDEX=<index>      Linux gets the CUDA build of torch (gigabytes). For the CPU build give the index that
#                          PyTorch's install page ("Start locally": Linux, Pip, CPU) prints after --index-url.
#                          It counts when .venv is made: remove .venv to switch.

VENV := .venv
# A copy of requirements.txt, written last: an interrupted installation leaves none and is done again.
INSTALLED := $(VENV)/requirements.txt
# Snakemake and pytest are run through the environment's `python`, for their commands in .venv/bin name the directory
# that they were installed in and fail once the checkout has moved.
IN_VENV := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

DEMO := smollm2-135m-q4/ioi

.PHONY: reproduce demo test env gpu-report docs-images api

reproduce: $(INSTALLED)
	@$(IN_VENV) python workflow/scripts/unlock.py
	$(IN_VENV) python -P -m snakemake --cores all $(ARGS)

demo: $(INSTALLED)
	@echo "A model of 135 million parameters is downloaded (93 MB), ACDC searches its 71,101 edges at two thresholds."
	@$(IN_VENV) python workflow/scripts/unlock.py
	@$(IN_VENV) python -P -m snakemake --cores all --configfile workflow/config/demo.yaml \
	    -- figures/demo/$(DEMO)/circuit_logit_difference_corrupted_acdc.html results/demo/evaluation.csv
	@$(IN_VENV) python -m acdc show results/demo/$(DEMO)/logit_difference/corrupted/acdc/0.3/circuit.json --most 12
	@printf '%s\n' "" "These edges matter most to SmolLM2-135M for preferring \"Mary\" to \"John\" in prompts such as" \
	    "\"When Mary and John went to the store, John gave a drink to\"." \
	    "Look around in it:         figures/demo/$(DEMO)/circuit_logit_difference_corrupted_acdc.html (open it in a browser)" \
	    "What it keeps, held out:   results/demo/evaluation.csv" \
	    "How to read it:            docs/guide.md" \
	    "The whole study:           make reproduce" \
	    "A task of your own:        README.md, \"Your own task\""

test: $(INSTALLED)
	$(IN_VENV) python -m pytest $(ARGS)

env: $(INSTALLED)

gpu-report: $(INSTALLED)
	$(IN_VENV) python -m benchmarks.gpu_report $(ARGS)

docs-images: $(INSTALLED)
	$(IN_VENV) python -m docs.screenshots $(ARGS)

api: $(INSTALLED)
	$(IN_VENV) python -m docs.reference

# A candidate is tried by running it: a pyenv shim can be on PATH and fail, Debian's python3 can lack ensurepip.
$(INSTALLED): requirements.txt
	@if cmp -s requirements.txt $(INSTALLED) 2>/dev/null; then exec touch $(INSTALLED); fi; \
	set -e; set -- "$(PYTHON)"; \
	if [ -z "$$1" ]; then set -- python3.13 python3.12 python3.11 python3 python; fi; \
	found=; \
	for python do \
	    if "$$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        found=$$python; break; \
	    fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "No working Python 3.11 or newer with its venv module was found (tried $$*):" \
	        "install one (Debian and Ubuntu: also python3-venv) or name one with 'make PYTHON=/path/to/python'." >&2; \
	    exit 1; \
	fi; \
	start=$$(date +%s); \
	pin() { sed -n "s/^\($$1==[^ ]*\).*/\1/p" requirements.txt; }; \
	install() { $(VENV)/bin/python -m pip install --disable-pip-version-check "$$@"; }; \
	echo "Making $(VENV) from $$("$$found" --version); to download: 0.4 GB, or gigabytes with the CUDA build of torch."; \
	"$$found" -m venv --clear $(VENV); \
	install --quiet "$$(pin pip)"; \
	if [ -n "$(TORCH_INDEX)" ]; then install --index-url "$(TORCH_INDEX)" "$$(pin torch)"; fi; \
	install --requirement requirements.txt; \
	cp requirements.txt $(INSTALLED); \
	echo "$(VENV) took $$(($$(date +%s) - start)) s to make and holds $$(du -sh $(VENV) | cut -f 1)."
