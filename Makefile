# make demo   sets up, builds, and runs experiments/demo.toml: table, ROC and report under results/demo
# make test   sets up, then vet and every test
# make bench  prints goal, figure and verdict of each benchmark; fails on a miss
# make env    prints the exports: eval "$(make -s env)" makes go build, go test and an editor work

TF := $(or $(LIBTENSORFLOW),$(CURDIR)/.thorax/tensorflow)
TF_LIB := $(if $(wildcard $(TF)/lib),$(TF)/lib,$(TF))
export CGO_CFLAGS := -O2 -I$(TF)/include
export CGO_LDFLAGS := -L$(TF_LIB) -ltensorflow_framework -Wl,-rpath,$(TF_LIB)

.PHONY: setup build demo test bench env
build: setup
	go build -o bin/thorax .

setup:
	@framework/setup/fetch.sh

demo: build
	bin/thorax run experiments/demo.toml

test: setup
	go vet ./...
	go test -timeout 20m ./...

bench: build
	bin/thorax bench

env:
	@echo 'export CGO_CFLAGS="$(CGO_CFLAGS)"'
	@echo 'export CGO_LDFLAGS="$(CGO_LDFLAGS)"'
