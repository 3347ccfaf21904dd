"""acdc: datasets -> circuits -> evaluation and recovery -> figures. `snakemake --cores all` makes everything."""

from snakemake.utils import min_version

min_version("9.27")


configfile: "workflow/config/default.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/datasets.smk"
include: "workflow/rules/discovery.smk"
include: "workflow/rules/recovery.smk"
include: "workflow/rules/figures.smk"


for path in STUDY.task_rules():

    include: path


rule all:
    default_target: True
    input:
        STUDY.targets(),
