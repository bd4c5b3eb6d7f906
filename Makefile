# Everything that is done here, one line each. `make help` lists it.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

CONFIG ?= configs/mtcnn.yaml
RUN ?= runs/$(basename $(notdir $(CONFIG)))
SET ?=
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)
FORCE ?=
PYTHON ?= python3

VENV := .venv
READY := $(VENV)/ready
EXTRAS := train,dev,demo,report
PY := $(VENV)/bin/python
STAGE = --config $(CONFIG) --run $(RUN) $(if $(SET),--set $(SET)) $(if $(FORCE),--force)
CONSUMERS := .consumers/mtcnn-0.1.1 .consumers/mtcnn-1.0.0 .consumers/mtcnn-0.0.9
TORCH_CONSUMER := .consumers/facenet-pytorch-2.6.0
ASIDE = $(PY) -m pip install --quiet --disable-pip-version-check --target
# DATA= a data folder, or LABELS= a labels file (IMAGES= its folder, LABELS_FORMAT= if not recognised);
# MTCNN= a folder with the real package, to run that in place of our detector.
JUDGED = $(if $(WEIGHTS),--weights $(WEIGHTS)) $(if $(DATA),--data $(DATA)) $(if $(LABELS),--labels $(LABELS)) $(if $(IMAGES),--images $(IMAGES)) $(if $(LABELS_FORMAT),--labels-format $(LABELS_FORMAT)) $(if $(MTCNN),--mtcnn $(MTCNN))

NETS := pnet rnet onet
ROUNDS ?= 2
# Settings that start every net from weights, with P-Net's own mistakes among its records, and
# take over those that NETS leaves out.
FROM = $(foreach net,pnet rnet onet,$(net).train.init=$(1)) pnet.records.mined_by=$(1) \
	pnet.records.proposal_thresholds=[0.5] \
	$(foreach net,$(filter-out $(NETS),pnet rnet onet),$(net).train.steps=0)

STAGES := pnet-data train-pnet rnet-data train-rnet onet-data train-onet export-weights
.PHONY: help setup wider sample demo train finetune rounds evaluate sweep consumers consumer-torch detect inspect test test-fast lint constraints bench clean $(STAGES)

help:  ## list what can be made
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([^:]+):.*## /\1\t/' | expand -t 18
	@echo 'Variables: CONFIG=configs/mtcnn.yaml RUN=runs/mtcnn SET="key.path=value ..." FORCE=1 WORKERS=2'

setup: $(READY)  ## make the virtual environment (every target does so when it is missing)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]' $(if $(CI),-c constraints.txt)
	touch $@

wider: $(READY)  ## download WIDER FACE (research only) into data/; URL= names another copy
	$(PY) -m data_prep wider $(if $(URL),--url $(URL))

pnet-data: $(READY)  ## cut P-Net's records from the pictures
	$(PY) -m data_prep pnet $(STAGE) --workers $(WORKERS)

rnet-data: $(READY)  ## cut R-Net's records: what P-Net proposes
	$(PY) -m data_prep rnet $(STAGE) --workers $(WORKERS)

onet-data: $(READY)  ## cut O-Net's records: what P-Net and R-Net propose
	$(PY) -m data_prep onet $(STAGE) --workers $(WORKERS)

train-pnet: $(READY)  ## train P-Net, then measure its recall on held-out pictures
	$(PY) -m train pnet $(STAGE)
	$(PY) -m evaluation recall pnet $(STAGE)

train-rnet: $(READY)  ## train R-Net, then measure the recall so far
	$(PY) -m train rnet $(STAGE)
	$(PY) -m evaluation recall rnet $(STAGE)

train-onet: $(READY)  ## train O-Net, then measure the recall of the whole cascade
	$(PY) -m train onet $(STAGE)
	$(PY) -m evaluation recall onet $(STAGE)

export-weights: $(READY)  ## merge the nets; FORMAT=ipazc and others; PNET= RNET= ONET= take other files
	$(PY) -m export $(STAGE) $(if $(PNET),--pnet $(PNET)) $(if $(RNET),--rnet $(RNET)) $(if $(ONET),--onet $(ONET)) $(if $(FORMAT),--format $(FORMAT)) $(if $(CALIBRATION),--calibration $(CALIBRATION))

detect: $(READY)  ## faces of PICTURES="files or folders", drawn into OUT= (runs/detect); WEIGHTS= other than ours
	$(PY) -m evaluation detect $(PICTURES) --weights $(or $(WEIGHTS),weights/mtcnn_weights.npy) --out $(or $(OUT),runs/detect)

inspect: $(READY)  ## tell what the weights file FILE= is, and whether our checks pass
	$(PY) -m export inspect $(FILE)

train: $(READY)  ## all stages in their order
	@for stage in $(STAGES); do $(MAKE) --no-print-directory $$stage || exit 1; done

finetune: $(READY)  ## train the nets in NETS="pnet ..." (all) from WEIGHTS=, take over the others
	@test -n "$(WEIGHTS)" || { echo 'error: WEIGHTS= names the weights to start from.' >&2; exit 1; }
	$(MAKE) --no-print-directory train CONFIG=$(if $(filter file,$(origin CONFIG)),configs/finetune.yaml,$(CONFIG)) \
		RUN=$(if $(filter file,$(origin RUN)),runs/finetune,$(RUN)) SET="$(call FROM,$(WEIGHTS)) $(SET)"

rounds: $(READY)  ## `train` ROUNDS=2 times, each from the nets before (the first from WEIGHTS=); keep the best
	@before="$(WEIGHTS)"; for round in $$(seq $(ROUNDS)); do \
		echo "round $$round of $(ROUNDS): $(RUN)/round-$$round"; \
		$(MAKE) --no-print-directory train RUN=$(RUN)/round-$$round \
			SET="$${before:+$(call FROM,$$before)} seed=$$round $(SET)" || exit 1; \
		before=$(RUN)/round-$$round; \
	done
	$(PY) -m evaluation rounds $(STAGE)

evaluate: $(READY)  ## report on WEIGHTS= (the run's) beside AGAINST= (mtcnn's, or none); DATA= own labels
	$(PY) -m evaluation score $(STAGE) $(JUDGED) $(if $(AGAINST),--against $(AGAINST))

sweep: $(READY)  ## what each setting of the detector does, on COUNT= (60) images
	$(PY) -m evaluation sweep $(STAGE) $(JUDGED) $(if $(COUNT),--count $(COUNT))

demo: $(READY)  ## the whole road in minutes on composed sample scenes
	$(PY) -m data_prep sample --folder data/sample
	$(MAKE) --no-print-directory train evaluate CONFIG=configs/demo.yaml RUN=$(if $(filter file,$(origin RUN)),runs/demo,$(RUN)) AGAINST=$(or $(AGAINST),weights/mtcnn_weights.npy)
	@echo 'Our own weights on a picture of yours: make detect PICTURES=picture.jpg'

consumers: $(CONSUMERS:%=%/ready)  ## install the packages that our weights are for, aside, for the tests

.consumers/mtcnn-%/ready: $(READY)
	$(ASIDE) $(@D) --no-deps mtcnn==$*
	touch $@

.consumers/mtcnn-0.0.9/ready: $(READY)  # its set-up is of the days of an older setuptools
	mkdir -p $(@D) && echo 'setuptools<60' > $(@D)/constraints.txt
	PIP_CONSTRAINT=$(@D)/constraints.txt $(ASIDE) $(@D) --no-deps --use-pep517 mtcnn==0.0.9 \
		|| echo 'mtcnn 0.0.9 cannot be installed here; its tests are skipped.'
	touch $@

consumer-torch: $(TORCH_CONSUMER)/ready  ## the same for facenet-pytorch, with torch (1 GB)

$(TORCH_CONSUMER)/ready: $(READY)
	$(ASIDE) $(@D) torch==2.13.0 pillow
	$(ASIDE) $(@D) --no-deps facenet-pytorch==2.6.0
	touch $@

test: $(READY) consumers  ## run the tests, minutes
	$(PY) -m pytest $(if $(CI),--cov)

test-fast: $(READY)  ## run the quick tests, below 90 seconds
	$(PY) -m pytest -m 'not slow'

lint: $(READY)  ## ruff and mypy
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

bench: $(READY) consumers  ## paired timings on the data in DATA= (data); minutes
	$(PY) -m benchmarks.data_prep $(if $(DATA),--folder $(DATA))
	$(PY) -m benchmarks.train
	$(PY) -m benchmarks.detect $(if $(DATA),--pictures $(DATA)/wider/WIDER_val/images)

constraints: pyproject.toml  ## write the versions that CI installs, from a new environment
	$(PYTHON) -m venv --clear build/constraints
	build/constraints/bin/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	build/constraints/bin/python -m pip freeze --exclude-editable > constraints.txt

clean:  ## remove the virtual environment and caches; runs/ and data/ stay
	rm -rf $(VENV) .consumers .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
